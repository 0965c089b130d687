package identity

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAuthenticate(t *testing.T) {
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	revoked := Static{AccessKeyID: "CSIGCCCCCCCCCCCCCCCC", SecretAccessKey: "static-secret-0123456789", Identity: "gone"}
	file := filepath.Join(t.TempDir(), "revocations")
	if err := os.WriteFile(file, []byte(`{"identity":"gone"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	revocations, err := OpenRevocations(file)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{
		Identities: []Identity{{Name: "ci", Roles: []string{"deploy"}}, {Name: "gone", Roles: []string{"deploy"}}},
		Static: []Static{
			{AccessKeyID: "CSIGAAAAAAAAAAAAAAAA", SecretAccessKey: "static:secret@0123456789/é%", Identity: "ci"},
			{AccessKeyID: "CSIGBBBBBBBBBBBBBBBB", SecretAccessKey: "a-secret-like-a-token.CS1.AAAA", Identity: "ci"},
			revoked,
		},
		SealingKeys: []SealingKey{{secret: []byte(strings.Repeat("k", 32))}},
		Revocations: revocations,
		Now:         func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	minted, err := s.Mint(Grant{Identity: Identity{Name: "ci"}, Role: "deploy", Expires: now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	other, err := s.Mint(Grant{Identity: Identity{Name: "ci"}, Role: "deploy", Expires: now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		user, password string
		at             time.Time
		want           Reason // "" is ci
	}{
		"static":                               {"CSIGAAAAAAAAAAAAAAAA", "static:secret@0123456789/é%", now, ""},
		"static that looks like a token":       {"CSIGBBBBBBBBBBBBBBBB", "a-secret-like-a-token.CS1.AAAA", now, ""},
		"minted":                               {minted.AccessKeyID, minted.Password(), now, ""},
		"static, wrong":                        {"CSIGAAAAAAAAAAAAAAAA", "static:secret@0123456789/é", now, ReasonPassword},
		"static, empty":                        {"CSIGAAAAAAAAAAAAAAAA", "", now, ReasonPassword},
		"static, another's":                    {"CSIGAAAAAAAAAAAAAAAA", "a-secret-like-a-token.CS1.AAAA", now, ReasonPassword},
		"static with somebody's token":         {"CSIGAAAAAAAAAAAAAAAA", "static:secret@0123456789/é%." + minted.SessionToken, now, ReasonPassword},
		"minted, the secret alone":             {minted.AccessKeyID, minted.SecretAccessKey, now, ReasonTokenMissing},
		"minted, the token alone":              {minted.AccessKeyID, minted.SessionToken, now, ReasonTokenMissing},
		"minted, no secret before the token":   {minted.AccessKeyID, "." + minted.SessionToken, now, ReasonPassword},
		"minted, another secret":               {minted.AccessKeyID, other.SecretAccessKey + "." + minted.SessionToken, now, ReasonPassword},
		"minted, another token":                {minted.AccessKeyID, minted.SecretAccessKey + "." + other.SessionToken, now, ReasonBadToken},
		"minted, another id":                   {other.AccessKeyID, minted.Password(), now, ReasonBadToken},
		"minted, token twice":                  {minted.AccessKeyID, minted.Password() + "." + minted.SessionToken, now, ReasonPassword},
		"minted, expired":                      {minted.AccessKeyID, minted.Password(), now.Add(time.Hour), ReasonExpired},
		"unknown":                              {"CSIGDDDDDDDDDDDDDDDD", "static-secret-0123456789", now, ReasonTokenMissing},
		"unknown, of another form":             {"ann", "static-secret-0123456789", now, ReasonUnknownKey},
		"a key of AWS":                         {"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", now, ReasonRealKey},
		"nobody":                               {"", "", now, ReasonUnknownKey},
		"revoked":                              {revoked.AccessKeyID, revoked.SecretAccessKey, now, ReasonRevoked},
		"revoked, whatever the password holds": {revoked.AccessKeyID, "x", now, ReasonRevoked},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := s.Authenticate(c.user, c.password, c.at)
			if c.want == "" {
				if err != nil || g.Identity.Name != "ci" || g.AccessKeyID != c.user {
					t.Errorf("%+v, %v", g, err)
				}
				return
			}
			var refused *Error
			if !errors.As(err, &refused) || refused.Reason != c.want || g.Identity.Name != "" {
				t.Fatalf("%+v, %v; want %s", g, err, c.want)
			}
			for _, secret := range []string{c.password, minted.SecretAccessKey, minted.SessionToken, "static:secret"} {
				if secret != "" && c.password != "x" && strings.Contains(err.Error(), secret) {
					t.Errorf("the error quotes a secret: %v", err)
				}
			}
		})
	}
}

// Whatever is sent as user and password, only a pair in the form of
// Credentials.Password authenticates, and every failure has a reason.
func FuzzAuthenticate(f *testing.F) {
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	const id, secret = "CSIGAAAAAAAAAAAAAAAA", "static-secret.CS1.0123456789"
	s, err := New(Options{
		Identities:  []Identity{{Name: "ci", Roles: []string{"deploy"}}},
		Static:      []Static{{AccessKeyID: id, SecretAccessKey: secret, Identity: "ci"}},
		SealingKeys: []SealingKey{{secret: []byte(strings.Repeat("k", 32))}},
		Now:         func() time.Time { return now },
		Rand:        strings.NewReader(strings.Repeat("r", 1<<10)),
	})
	if err != nil {
		f.Fatal(err)
	}
	minted, err := s.Mint(Grant{Identity: Identity{Name: "ci"}, Role: "deploy", Expires: now.Add(time.Hour)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(id, secret)
	f.Add(minted.AccessKeyID, minted.Password())
	f.Add(minted.AccessKeyID, minted.SecretAccessKey)
	f.Add(minted.AccessKeyID, "."+minted.SessionToken)
	f.Add(minted.AccessKeyID, minted.Password()+"."+minted.SessionToken)
	f.Add(id, secret+"."+minted.SessionToken)
	f.Add("", "")
	f.Add("a", ".CS1.")
	f.Add("AKIAIOSFODNN7EXAMPLE", ".CS1..CS1.")
	f.Fuzz(func(t *testing.T, user, password string) {
		g, err := s.Authenticate(user, password, now)
		right := user == id && password == secret || user == minted.AccessKeyID && password == minted.Password()
		if right != (err == nil) || right && g.Identity.Name != "ci" {
			t.Fatalf("%q, %q: %+v, %v", user, password, g, err)
		}
		var refused *Error
		if err != nil && (!errors.As(err, &refused) || refused.Reason == "" || g.Identity.Name != "") {
			t.Fatalf("%q, %q: %+v, %#v", user, password, g, err)
		}
	})
}
