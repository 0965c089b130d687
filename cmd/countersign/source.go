package main

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// noSource stands for source credentials where none are to be used.
type noSource struct{}

func (noSource) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{}, errors.New("no source credentials")
}
