package mitm

import (
	"strings"
	"testing"
)

func TestParseAuthority(t *testing.T) {
	for in, want := range map[string]target{
		"host.example":                      {"host.example", 443},
		"HOST.Example.":                     {"host.example", 443},
		"host.example:443":                  {"host.example", 443},
		"host.example.:8443":                {"host.example", 8443},
		"a_b--c.example:00443":              {"a_b--c.example", 443},
		"1a.2b":                             {"1a.2b", 443},
		"0x7f.example":                      {"0x7f.example", 443},
		"192.0.2.1":                         {"192.0.2.1", 443},
		"[2001:DB8::0:1]":                   {"2001:db8::1", 443},
		"[2001:db8:0:0:0:0:0:1]:8443":       {"2001:db8::1", 8443},
		"bucket.s3.us-east-1.amazonaws.com": {"bucket.s3.us-east-1.amazonaws.com", 443},
	} {
		got, err := parseAuthority(in, 443)
		if err != nil || got != want {
			t.Errorf("%q: got %+v, %v, want %+v", in, got, err, want)
		}
	}
	for t0, want := range map[target]string{
		{"host.example", 443}:  "host.example",
		{"host.example", 8443}: "host.example:8443",
		{"2001:db8::1", 443}:   "[2001:db8::1]",
		{"2001:db8::1", 1}:     "[2001:db8::1]:1",
	} {
		if got := t0.authority(); got != want {
			t.Errorf("%+v: got %q, want %q", t0, got, want)
		}
	}
}

// Every target has one spelling, which means the same again, and which no
// program takes for another host.
func FuzzParseAuthority(f *testing.F) {
	for _, s := range []string{"host.example:443", "HOST.", "[::1]:80", "[::ffff:1.2.3.4]", "127.0.0.1", "127.1", "0x7f.1", "a:b:c", "[", "x:+1", "%41", "a@b", "\u212a.example"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseAuthority(s, 443)
		if err != nil {
			return
		}
		if again, err := parseAuthority(got.address(), 0); err != nil || again != got {
			t.Errorf("%q: %+v is read back as %+v, %v", s, got, again, err)
		}
		if again, err := parseAuthority(got.authority(), 443); err != nil || again != got {
			t.Errorf("%q: %+v is read back as %+v, %v", s, got, again, err)
		}
		if got.port < 1 || got.port > 65535 || got.host != strings.ToLower(got.host) || strings.ContainsAny(got.host, "/@%?# \r\n[]") {
			t.Errorf("%q: %+v", s, got)
		}
	})
}
