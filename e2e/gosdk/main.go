// Command gosdk is a program as people write it with the AWS SDK for Go,
// configured by the environment alone. It prints what it saw as JSON; with the
// argument "caller" it asks STS who it is, and no more.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type observation struct {
	Account string
	Body    string
	Sizes   map[string]int64
	Tables  []string
	Message string
}

func run(ctx context.Context) error {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	seen := observation{Sizes: map[string]int64{}}
	caller, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, nil)
	if err != nil {
		return err
	}
	if len(os.Args) > 1 && os.Args[1] == "caller" {
		_, err := fmt.Println(aws.ToString(caller.Arn))
		return err
	}
	seen.Account = aws.ToString(caller.Account)
	if err := objects(ctx, s3.NewFromConfig(cfg), &seen); err != nil {
		return err
	}
	tables, err := dynamodb.NewFromConfig(cfg).ListTables(ctx, nil)
	if err != nil {
		return err
	}
	seen.Tables = tables.TableNames
	if err := messages(ctx, sqs.NewFromConfig(cfg), &seen); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(seen)
}

func objects(ctx context.Context, client *s3.Client, seen *observation) error {
	bucket := aws.String("countersign-gosdk")
	if _, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}); err != nil {
		return err
	}
	bodies := map[string]string{
		"a b+c/é&=~%20": "hello",
		"dbl//slash":    "",
		"large":         strings.Repeat("countersign ", 100_000),
	}
	for key, body := range bodies {
		_, err := client.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: strings.NewReader(body)})
		if err != nil {
			return err
		}
	}
	answer, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("large"), Range: aws.String("bytes=12-22")})
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	seen.Body = string(body)
	list, err := client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: bucket})
	if err != nil {
		return err
	}
	for _, object := range list.Contents {
		seen.Sizes[*object.Key] = *object.Size
		if _, err := client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: object.Key}); err != nil {
			return err
		}
	}
	_, err = client.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: bucket})
	return err
}

func messages(ctx context.Context, client *sqs.Client, seen *observation) error {
	queue, err := client.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String("countersign-gosdk")})
	if err != nil {
		return err
	}
	if _, err := client.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: queue.QueueUrl, MessageBody: aws.String("one & two")}); err != nil {
		return err
	}
	received, err := client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: queue.QueueUrl})
	if err != nil {
		return err
	}
	for _, message := range received.Messages {
		seen.Message = aws.ToString(message.Body)
	}
	_, err = client.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: queue.QueueUrl})
	return err
}
