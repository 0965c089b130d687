package console

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"go.uber.org/goleak"

	"github.com/countersign-proxy/countersign/rolesession"
	"github.com/countersign-proxy/countersign/sandbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cloud is AWS as these tests have it: a sandbox that every host name leads to.
type cloud struct {
	t       *testing.T
	sandbox *sandbox.Server
	client  *http.Client

	mu     sync.Mutex
	answer func(r *http.Request, body []byte) *http.Response // nil, or returns nil: the sandbox answers
	hosts  []string                                          // asked so far
}

func newCloud(t *testing.T, roles map[string]sandbox.Role) *cloud {
	t.Helper()
	return newCloudAt(t, roles, nil)
}

// newCloudAt is newCloud with a clock.
func newCloudAt(t *testing.T, roles map[string]sandbox.Role, now func() time.Time) *cloud {
	t.Helper()
	c := &cloud{t: t}
	server, err := sandbox.Start(sandbox.Options{Roles: roles, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(server.RootPEM())
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, server.Address())
		},
		TLSClientConfig: &tls.Config{RootCAs: pool},
	}
	c.sandbox, c.client = server, &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		var body []byte
		if r.Body != nil {
			body, err = io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			r = r.Clone(r.Context())
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		c.mu.Lock()
		c.hosts = append(c.hosts, r.URL.Host)
		answer := c.answer
		c.mu.Unlock()
		if answer != nil {
			if res := answer(r, body); res != nil {
				return res, nil
			}
		}
		return transport.RoundTrip(r)
	})}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (c *cloud) intercept(f func(r *http.Request, body []byte) *http.Response) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = f
}

// sessions makes a manager of roles whose source credentials are given.
func (c *cloud) sessions(source aws.Credentials, roles ...Role) *rolesession.Manager {
	c.t.Helper()
	entries := map[string]rolesession.Role{}
	for _, r := range roles {
		tags := map[string]string{}
		for _, k := range r.Tags {
			tags[k] = "x"
		}
		entries[r.Name] = rolesession.Role{ARN: r.ARN, Via: r.Via, Duration: r.Duration, Tags: tags}
	}
	m, err := rolesession.New(rolesession.Options{
		Roles: entries, HTTPClient: c.client, Region: "eu-west-1",
		Source: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return source, nil }),
		Client: func(o *sts.Options) { o.Retryer = aws.NopRetryer{} },
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = m.Close() })
	return m
}

func (c *cloud) federation(m *rolesession.Manager) *Federation {
	f := NewFederation(FederationOptions{Sessions: m, Client: c.client, Region: "eu-west-1"})
	f.signin.pause = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	return f
}

// assume makes a role session at the sandbox.
func (c *cloud) assume(source aws.Credentials, arn, name string) aws.Credentials {
	c.t.Helper()
	client := sts.New(sts.Options{Region: "eu-west-1", HTTPClient: c.client,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return source, nil })})
	out, err := client.AssumeRole(c.t.Context(), &sts.AssumeRoleInput{RoleArn: &arn, RoleSessionName: &name})
	if err != nil {
		c.t.Fatal(err)
	}
	return aws.Credentials{AccessKeyID: *out.Credentials.AccessKeyId, SecretAccessKey: *out.Credentials.SecretAccessKey,
		SessionToken: *out.Credentials.SessionToken, CanExpire: true, Expires: *out.Credentials.Expiration}
}

// browse follows a sign-in URL as a browser would and returns where it ends up.
func (c *cloud) browse(address string) (status int, location string, record sandbox.Request) {
	c.t.Helper()
	client := *c.client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.Get(address)
	if err != nil {
		c.t.Fatal(err)
	}
	res.Body.Close()
	records := c.sandbox.Requests()
	return res.StatusCode, res.Header.Get("Location"), records[len(records)-1]
}

// asked returns the parameters of the calls of one operation, without the session.
func (c *cloud) asked(operation string) []url.Values {
	var out []url.Values
	for _, r := range c.sandbox.Requests() {
		if r.Operation == operation {
			out = append(out, r.Form)
		}
	}
	return out
}

func response(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}
