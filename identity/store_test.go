package identity

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func fixedNow() time.Time { return noon }

func testKey(t testing.TB, fill byte) SealingKey {
	t.Helper()
	k, err := NewSealingKey(bytes.Repeat([]byte{fill}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var ci = Identity{Name: "ci", Attributes: map[string]string{"team": "platform"}, Roles: []string{"deploy", "read"}, Boundary: "limit"}

var ciStatic = Static{AccessKeyID: "CSIGAAAAAAAAAAAAAAAA", SecretAccessKey: "a-static-secret-of-ci", Identity: "ci"}

func testStore(t testing.TB, change ...func(*Options)) *Store {
	t.Helper()
	opt := Options{Identities: []Identity{ci}, Static: []Static{ciStatic}, SealingKeys: []SealingKey{testKey(t, 1)}, Now: fixedNow}
	for _, c := range change {
		c(&opt)
	}
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mint(t testing.TB, s *Store, g Grant) Credentials {
	t.Helper()
	if g.Identity.Name == "" {
		g.Identity.Name = "ci"
	}
	if g.Role == "" {
		g.Role = "deploy"
	}
	if g.Expires.IsZero() {
		g.Expires = noon.Add(time.Hour)
	}
	c, err := s.Mint(g)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func reasonOf(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

func TestStaticCredentialsAreKnown(t *testing.T) {
	s := testStore(t)
	g, secret, err := s.Lookup(ciStatic.AccessKeyID, "", noon)
	if err != nil || secret != ciStatic.SecretAccessKey {
		t.Fatalf("%q, %v", secret, err)
	}
	if diff := cmp.Diff(Grant{Identity: ci, Role: "deploy", AccessKeyID: ciStatic.AccessKeyID}, g); diff != "" {
		t.Error(diff)
	}
	g.Identity.Attributes["team"] = "changed"
	g.Identity.Roles[0] = "changed"
	if g, _, _ = s.Lookup(ciStatic.AccessKeyID, "", noon); g.Identity.Attributes["team"] != "platform" || g.Identity.Roles[0] != "deploy" {
		t.Error("a caller can change what the store holds")
	}
}

func TestMintedCredentialsStandForTheirGrant(t *testing.T) {
	s := testStore(t)
	want := Grant{
		Identity: Identity{Name: "ci", Attributes: map[string]string{"user": "ann", "team": "ignored: the configuration sets it"}},
		Role:     "read", Expires: noon.Add(time.Hour + 999*time.Millisecond), Parents: []string{"CSIGBBBBBBBBBBBBBBBB"}, Session: []byte("opaque\x00bytes"),
	}
	c := mint(t, s, want)
	if !isClientKeyID(c.AccessKeyID) || len(c.SecretAccessKey) != 40 || !c.Expires.Equal(noon.Add(time.Hour)) {
		t.Errorf("%s %d %s", c.AccessKeyID, len(c.SecretAccessKey), c.Expires)
	}
	g, secret, err := s.Lookup(c.AccessKeyID, c.SessionToken, noon.Add(59*time.Minute))
	if err != nil || secret != c.SecretAccessKey {
		t.Fatalf("%v", err)
	}
	want.Identity = ci
	want.Identity.Attributes = map[string]string{"team": "platform", "user": "ann"}
	want.AccessKeyID, want.Issued, want.Expires = c.AccessKeyID, noon, noon.Add(time.Hour)
	if diff := cmp.Diff(want, g); diff != "" {
		t.Error(diff)
	}
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		for _, text := range []string{fmt.Sprintf(verb, c), fmt.Sprintf(verb, ciStatic), fmt.Sprintf(verb, testKey(t, 1))} {
			if strings.Contains(text, c.SecretAccessKey) || strings.Contains(text, c.SessionToken) || strings.Contains(text, ciStatic.SecretAccessKey) || strings.Contains(text, "1 1 1") {
				t.Errorf("%s prints a secret: %s", verb, text)
			}
		}
	}
}

func TestReplicasThatShareAKeyKnowEachOthersCredentials(t *testing.T) {
	one, other := testStore(t), testStore(t)
	c := mint(t, one, Grant{})
	if _, secret, err := other.Lookup(c.AccessKeyID, c.SessionToken, noon); err != nil || secret != c.SecretAccessKey {
		t.Errorf("%v", err)
	}
	stranger := testStore(t, func(o *Options) { o.SealingKeys = []SealingKey{testKey(t, 2)} })
	if _, _, err := stranger.Lookup(c.AccessKeyID, c.SessionToken, noon); reasonOf(err) != ReasonBadToken {
		t.Errorf("%v", err)
	}
}

func TestSealingKeysRotateWithOverlap(t *testing.T) {
	old := testStore(t)
	both := testStore(t, func(o *Options) { o.SealingKeys = []SealingKey{testKey(t, 2), testKey(t, 1)} })
	next := testStore(t, func(o *Options) { o.SealingKeys = []SealingKey{testKey(t, 2)} })
	before, during := mint(t, old, Grant{}), mint(t, both, Grant{})
	for _, tt := range []struct {
		name  string
		store *Store
		c     Credentials
		want  Reason
	}{
		{"old at both", both, before, ""}, {"new at both", both, during, ""},
		{"new at next", next, during, ""}, {"old at next", next, before, ReasonBadToken}, {"new at old", old, during, ReasonBadToken},
	} {
		if _, _, err := tt.store.Lookup(tt.c.AccessKeyID, tt.c.SessionToken, noon); reasonOf(err) != tt.want {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// Every byte of a token, and every byte of the id, is bound to the rest.
func TestTokenAlteredAtAnyByteIsRefused(t *testing.T) {
	s := testStore(t)
	c := mint(t, s, Grant{Session: []byte("session")})
	message := ""
	check := func(what, id, token string) {
		t.Helper()
		_, secret, err := s.Lookup(id, token, noon)
		if reasonOf(err) != ReasonBadToken || secret != "" {
			t.Fatalf("%s: %v", what, err)
		}
		if message == "" {
			message = err.Error()
		}
		if err.Error() != message {
			t.Fatalf("%s: the message tells what was wrong: %q, not %q", what, err, message)
		}
	}
	for i := range len(c.SessionToken) {
		for _, to := range []byte("A_-z9 \r\n=\x00\xff") {
			if to != c.SessionToken[i] {
				check(fmt.Sprintf("byte %d to %q", i, to), c.AccessKeyID, c.SessionToken[:i]+string([]byte{to})+c.SessionToken[i+1:])
			}
		}
		check(fmt.Sprintf("bit at %d", i), c.AccessKeyID, c.SessionToken[:i]+string([]byte{c.SessionToken[i] ^ 1})+c.SessionToken[i+1:])
		check(fmt.Sprintf("newline at %d", i), c.AccessKeyID, c.SessionToken[:i]+"\n"+c.SessionToken[i:])
		check(fmt.Sprintf("without %d", i), c.AccessKeyID, c.SessionToken[:i]+c.SessionToken[i+1:])
		if i > 0 {
			check(fmt.Sprintf("cut at %d", i), c.AccessKeyID, c.SessionToken[:i])
		}
	}
	for _, tail := range []string{"=", "A", "AAAA", "\n", " "} {
		check("with "+tail, c.AccessKeyID, c.SessionToken+tail)
	}
	check("oversized", c.AccessKeyID, c.SessionToken+strings.Repeat("A", MaxTokenLength))
	other := mint(t, s, Grant{})
	message = ""
	_, _, err := s.Lookup(other.AccessKeyID, c.SessionToken, noon)
	if reasonOf(err) != ReasonBadToken {
		t.Errorf("another key's token: %v", err)
	}
	// Halves of two genuine tokens do not make a third.
	raw, _ := tokenBytes(c.SessionToken)
	second, _ := tokenBytes(other.SessionToken)
	mixed := append(append([]byte{}, raw[:headSize]...), second[headSize:]...)
	if _, _, err := s.Lookup(c.AccessKeyID, tokenPrefix+strictBase64.EncodeToString(mixed), noon); reasonOf(err) != ReasonBadToken {
		t.Errorf("mixed: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	s := testStore(t)
	c := mint(t, s, Grant{})
	for _, tt := range []struct {
		name, id, token string
		at              time.Time
		reason          Reason
		masked, has     string
	}{
		{"unknown id", "SOMETHINGELSE1234", "", noon, ReasonUnknownKey, "SOME…1234", "SOME…1234"},
		{"unknown id with a token", "SOMETHINGELSE1234", c.SessionToken, noon, ReasonUnknownKey, "SOME…1234", "not known"},
		{"empty id", "", "", noon, ReasonUnknownKey, "", "not known"},
		{"real user key", "AKIAIOSFODNN7EXAMPLE", "", noon, ReasonRealKey, "AKIA…MPLE", "should not be"},
		{"real session key", "ASIAIOSFODNN7EXAMPLE", c.SessionToken, noon, ReasonRealKey, "ASIA…MPLE", "should not be"},
		{"minted key alone", c.AccessKeyID, "", noon, ReasonTokenMissing, c.AccessKeyID, "AWS_SESSION_TOKEN"},
		{"static key with a token", ciStatic.AccessKeyID, c.SessionToken, noon, ReasonTokenUnexpected, ciStatic.AccessKeyID, "unset AWS_SESSION_TOKEN"},
		{"at its expiry", c.AccessKeyID, c.SessionToken, noon.Add(time.Hour), ReasonExpired, c.AccessKeyID, "expired at 2026-03-04T13:00:00Z"},
		{"far in the future", c.AccessKeyID, c.SessionToken, noon.Add(-6 * time.Minute), ReasonBadToken, c.AccessKeyID, "clocks"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, secret, err := s.Lookup(tt.id, tt.token, tt.at)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%v", err)
			}
			if e.Reason != tt.reason || e.AccessKeyID != tt.masked || !strings.Contains(e.Message, tt.has) {
				t.Errorf("%+v", e)
			}
			if secret != "" || g.Identity.Name != "" {
				t.Error("a refusal hands something out")
			}
			if IsRealKeyID(tt.id) && strings.Contains(e.Message, tt.id) {
				t.Error("the message repeats the real key id")
			}
		})
	}
	if _, _, err := s.Lookup(c.AccessKeyID, c.SessionToken, noon.Add(-4*time.Minute)); err != nil {
		t.Errorf("clocks that disagree a little: %v", err)
	}
}

func TestConfigurationWinsOverTokens(t *testing.T) {
	c := mint(t, testStore(t), Grant{})
	for _, tt := range []struct {
		name   string
		change func(*Options)
		want   Reason
	}{
		{"identity taken out", func(o *Options) { o.Identities, o.Static = nil, nil }, ReasonRevoked},
		{"role taken away", func(o *Options) {
			o.Static = nil
			o.Identities = []Identity{{Name: "ci", Roles: []string{"read"}}}
		}, ReasonRevoked},
		{"role still there", func(o *Options) {
			o.Static = nil
			o.Identities = []Identity{{Name: "ci", Roles: []string{"x", "deploy"}}}
		}, ""},
	} {
		_, _, err := testStore(t, tt.change).Lookup(c.AccessKeyID, c.SessionToken, noon)
		if reasonOf(err) != tt.want {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestMintRefusesWhatLookupWouldRefuse(t *testing.T) {
	s := testStore(t)
	long := make([]string, MaxParents+1)
	for name, g := range map[string]Grant{
		"nobody":        {Role: "deploy", Expires: noon.Add(time.Hour)},
		"unknown":       {Identity: Identity{Name: "x"}, Role: "deploy", Expires: noon.Add(time.Hour)},
		"other issuer":  {Identity: Identity{Name: "ci", Issuer: "https://x.example", Roles: []string{"deploy"}}, Role: "deploy", Expires: noon.Add(time.Hour)},
		"no such role":  {Identity: ci, Role: "admin", Expires: noon.Add(time.Hour)},
		"no expiry":     {Identity: ci, Role: "deploy"},
		"in the past":   {Identity: ci, Role: "deploy", Expires: noon},
		"too long":      {Identity: ci, Role: "deploy", Expires: noon.Add(36*time.Hour + time.Second)},
		"too many":      {Identity: ci, Role: "deploy", Expires: noon.Add(time.Hour), Parents: long},
		"too much":      {Identity: ci, Role: "deploy", Expires: noon.Add(time.Hour), Session: make([]byte, maxRecord)},
		"big attribute": {Identity: Identity{Name: "ci", Attributes: map[string]string{"a": strings.Repeat("x", MaxAttributeValue+1)}}, Role: "deploy", Expires: noon.Add(time.Hour)},
	} {
		if c, err := s.Mint(g); err == nil {
			t.Errorf("%s: minted %s", name, c)
		}
	}
	if _, err := testStore(t, func(o *Options) { o.SealingKeys = nil }).Mint(Grant{Identity: ci, Role: "deploy", Expires: noon.Add(time.Hour)}); err == nil || !strings.Contains(err.Error(), "sealing_keys") {
		t.Errorf("without a key: %v", err)
	}
	largest := Grant{Identity: ci, Role: "deploy", Expires: noon.Add(time.Hour), Session: bytes.Repeat([]byte("s"), maxRecord-100)}
	c := mint(t, s, largest)
	if len(c.SessionToken) > MaxTokenLength || len(c.SessionToken) < MaxTokenLength-200 {
		t.Errorf("a full token has %d characters", len(c.SessionToken))
	}
	if g, _, err := s.Lookup(c.AccessKeyID, c.SessionToken, noon); err != nil || !bytes.Equal(g.Session, largest.Session) {
		t.Errorf("%v", err)
	}
}

func TestNewNamesWhatIsWrong(t *testing.T) {
	with := func(change func(*Static)) Options {
		s := ciStatic
		change(&s)
		return Options{Identities: []Identity{ci}, Static: []Static{s}}
	}
	for _, tt := range []struct {
		opt  Options
		want string
	}{
		{with(func(s *Static) { s.AccessKeyID = "AKIAIOSFODNN7EXAMPLE" }), "identity: AKIA…MPLE looks like an access key id that AWS issued; client credentials must not be real keys: choose an id like CSIGAAAAAAAAAAAAAAAA"},
		{with(func(s *Static) { s.AccessKeyID = "short" }), "identity: access key id shor…: expected 16 to 128 letters, digits or underscores"},
		{with(func(s *Static) { s.SecretAccessKey = "guessable" }), "identity: the secret of CSIGAAAAAAAAAAAAAAAA has 9 characters, expected at least 20"},
		{with(func(s *Static) { s.SecretAccessKey += "\n" }), "identity: the secret of CSIGAAAAAAAAAAAAAAAA begins or ends with white space"},
		{with(func(s *Static) { s.Identity = "nobody" }), `identity: CSIGAAAAAAAAAAAAAAAA belongs to the identity "nobody", which is not configured`},
		{with(func(s *Static) { s.Role = "admin" }), `identity: CSIGAAAAAAAAAAAAAAAA: the identity "ci" has no role "admin"`},
		{Options{Identities: []Identity{ci}, Static: []Static{ciStatic, ciStatic}}, "identity: the access key id CSIGAAAAAAAAAAAAAAAA is configured twice"},
		{Options{Identities: []Identity{ci, ci}}, `identity: "ci" is configured twice`},
		{Options{Identities: []Identity{{}}}, "identity: an identity needs a name"},
		{Options{Identities: []Identity{{Name: "x", Issuer: "y"}}}, `identity: "x": a configured identity has no issuer`},
		{Options{Identities: []Identity{{Name: "a\nb"}}}, `identity: "a\nb": a name has at most 256 bytes and no control characters`},
		{Options{SealingKeys: []SealingKey{testKey(t, 1), testKey(t, 1)}}, "identity: the sealing key from memory is listed twice"},
	} {
		if _, err := New(tt.opt); err == nil || err.Error() != tt.want {
			t.Errorf("\n got %v\nwant %s", err, tt.want)
		}
	}
}

func TestNewPair(t *testing.T) {
	a, err := NewPair(nil, "ci", "read")
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewPair(nil, "ci", "read")
	if err != nil {
		t.Fatal(err)
	}
	if a.AccessKeyID == b.AccessKeyID || a.SecretAccessKey == b.SecretAccessKey {
		t.Error("the same pair twice")
	}
	s := testStore(t, func(o *Options) { o.Static = append(o.Static, a, b) })
	if g, secret, err := s.Lookup(a.AccessKeyID, "", noon); err != nil || secret != a.SecretAccessKey || g.Role != "read" {
		t.Errorf("%+v %v", g, err)
	}
	if _, err := NewPair(bytes.NewReader(nil), "ci", "read"); err == nil {
		t.Error("a pair without randomness")
	}
}

func TestMask(t *testing.T) {
	for id, want := range map[string]string{
		"CSIGAAAAAAAAAAAAAAAA": "CSIGAAAAAAAAAAAAAAAA", "AKIAIOSFODNN7EXAMPLE": "AKIA…MPLE", "short": "shor…", "abc": "abc", "": "",
		"CSIGAAAAAAAAAAAAAAA1": "CSIG…AAA1", "line\nbreak and more text": "line…text", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY": "wJal…EKEY",
	} {
		if got := Mask(id); got != want {
			t.Errorf("%q became %q, expected %q", id, got, want)
		}
	}
}

func TestRealKeyIDs(t *testing.T) {
	for id, want := range map[string]bool{
		"AKIAIOSFODNN7EXAMPLE": true, "ASIAIOSFODNN7EXAMPLE": true, "akiaiosfodnn7example": true, "ABIAIOSFODNN7EXAMPLE": true,
		"ACCAIOSFODNN7EXAMPLE": true, "A3TIOSFODNN7EXAMPLE0": true, "AKIASHORT": false, "CSIGAAAAAAAAAAAAAAAA": false,
		"MYAKIAIOSFODNN7EXAMPLE": false, "AKIA-IOSFODNN7EXAMPLE": false, "": false,
	} {
		if IsRealKeyID(id) != want {
			t.Errorf("%q: %v", id, !want)
		}
	}
}

func TestRevokedCredentials(t *testing.T) {
	path := filepath.Join(t.TempDir(), "revocations")
	later := func(d time.Duration) *time.Time { at := noon.Add(d); return &at }
	for _, tt := range []struct {
		name                                    string
		entry                                   Revocation
		minted, child, other, static, afterward Reason
	}{
		{"nothing", Revocation{ID: "CSIGZZZZZZZZZZZZZZZZ"}, "", "", "", "", ""},
		{"by id", Revocation{ID: "minted"}, ReasonRevoked, ReasonRevoked, "", "", ""},
		{"static id", Revocation{ID: ciStatic.AccessKeyID}, "", "", "", ReasonRevoked, ""},
		{"identity", Revocation{Identity: "ci"}, ReasonRevoked, ReasonRevoked, "", ReasonRevoked, ReasonRevoked},
		{"identity until now", Revocation{Identity: "ci", Before: later(time.Second)}, ReasonRevoked, ReasonRevoked, "", ReasonRevoked, ""},
		{"everybody until now", Revocation{Before: later(time.Second)}, ReasonRevoked, ReasonRevoked, ReasonRevoked, "", ""},
		{"everybody before", Revocation{Before: later(0)}, "", "", "", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := noon
			file := path + strings.ReplaceAll(tt.name, " ", "-")
			r, err := OpenRevocations(file)
			if err != nil {
				t.Fatal(err)
			}
			s := testStore(t, func(o *Options) {
				o.Identities = append(o.Identities, Identity{Name: "other", Roles: []string{"deploy"}})
				o.Revocations = r
				o.Now = func() time.Time { return at }
			})
			minted := mint(t, s, Grant{})
			child := mint(t, s, Grant{Parents: []string{"CSIGYYYYYYYYYYYYYYYY", minted.AccessKeyID}})
			other := mint(t, s, Grant{Identity: Identity{Name: "other"}})
			entry := tt.entry
			if entry.ID == "minted" {
				entry.ID = minted.AccessKeyID
			}
			if err := Revoke(file, noon, entry); err != nil {
				t.Fatal(err)
			}
			at = noon.Add(2 * time.Second)
			afterward := mint(t, s, Grant{})
			for _, c := range []struct {
				name      string
				id, token string
				want      Reason
			}{
				{"minted", minted.AccessKeyID, minted.SessionToken, tt.minted}, {"child", child.AccessKeyID, child.SessionToken, tt.child},
				{"other", other.AccessKeyID, other.SessionToken, tt.other}, {"static", ciStatic.AccessKeyID, "", tt.static},
				{"afterward", afterward.AccessKeyID, afterward.SessionToken, tt.afterward},
			} {
				if _, _, err := s.Lookup(c.id, c.token, at); reasonOf(err) != c.want {
					t.Errorf("%s: %v, expected %q", c.name, err, c.want)
				}
			}
		})
	}
}

func FuzzOpenToken(f *testing.F) {
	key, err := NewSealingKey(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		f.Fatal(err)
	}
	s, err := New(Options{Identities: []Identity{ci}, SealingKeys: []SealingKey{key}, Now: fixedNow,
		// Fixed, since each worker of the fuzzer makes the token anew.
		Rand: bytes.NewReader(make([]byte, nonceSize))})
	if err != nil {
		f.Fatal(err)
	}
	c, err := s.Mint(Grant{Identity: ci, Role: "deploy", Expires: noon.Add(time.Hour)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(c.AccessKeyID, c.SessionToken)
	f.Add(c.AccessKeyID, c.SessionToken[:40])
	f.Add("CSIGAAAAAAAAAAAAAAAA", "CS1."+base64.RawURLEncoding.EncodeToString(make([]byte, 80)))
	f.Add("", "CS2.")
	f.Fuzz(func(t *testing.T, id, token string) {
		_, secret, err := s.Lookup(id, token, noon)
		if genuine := id == c.AccessKeyID && token == c.SessionToken; genuine != (err == nil) || genuine != (secret != "") {
			t.Errorf("%q %q: %v", id, token, err)
		}
		if raw, ok := tokenBytes(token); ok && tokenPrefix+strictBase64.EncodeToString(raw) != token {
			t.Errorf("%q has a second spelling", token)
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	f.Add(appendRecord(nil, Grant{Identity: ci, Role: "deploy", Issued: noon, Expires: noon.Add(time.Hour), Parents: []string{"a", "b"}, Session: []byte("x")}))
	f.Add(appendRecord(nil, Grant{Issued: noon, Expires: noon}))
	f.Add([]byte{0x80, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if g, ok := parseRecord(b); ok && !bytes.Equal(appendRecord(nil, g), b) {
			t.Errorf("%x is written as %x", b, appendRecord(nil, g))
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	s := testStore(b)
	for name, size := range map[string]int{"role": 0, "virtual session": 400, "sealed real session": 2000} {
		b.Run(name, func(b *testing.B) {
			c := mint(b, s, Grant{Identity: Identity{Name: "ci", Attributes: map[string]string{"user": "ann"}}, Session: make([]byte, size)})
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := s.Lookup(c.AccessKeyID, c.SessionToken, noon); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
