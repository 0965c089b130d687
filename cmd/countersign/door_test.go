package main

import (
	"crypto/tls"
	"net/url"
	"testing"

	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/identity"
)

// What is put into a URL comes out of it as it was, and only where it is asked for.
func TestCredentialsInTheURLOfAProxy(t *testing.T) {
	for name, c := range map[string]struct {
		mode             string
		secret, token    string
		want, wantSecret string
	}{
		"nobody asks": {config.AuthenticateNone, "secret", "CS1.token", "https://gateway.example.com:8800", ""},
		"static":      {config.AuthenticateTunnels, "secret", "", "https://CSIGAAAAAAAAAAAAAAAA:secret@gateway.example.com:8800", "secret"},
		"any bytes":   {config.AuthenticateAll, "a:b@c/d%e+f é#?", "", "https://CSIGAAAAAAAAAAAAAAAA:a%3Ab%40c%2Fd%25e+f%20%C3%A9%23%3F@gateway.example.com:8800", "a:b@c/d%e+f é#?"},
		"minted":      {config.AuthenticateAll, "secret", "CS1.t-o_k", "https://CSIGAAAAAAAAAAAAAAAA:secret.CS1.t-o_k@gateway.example.com:8800", "secret.CS1.t-o_k"},
	} {
		t.Run(name, func(t *testing.T) {
			got := withCredentials(&config.Config{ProxyAuth: c.mode}, "https://gateway.example.com:8800",
				identity.Credentials{AccessKeyID: "CSIGAAAAAAAAAAAAAAAA", SecretAccessKey: c.secret, SessionToken: c.token})
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			u, err := url.Parse(got)
			if err != nil {
				t.Fatal(err)
			}
			if password, _ := u.User.Password(); password != c.wantSecret {
				t.Errorf("the password is read back as %q", password)
			}
		})
	}
}

// The listener that is open counts, and not the one of a configuration that a
// restart would take up.
func TestReloadDoesNotAskForSecretsInTheClear(t *testing.T) {
	for name, c := range map[string]struct {
		mode, address string
		plaintext     bool
		tls, refused  bool
	}{
		"nobody asks":                 {config.AuthenticateNone, "192.0.2.1:8800", false, false, false},
		"loopback":                    {config.AuthenticateAll, "127.0.0.1:8800", false, false, false},
		"elsewhere":                   {config.AuthenticateTunnels, "192.0.2.1:8800", false, false, true},
		"elsewhere, with TLS":         {config.AuthenticateTunnels, "192.0.2.1:8800", false, true, false},
		"elsewhere, behind something": {config.AuthenticateTunnels, "192.0.2.1:8800", true, false, false},
		"not listening":               {config.AuthenticateAll, "", false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := new(proxy)
			p.addresses.proxy = c.address
			if c.tls {
				p.certificate.Store(new(tls.Certificate))
			}
			err := p.inTheClear(&config.Config{ProxyAuth: c.mode, TLS: config.TLS{Plaintext: c.plaintext}})
			if (err != nil) != c.refused {
				t.Errorf("%v", err)
			}
		})
	}
}
