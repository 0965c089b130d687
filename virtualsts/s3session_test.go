package virtualsts

import (
	"bytes"
	"encoding/xml"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/google/go-cmp/cmp"

	"github.com/countersign-proxy/countersign/awsapi"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/rolesession"
)

const directoryHost = "data--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com"

// createSession is a call as the pipeline has it.
func createSession(t testing.TB, host, method, target string) *awsapi.Call {
	t.Helper()
	h, verdict := awsapi.LookupHost(host)
	if verdict != awsapi.HostAPI {
		t.Fatalf("%s is not known", host)
	}
	u, err := url.Parse("https://" + host + target)
	if err != nil {
		t.Fatal(err)
	}
	return awsapi.Identify(awsapi.Input{Host: h, Region: "us-east-1", Body: []byte{}, AccountID: "123456789012",
		Request: &http.Request{Method: method, URL: u, RequestURI: target, Host: host, Header: http.Header{}}})
}

// s3Answer is what S3 answers to CreateSession.
func s3Answer(id, secret, token, expiration string) string {
	return `<?xml version="1.0" encoding="UTF-8"?>
<CreateSessionResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Credentials><SessionToken>` + token + `</SessionToken><SecretAccessKey>` +
		secret + `</SecretAccessKey><AccessKeyId>` + id + `</AccessKeyId><Expiration>` + expiration + `</Expiration></Credentials></CreateSessionResult>`
}

const expressID, expressSecret, expressToken = "ASIAEXPRESSSESSION01", "express/secret+0123456789abcdefghijklmnop", "express-token-0123456789=="

func TestOnlyCreateSessionOfADirectoryBucketIsRewritten(t *testing.T) {
	for _, tt := range []struct {
		host, method, target string
		want                 bool
	}{
		{directoryHost, "GET", "/?session", true},
		{directoryHost, "GET", "/?session=", true},
		{directoryHost, "GET", "/?session&x-id=CreateSession", true},
		{directoryHost, "GET", "/?list-type=2", false},
		{directoryHost, "GET", "/key?session", false},
		{directoryHost, "GET", "/?session&acl", false},
		{"s3express-use1-az4.us-east-1.amazonaws.com", "GET", "/data--use1-az4--x-s3?session", false},
		{"data.s3.us-east-1.amazonaws.com", "GET", "/?session", false},
		{"sts.us-east-1.amazonaws.com", "GET", "/?Action=GetSessionToken&Version=2011-06-15", false},
	} {
		call := createSession(t, tt.host, tt.method, tt.target)
		if got := HandlesS3Session(call); got != tt.want {
			t.Errorf("%s %s%s: %v, want %v (%s %q)", tt.method, tt.host, tt.target, got, tt.want, call.Operation, call.Unknown)
		}
		if strings.Contains(tt.target, "ession") && call.CredentialTier != "A" {
			t.Errorf("%s %s%s is of tier %q", tt.method, tt.host, tt.target, call.CredentialTier)
		}
	}
}

func TestS3SessionStaysHere(t *testing.T) {
	r := newReplica(t, newSetup(t))
	grant, _, err := r.store.Lookup("CSIGDEPLOYAAAAAAAAAA", "", time.Unix(0, r.now.Load()))
	if err != nil {
		t.Fatal(err)
	}
	signedWith := rolesession.Session{
		Credentials: aws.Credentials{AccessKeyID: "ASIAROLE", SecretAccessKey: "role-secret", SessionToken: "role-token"},
		RoleARN:     deployARN, SessionName: "ci", AccountID: "123456789012", ARN: "arn:aws:sts::123456789012:assumed-role/Deploy/ci",
	}
	expires := time.Unix(0, r.now.Load()).Add(5 * time.Minute).UTC()
	answer, err := r.S3Session(S3SessionRequest{
		Call: createSession(t, directoryHost, "GET", "/?session"), Grant: grant, Session: signedWith,
		Body: []byte(s3Answer(expressID, expressSecret, expressToken, expires.Format("2006-01-02T15:04:05.000Z"))),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, real := range []string{expressID, expressSecret, expressToken, "ASIAROLE", "role-secret", "role-token"} {
		if bytes.Contains(answer.Body, []byte(real)) {
			t.Errorf("the client received %.12s…", real)
		}
	}
	var got struct {
		XMLName     xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CreateSessionResult"`
		Credentials struct{ SessionToken, SecretAccessKey, AccessKeyId, Expiration string }
	}
	if err := xml.Unmarshal(answer.Body, &got); err != nil {
		t.Fatal(err)
	}
	if want := expires.Format(time.RFC3339); got.Credentials.Expiration != want || !answer.Expires.Equal(expires) {
		t.Errorf("expires %s, %s, want %s", got.Credentials.Expiration, answer.Expires, want)
	}
	client := aws.Credentials{AccessKeyID: got.Credentials.AccessKeyId, SecretAccessKey: got.Credentials.SecretAccessKey, SessionToken: got.Credentials.SessionToken}
	if client.AccessKeyID != answer.AccessKeyID {
		t.Errorf("%s in the answer, %s in the record", client.AccessKeyID, answer.AccessKeyID)
	}
	session, err := r.session(t, client)
	if err != nil {
		t.Fatal(err)
	}
	want := signedWith
	want.Credentials = aws.Credentials{AccessKeyID: expressID, SecretAccessKey: expressSecret, SessionToken: expressToken, Source: "countersign", CanExpire: true, Expires: expires}
	if diff := cmp.Diff(want, session); diff != "" {
		t.Errorf("the session behind the keys (-want +got):\n%s", diff)
	}
	made, _, err := r.store.Lookup(client.AccessKeyID, client.SessionToken, time.Unix(0, r.now.Load()))
	if err != nil {
		t.Fatal(err)
	}
	if bucket, err := S3Bucket(made); bucket != "data--use1-az4--x-s3" || err != nil {
		t.Errorf("confined to %q, %v", bucket, err)
	}
	if made.Role != "deploy" || made.Identity.Name != "ci" || cmp.Diff([]string{"CSIGDEPLOYAAAAAAAAAA"}, made.Parents) != "" {
		t.Errorf("%+v", made)
	}
	if bucket, err := S3Bucket(grant); bucket != "" || err != nil {
		t.Errorf("static credentials are confined to %q, %v", bucket, err)
	}
	issued := r.Issued()
	if len(issued) != 1 || issued[0].Operation != "CreateSession" || issued[0].AccessKeyID != client.AccessKeyID {
		t.Errorf("issued: %+v", issued)
	}

	// The keys lead nowhere else, least of all to a role of which the session is a
	// part.
	for name, err := range map[string]error{
		"AssumeRole": func() error {
			_, err := r.as(client).AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String(deployARN), RoleSessionName: aws.String("me")})
			return err
		}(),
		"GetSessionToken": func() error {
			_, err := r.as(client).GetSessionToken(t.Context(), &sts.GetSessionTokenInput{})
			return err
		}(),
	} {
		if codeOf(err) != "AccessDenied" {
			t.Errorf("%s: %v", name, err)
		}
	}

	r.now.Add(int64(5 * time.Minute))
	if _, err := r.session(t, client); err == nil {
		t.Error("the session is in use after its end")
	}
}

func TestS3SessionEndsWithTheCredentialsOfTheCall(t *testing.T) {
	r := newReplica(t, newSetup(t))
	now := time.Unix(0, r.now.Load())
	minted, err := r.store.Mint(identity.Grant{Identity: identity.Identity{Name: "ci"}, Role: "deploy", Expires: now.Add(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	grant, _, err := r.store.Lookup(minted.AccessKeyID, minted.SessionToken, now)
	if err != nil {
		t.Fatal(err)
	}
	a, err := r.S3Session(S3SessionRequest{Call: createSession(t, directoryHost, "GET", "/?session"), Grant: grant,
		Body: []byte(s3Answer(expressID, expressSecret, expressToken, now.Add(5*time.Minute).UTC().Format(time.RFC3339)))})
	if err != nil || !a.Expires.Equal(now.Add(time.Minute)) {
		t.Errorf("until %s, %v, want %s", a.Expires, err, now.Add(time.Minute))
	}
}

func TestAnswersThatAreNoS3SessionAreNotPassedOn(t *testing.T) {
	r := newReplica(t, newSetup(t))
	now := time.Unix(0, r.now.Load())
	grant, _, err := r.store.Lookup("CSIGDEPLOYAAAAAAAAAA", "", now)
	if err != nil {
		t.Fatal(err)
	}
	good := s3Answer(expressID, expressSecret, expressToken, now.Add(time.Minute).UTC().Format(time.RFC3339))
	for name, body := range map[string]string{
		"empty":             "",
		"not XML":           expressSecret,
		"cut off":           good[:len(good)-10],
		"another root":      strings.ReplaceAll(good, "CreateSessionResult", "ListBucketResult"),
		"two credentials":   strings.Replace(good, "</Credentials>", "</Credentials><Credentials></Credentials>", 1),
		"two secrets":       strings.Replace(good, "</Credentials>", "<SecretAccessKey>x</SecretAccessKey></Credentials>", 1),
		"no token":          strings.Replace(good, "SessionToken>", "Token>", 2),
		"empty key id":      strings.Replace(good, expressID, " ", 1),
		"no date":           s3Answer(expressID, expressSecret, expressToken, "soon"),
		"over already":      s3Answer(expressID, expressSecret, expressToken, now.Add(-time.Minute).UTC().Format(time.RFC3339)),
		"another encoding":  strings.Replace(good, "UTF-8", "UTF-16", 1),
		"too long":          good + strings.Repeat(" ", MaxS3Session),
		"token of 64 KiB":   s3Answer(expressID, expressSecret, strings.Repeat("t", 60<<10), now.Add(time.Minute).UTC().Format(time.RFC3339)),
		"an error's answer": "<Error><Code>AccessDenied</Code></Error>",
	} {
		t.Run(name, func(t *testing.T) {
			a, err := r.S3Session(S3SessionRequest{Call: createSession(t, directoryHost, "GET", "/?session"), Grant: grant, Body: []byte(body)})
			if err == nil || a.Body != nil || a.AccessKeyID != "" {
				t.Fatalf("passed on: %s, %v", a.Body, err)
			}
			for _, real := range []string{expressID, expressSecret, expressToken} {
				if strings.Contains(err.Error(), real) {
					t.Errorf("the error quotes %.8s…: %v", real, err)
				}
			}
		})
	}
}
