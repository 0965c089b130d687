package main

import (
	"context"
	"errors"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// noSource stands for source credentials where none are to be used.
type noSource struct{}

func (noSource) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{}, errors.New("no source credentials")
}

// source finds credentials anew where those that it gave did not do. The SDK reads the
// files of ~/.aws once: keys that a login tool writes into them every hour would never
// be seen, nor a profile that was missing at the start. It belongs behind a cache, which
// asks when credentials have expired, and sooner only when they were refused.
type source struct {
	load func(context.Context) (aws.CredentialsProvider, error)

	mu       sync.Mutex
	provider aws.CredentialsProvider // nil: to be loaded
	last     *aws.Credentials        // that it gave; nil: none
}

// Retrieve implements aws.CredentialsProvider.
func (s *source) Retrieve(ctx context.Context) (aws.Credentials, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != nil && !s.last.Expired() {
		s.provider = nil
	}
	if s.provider == nil {
		var err error
		if s.provider, err = s.load(ctx); err != nil {
			return aws.Credentials{}, err
		}
	}
	creds, err := s.provider.Retrieve(ctx)
	if err != nil {
		s.provider, s.last = nil, nil
		if cause := errors.Unwrap(err); cause != nil { // the cache in front says the same again
			err = cause
		}
		return aws.Credentials{}, err
	}
	s.last = &creds
	return creds, nil
}
