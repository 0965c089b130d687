package main

import (
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/countersign-proxy/countersign/awsapi"
	"github.com/countersign-proxy/countersign/ca"
	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/mitm"
)

func TestRoute(t *testing.T) {
	narrow, err := ca.New(ca.Options{Suffixes: awsapi.SuffixesOfAWS()})
	if err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{
		Hosts:    []config.Host{{Pattern: "*.execute-api.eu-west-1.amazonaws.com", Service: "execute-api"}, {Pattern: "api.example.com", Service: "execute-api"}},
		Unsigned: []config.Unsigned{{Hosts: []string{"downloads.example.com", "*.s3-website-us-east-1.amazonaws.com"}}},
	}
	wide, err := ca.New(authorityOptions(cfg))
	if err != nil {
		t.Fatal(err)
	}
	public := config.Tunnel{Mode: config.TunnelPublic}
	none := config.Tunnel{Mode: config.TunnelNone}
	listed := config.Tunnel{Mode: config.TunnelList, Patterns: []string{"*.example.com", "packages.example.org"}}
	intercept := func(code string) mitm.Route { return mitm.Route{Action: mitm.Intercept, Code: code} }
	tunnel := mitm.Route{Action: mitm.Tunnel, Code: routeTunnel}
	reject := func(code string) mitm.Route { return mitm.Route{Action: mitm.Reject, Code: code} }
	h2 := mitm.Route{Action: mitm.Intercept, Code: routeAWS, H2: true}

	for _, c := range []struct {
		host      string
		port      int
		tunnel    config.Tunnel
		authority *ca.Authority
		want      mitm.Route
	}{
		// AWS, of every partition.
		{"sts.us-east-1.amazonaws.com", 443, public, wide, intercept(routeAWS)},
		{"sts.us-east-1.amazonaws.com", 8443, public, wide, intercept(routeAWS)},
		{"STS.US-EAST-1.AMAZONAWS.COM", 443, public, wide, intercept(routeAWS)},
		{"iam.amazonaws.com", 443, none, wide, intercept(routeAWS)},
		{"s3.cn-north-1.amazonaws.com.cn", 443, none, wide, intercept(routeAWS)},
		{"my.bucket.s3.dualstack.eu-west-1.amazonaws.com", 443, none, wide, intercept(routeAWS)},
		{"bedrock-runtime.us-east-1.amazonaws.com", 443, none, wide, h2},
		{"transcribestreaming.us-east-1.amazonaws.com", 8443, none, wide, h2},
		{"sts.us-east-1.amazonaws.com", 80, public, wide, reject(routePort)},
		{"sts.us-east-1.amazonaws.com", 22, public, wide, reject(routePort)},

		// Shaped like AWS and not in the tables: never signed for, never tunnelled.
		{"unheard-of.us-east-1.api.aws", 443, public, wide, reject(routeUnknown)},

		// Under AWS's suffixes and somebody's own.
		{"db.abc.eu-west-1.rds.amazonaws.com", 5432, public, wide, tunnel},
		{"my-lb-1.eu-west-1.elb.amazonaws.com", 443, public, wide, tunnel},
		{"my-lb-1.eu-west-1.elb.amazonaws.com", 443, none, wide, reject(routeForeign)},
		{"ABCDEF.gr7.eu-west-1.eks.amazonaws.com", 443, public, wide, tunnel},
		{"abc.execute-api.us-east-1.amazonaws.com", 443, public, wide, tunnel},

		// Rules.
		{"abc.execute-api.eu-west-1.amazonaws.com", 443, none, wide, intercept(routeRule)},
		{"api.example.com", 443, none, wide, intercept(routeRule)},
		{"api.example.com", 444, none, wide, reject(routePort)},
		{"downloads.example.com", 443, none, wide, intercept(routeRule)},
		{"site.s3-website-us-east-1.amazonaws.com", 443, none, wide, intercept(routeRule)},
		{"api.example.com", 443, public, narrow, reject(routeCA)},

		// Other people's hosts, however they are spelt.
		{"example.com", 443, public, wide, tunnel},
		{"example.com", 443, none, wide, reject(routeForeign)},
		{"files.example.com", 443, listed, wide, tunnel},
		{"example.com", 443, listed, wide, reject(routeForeign)},
		{"packages.example.org", 443, listed, wide, tunnel},
		{"sts.us-east-1.amazonaws.com.evil.example", 443, none, wide, reject(routeForeign)},
		{"sts.us-east-1.amazonaws.com.evil.example", 443, public, wide, tunnel},
		{"evilamazonaws.com", 443, none, wide, reject(routeForeign)},
		{"192.0.2.1", 443, none, wide, reject(routeForeign)},
	} {
		cfg.Tunnel = c.tunnel
		got := (&engine{cfg: cfg}).route(c.authority, c.host, c.port)
		if diff := cmp.Diff(c.want, got, cmpopts.IgnoreFields(mitm.Route{}, "Reason")); diff != "" {
			t.Errorf("%s:%d, tunnel %v: %s", c.host, c.port, c.tunnel, diff)
		}
		if (got.Reason == "") != (got.Action != mitm.Reject) {
			t.Errorf("%s:%d: reason %q", c.host, c.port, got.Reason)
		}
	}
}

// What is refused says what would admit it.
func TestRouteSaysWhatToDo(t *testing.T) {
	authority, err := ca.New(ca.Options{Suffixes: awsapi.SuffixesOfAWS()})
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{cfg: &config.Config{Hosts: []config.Host{{Pattern: "api.example.com"}}, Tunnel: config.Tunnel{Mode: config.TunnelNone}}}
	listed := &engine{cfg: &config.Config{Tunnel: config.Tunnel{Mode: config.TunnelList}}}
	for _, c := range []struct {
		engine *engine
		host   string
		port   int
		want   string
	}{
		{e, "sts.us-east-1.amazonaws.com", 80, "sts.us-east-1.amazonaws.com is an AWS API, which is reached on port 443 or 8443, not 80"},
		{e, "unheard-of.us-east-1.api.aws", 443, "unheard-of.us-east-1.api.aws has the shape of an AWS endpoint but is not in countersign's tables, so nothing is signed for it; " +
			`a rule in ` + "`hosts`" + ` admits it: {pattern: "unheard-of.us-east-1.api.aws", service: SERVICE, region: REGION}`},
		{e, "api.example.com", 443, "the local CA is not permitted to sign for api.example.com, which a rule of the configuration names; run `countersign ca rotate` to make one that is"},
		{e, "example.com", 443, "example.com is not an AWS API endpoint, and `tunnel` is none: only AWS can be reached through this proxy"},
		{listed, "example.com", 443, "example.com is not an AWS API endpoint, and `tunnel` does not list it"},
	} {
		if got := c.engine.route(authority, c.host, c.port).Reason; got != c.want {
			t.Errorf("%s:%d\n got %s\nwant %s", c.host, c.port, got, c.want)
		}
	}
}

// Metadata and loopback are reached directly, whatever proxy is on the way out.
func TestProxyOnTheWayOut(t *testing.T) {
	proxy, err := url.Parse("http://user:secret@proxy.example.com:3128")
	if err != nil {
		t.Fatal(err)
	}
	choose := proxyFunc(proxy.String())
	for target, want := range map[string]*url.URL{
		"https://sts.us-east-1.amazonaws.com/":       proxy,
		"http://169.254.169.254/latest/meta-data":    nil,
		"http://169.254.170.2/v2/credentials":        nil,
		"http://169.254.170.23/v1/credentials":       nil,
		"http://[fd00:ec2::254]/latest/meta-data":    nil,
		"http://[fd00:ec2::23]/v1/credentials":       nil,
		"http://127.0.0.1:1338/":                     nil,
		"https://[2001:db8::1]/":                     proxy,
		"https://s3.eu-west-1.amazonaws.com/a?b=c#d": proxy,
	} {
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		got, err := choose(u)
		if err != nil {
			t.Errorf("%s: %v", target, err)
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b *url.URL) bool { return a == b || a != nil && b != nil && a.String() == b.String() })); diff != "" {
			t.Errorf("%s: %s", target, diff)
		}
	}
	if proxyFunc("none") != nil || requestProxy("none") != nil {
		t.Error("none is a proxy")
	}
}
