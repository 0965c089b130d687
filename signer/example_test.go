package signer_test

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/countersign-proxy/countersign/signer"
)

// A request signed with credentials of the proxy's own making is verified, and
// signed again with those of a role.
func Example() {
	now := func() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC) }
	keys := new(signer.Keys)

	// What a client sends.
	client := aws.Credentials{AccessKeyID: "CSIGEXAMPLE", SecretAccessKey: "client secret"}
	in, _ := http.NewRequest("GET", "https://bucket.s3.us-east-1.amazonaws.com/key", nil)
	if err := signer.Sign(in, client, signer.SignOptions{Service: "s3", Region: "us-east-1", Now: now}); err != nil {
		panic(err)
	}

	// What a proxy does with it.
	sig, err := signer.Parse(in)
	if err != nil {
		panic(err)
	}
	fmt.Println(sig.Label(), sig.AccessKeyID, sig.Service, sig.Region)
	secret := signer.Secret{AccessKeyID: client.AccessKeyID, SecretAccessKey: client.SecretAccessKey}
	v, err := signer.Verify(in, sig, secret, signer.VerifyOptions{Now: now, Keys: keys})
	if err != nil {
		panic(err)
	}
	out := in.Clone(in.Context())
	role := aws.Credentials{AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: "real secret", SessionToken: "real token"}
	if err := signer.Resign(out, v, role, signer.ResignOptions{Now: now, Keys: keys}); err != nil {
		panic(err)
	}
	// … send out, and then:
	if err := v.BodyErr(); err != nil {
		panic(err)
	}
	auth, _, _ := strings.Cut(out.Header.Get("Authorization"), ", Signature=")
	fmt.Println(auth)
	// Output:
	// header CSIGEXAMPLE s3 us-east-1
	// AWS4-HMAC-SHA256 Credential=ASIAEXAMPLE/20260304/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token
}
