package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/ca"
	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/sandbox"
	"github.com/countersign-proxy/countersign/shell"
)

func newDemo(a *app) *cobra.Command {
	var keep bool
	c := &cobra.Command{
		Use:   "demo [--serve]",
		Short: "Show the main job, with no AWS account",
		Long: "Start a proxy and a small stand-in for AWS that verifies signatures, and make real SDK\n" +
			"calls through them: the program holds client credentials, the stand-in sees a role.\n" +
			"With --serve both keep running, with settings to paste for tools of your own.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.demo(c.Context(), keep) },
	}
	c.Flags().BoolVar(&keep, "serve", false, "keep proxy and stand-in running until Ctrl-C")
	return c
}

const (
	demoRole   = "arn:aws:iam::123456789012:role/Demo"
	demoRegion = "us-east-1"
	demoPolicy = `{
  "Version": "2012-10-17",
  "Statement": [
    {"Sid": "Identity", "Effect": "Allow", "Action": "sts:GetCallerIdentity", "Resource": "*"},
    {"Sid": "Buckets", "Effect": "Allow", "Action": ["s3:CreateBucket", "s3:ListBucket"], "Resource": "arn:aws:s3:::demo-*"},
    {"Sid": "Objects", "Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "arn:aws:s3:::demo-*/*"}
  ]
}`
)

// demo shows the way of a request, step by step, each checked.
func (a *app) demo(ctx context.Context, keep bool) (err error) {
	aws, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		return err
	}
	defer aws.Close()
	dir, err := a.tempDir(a.getenv("COUNTERSIGN_STATE_DIR"))
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for name, text := range map[string][]byte{"aws.pem": aws.RootPEM(), "policy.json": []byte(demoPolicy), "countersign.yaml": demoConfig(aws.Address())} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return err
		}
	}
	// The stand-in's keys, and nothing of the caller's: the demo must not touch
	// a real account.
	cfg, err := config.Load(config.Options{Path: filepath.Join(dir, "countersign.yaml"), Env: []string{}, Home: dir})
	if err != nil {
		return err
	}
	g := newGrants(cfg, a.getenv)
	pair, err := identity.NewPair(rand.Reader, localIdentity, "demo")
	if err != nil {
		return err
	}
	var p *proxy
	authorityOpt := authorityOptions(cfg)
	authorityOpt.Issued = func(string) { p.metrics.CertificateIssued() }
	authority, err := ca.New(authorityOpt)
	if err != nil {
		return err
	}
	var record bytes.Buffer
	p, err = newProxy(ctx, cfg, g, proxyOptions{
		Authority: authority, Static: []identity.Static{pair}, Source: staticSource(aws.Credentials()),
		Audit: audit.Options{Writer: &record, Required: true}, Log: zap.NewNop(), Getenv: a.getenv,
	})
	if err != nil {
		return err
	}
	if err := p.listen(ctx, func(error) {}); err != nil {
		return errors.Join(err, p.shutdown(ctx))
	}
	d := &demonstration{app: a, proxy: p, aws: aws, pair: pair, dir: dir}
	err = d.run(ctx)
	if err == nil && keep {
		err = d.serve(ctx)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if stopErr := p.shutdown(ctx); err == nil {
		err = stopErr
	}
	if err == nil {
		a.printRecord(record.Bytes())
	}
	return err
}

func demoConfig(address string) []byte {
	return []byte(`listen: 127.0.0.1:0
admin: {listen: ""}
state_dir: state
tunnel: none
roles:
  demo:
    arn: ` + demoRole + `
    session_name: "{{ .Identity.Attributes.user }}"
    policies: [policy.json]
upstream:
  proxy: none
  override:
    - {hosts: ["*"], address: "` + address + `", ca_file: aws.pem, tls: true}
`)
}

// demonstration makes calls as a program would and checks what both sides saw.
type demonstration struct {
	app   *app
	proxy *proxy
	aws   *sandbox.Server
	pair  identity.Static
	dir   string
	step  int
}

func (d *demonstration) say(format string, args ...any) {
	d.step++
	fmt.Fprintf(d.app.stdout, "%d. %s\n", d.step, fmt.Sprintf(format, args...))
}

func (d *demonstration) detail(format string, args ...any) {
	fmt.Fprintf(d.app.stdout, "   %s\n", fmt.Sprintf(format, args...))
}

func (d *demonstration) run(ctx context.Context) error {
	client, err := d.client(d.pair.SecretAccessKey)
	if err != nil {
		return err
	}
	d.say("A program holds these client credentials. They are worth nothing outside this proxy.")
	d.detail("HTTPS_PROXY=http://%s", d.proxy.addresses.proxy)
	d.detail("AWS_ACCESS_KEY_ID=%s", d.pair.AccessKeyID)

	who, err := sts.NewFromConfig(client).GetCallerIdentity(ctx, nil)
	if err != nil {
		return fmt.Errorf("GetCallerIdentity: %w", err)
	}
	d.say("It asks AWS who it is. AWS sees the role:")
	d.detail("%s", aws.ToString(who.Arn))

	objects := s3.NewFromConfig(client, func(o *s3.Options) { o.UsePathStyle = false })
	bucket, key, text := "demo-bucket", "notes/a b+c/é&=~%20.txt", "signed twice, sent once"
	if _, err := objects.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &bucket}); err != nil {
		return fmt.Errorf("CreateBucket: %w", err)
	}
	if _, err := objects.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(text)}); err != nil {
		return fmt.Errorf("PutObject: %w", err)
	}
	got, err := objects.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		return fmt.Errorf("GetObject: %w", err)
	}
	body, err := io.ReadAll(got.Body)
	if err = errors.Join(err, got.Body.Close()); err != nil {
		return fmt.Errorf("GetObject: %w", err)
	}
	if string(body) != text {
		return fmt.Errorf("GetObject returned %q, %q was stored", body, text)
	}
	d.say("It stores an object and reads it back, byte for byte:")
	d.detail("s3://%s/%s  %q", bucket, key, body)

	before := len(d.aws.Requests())
	_, err = objects.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &bucket, Key: &key})
	if code := errorCode(err); code != "AccessDenied" {
		return fmt.Errorf("DeleteObject should have been denied by the policy, but ended with %q (%v)", code, err)
	}
	d.say("It tries what its policy does not allow. The proxy denies it in S3's own words:")
	d.detail("%s", errorMessage(err))

	stranger, err := d.client("not-the-secret-of-this-key-id-at-all")
	if err != nil {
		return err
	}
	_, err = sts.NewFromConfig(stranger).GetCallerIdentity(ctx, nil)
	if code := errorCode(err); code != "SignatureDoesNotMatch" {
		return fmt.Errorf("a call with a wrong secret should have been refused, but ended with %q (%v)", code, err)
	}
	d.say("Somebody who knows the key id alone is refused: %s", errorCode(err))
	if n := len(d.aws.Requests()); n != before {
		return fmt.Errorf("%d refused calls reached AWS", n-before)
	}
	seen := 0
	for _, r := range d.aws.Requests() {
		if r.AccessKeyID == d.pair.AccessKeyID {
			return fmt.Errorf("AWS saw the client's key id")
		}
		if strings.Contains(r.Principal, ":assumed-role/") {
			seen++
		}
	}
	d.say("AWS has seen %d calls of the role, one AssumeRole, and no refused call.", seen)
	return nil
}

// client is the configuration of an SDK program behind the proxy.
func (d *demonstration) client(secret string) (aws.Config, error) {
	proxy, err := url.Parse("http://" + d.proxy.addresses.proxy)
	if err != nil {
		return aws.Config{}, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(d.proxy.authority.Load().RootPEM())
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = http.ProxyURL(proxy)
	transport.TLSClientConfig.RootCAs = pool
	return aws.Config{
		Region:      demoRegion,
		Credentials: credentials.NewStaticCredentialsProvider(d.pair.AccessKeyID, secret, ""),
		HTTPClient:  &http.Client{Transport: transport},
	}, nil
}

// serve keeps everything running, with settings to paste.
func (d *demonstration) serve(ctx context.Context) error {
	roots, err := ca.EnvironmentRoots(ca.TrustOptions{Getenv: d.app.getenv})
	if err != nil {
		return err
	}
	trust, err := writeTrust(d.proxy.authority.Load(), d.dir, 0o600, roots, d.app.getenv)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, stopSignals...)
	defer stop()
	s := settings{
		ProxyURL:    "http://" + d.proxy.addresses.proxy,
		Credentials: identity.Credentials{AccessKeyID: d.pair.AccessKeyID, SecretAccessKey: d.pair.SecretAccessKey},
		Trust:       trust,
	}
	fmt.Fprintf(d.app.stdout, "\nThe proxy goes on running in front of the stand-in. Paste into another terminal, and try `aws s3 ls s3://demo-bucket`:\n\n")
	for _, v := range append(s.short(), variable{"AWS_REGION", demoRegion}) {
		fmt.Fprintf(d.app.stdout, "  %s\n", shell.SetPOSIX(v.Name, v.Value))
	}
	fmt.Fprintf(d.app.stdout, "\nCtrl-C ends it.\n")
	<-ctx.Done()
	return nil
}

// printRecord shows the audit lines, shortened.
func (a *app) printRecord(lines []byte) {
	fmt.Fprintf(a.stdout, "\nThe audit record has one line for each of them:\n\n")
	for e, err := range audit.Lines(bytes.NewReader(lines)) {
		if err != nil {
			fmt.Fprintf(a.stdout, "   %v\n", err)
			continue
		}
		what := e.Operation
		if what == "" {
			what = e.Method + " " + e.Host
		}
		fmt.Fprintf(a.stdout, "   %-6s %3d  %-18s %-14s %s\n", e.Decision, e.Status, what, e.Reason, strings.Join(e.Resources, " "))
	}
}

func errorCode(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return ""
}

func errorMessage(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorMessage()
	}
	return err.Error()
}

// staticSource provides fixed source credentials.
func staticSource(c aws.Credentials) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return c, nil })
}
