package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// probe is the program that the tests run behind countersign. What it does is
// its first argument.
func probe() {
	args := os.Args[1:]
	if len(args) == 0 {
		fail(errors.New("probe: what?"))
	}
	ctx := context.Background()
	switch what, args := args[0], args[1:]; what {
	case "env": // the value of each variable, or that it is not set
		for _, name := range args {
			if v, ok := os.LookupEnv(name); ok {
				fmt.Printf("%s=%s\n", name, v)
			} else {
				fmt.Printf("%s is not set\n", name)
			}
		}
	case "exit":
		code, err := strconv.Atoi(args[0])
		if err != nil {
			fail(err)
		}
		os.Exit(code)
	case "args":
		fmt.Printf("%q\n", args)
	case "trusts": // the issuers in a bundle, once for each variable that names one
		for _, name := range args {
			text, err := os.ReadFile(os.Getenv(name))
			if err != nil {
				fail(err)
			}
			for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
				c, err := x509.ParseCertificate(block.Bytes)
				if err != nil {
					fail(err)
				}
				fmt.Printf("%s: %s\n", name, c.Subject)
			}
		}
	case "signal": // says that it waits, in a file, then which signal came
		c := make(chan os.Signal, 1)
		signal.Notify(c)
		if err := os.WriteFile(args[0], []byte("waiting\n"), 0o600); err != nil {
			fail(err)
		}
		for s := range c {
			// The runtime's own: preemption, and a child's end.
			if name := s.String(); name != "urgent I/O condition" && name != "child exited" {
				fmt.Println("got", name)
				os.Exit(7)
			}
		}
	case "hang": // until it is killed
		if err := os.WriteFile(args[0], []byte("waiting\n"), 0o600); err != nil {
			fail(err)
		}
		select {}
	case "whoami":
		out, err := sts.NewFromConfig(sdkConfig(ctx)).GetCallerIdentity(ctx, nil)
		if err != nil {
			fail(err)
		}
		fmt.Println(*out.Arn)
	case "put":
		client := s3.NewFromConfig(sdkConfig(ctx))
		if _, err := client.PutObject(ctx, &s3.PutObjectInput{Bucket: &args[0], Key: &args[1], Body: strings.NewReader(args[2])}); err != nil {
			fail(err)
		}
	case "get":
		out, err := s3.NewFromConfig(sdkConfig(ctx)).GetObject(ctx, &s3.GetObjectInput{Bucket: &args[0], Key: &args[1]})
		if err != nil {
			fail(err)
		}
		defer out.Body.Close()
		if _, err := io.Copy(os.Stdout, out.Body); err != nil {
			fail(err)
		}
	case "mb":
		if _, err := s3.NewFromConfig(sdkConfig(ctx)).CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &args[0]}); err != nil {
			fail(err)
		}
	case "fetch": // a plain GET, by the proxy of the environment
		res, err := http.Get(args[0])
		if err != nil {
			fail(err)
		}
		defer res.Body.Close()
		fmt.Println(res.Status)
		_, _ = io.Copy(os.Stdout, res.Body)
	default:
		fail(fmt.Errorf("probe: %s?", what))
	}
}

// sdkConfig is that of a program which knows nothing of countersign.
func sdkConfig(ctx context.Context) aws.Config {
	c, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithRetryMaxAttempts(1))
	if err != nil {
		fail(err)
	}
	c.HTTPClient = whole{c.HTTPClient}
	return c
}

// whole reads an answer to its end before the SDK sees it. The SDK closes the
// request's body when it gets the answer, which net/http takes for a failure
// while it is still at the end of sending: with a server that is microseconds
// away, that would cut off one answer in a hundred.
type whole struct{ aws.HTTPClient }

func (w whole) Do(r *http.Request) (*http.Response, error) {
	res, err := w.HTTPClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}

func fail(err error) {
	if code := errorCode(err); code != "" {
		fmt.Fprintf(os.Stderr, "%s: %s\n", code, errorMessage(err))
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(1)
}
