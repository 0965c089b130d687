package identity

import (
	"crypto/rand"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSealingKeyIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sealing.key")
	var wg sync.WaitGroup
	keys := make([]SealingKey, 20)
	for i := range keys {
		wg.Go(func() {
			var err error
			if keys[i], err = LoadOrCreateSealingKey(path, rand.Reader); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, k := range keys {
		if string(k.secret) != string(keys[0].secret) || len(k.secret) != 32 {
			t.Fatal("processes that start at once have different keys")
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v %v", entries, err)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(text), "countersign-sealing-key-v1\n") {
		t.Errorf("%v", err)
	}
}

func TestSealingKeyFilesThatAreRefused(t *testing.T) {
	good := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for _, tt := range []struct {
		name, text string
		mode       os.FileMode
		want       string // "" is accepted
	}{
		{"as made here", sealingKeyHeader + "\n" + good + "\n", 0o600, ""},
		{"as openssl prints it", good + "\n", 0o600, ""},
		{"mounted for a group", good, 0o440, ""},
		{"readable by others", good, 0o604, "chmod 600"},
		{"writable by the group", good, 0o620, "chmod 600"},
		{"empty", "\n", 0o600, "is empty"},
		{"short", base64.StdEncoding.EncodeToString(make([]byte, 31)), 0o600, "holds 31 bytes, expected 32 to 128"},
		{"no base64", "correct horse battery staple", 0o600, "is damaged: expected one line of base64"},
		{"two lines", good + "\n" + good, 0o600, "is damaged"},
		{"cut", sealingKeyHeader + "\n" + good[:40], 0o600, "expected"},
		{"long", strings.Repeat("A", 5000), 0o600, "is larger than 4096 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			_, err := LoadOrCreateSealingKey(path, rand.Reader)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%v", err)
			}
			if strings.Contains(err.Error(), "horse") {
				t.Error("the message quotes the file")
			}
			if after, _ := os.ReadFile(path); string(after) != tt.text {
				t.Error("the file was changed")
			}
		})
	}
	if _, err := LoadSealingKey(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("%v", err)
	}
}

func TestRevocationsFailClosed(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, path string)
		want string
	}{
		{"damaged", func(t *testing.T, path string) { write(t, path, `{"id":"x"}`+"\n"+`{"id":`) }, "line 2: unexpected EOF"},
		{"unknown key", func(t *testing.T, path string) { write(t, path, `{"id":"x","unless":"y"}`) }, `line 1: json: unknown field "unless"`},
		{"nothing meant", func(t *testing.T, path string) { write(t, path, `{"note":"x"}`) }, "line 1: expected id, identity or before"},
		{"too much meant", func(t *testing.T, path string) { write(t, path, `{"id":"x","identity":"y"}`) }, "line 1: id stands alone"},
		{"two in a line", func(t *testing.T, path string) { write(t, path, `{"id":"x"}{"id":"y"}`) }, "line 1: more than one JSON object"},
		{"zero time", func(t *testing.T, path string) { write(t, path, `{"before":"0001-01-01T00:00:00Z"}`) }, "line 1: before is the zero time"},
		{"vanished", func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, "has vanished: restore it"},
		{"writable by others", func(t *testing.T, path string) {
			if err := os.Chmod(path, 0o666); err != nil {
				t.Fatal(err)
			}
			write(t, path, "\n\n")
		}, "chmod go-w"},
		{"a directory", func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "revocations")
			write(t, path, "")
			r, err := OpenRevocations(path)
			if err != nil {
				t.Fatal(err)
			}
			s := testStore(t, func(o *Options) { o.Revocations = r })
			now := time.Now()
			if _, _, err := s.Lookup(ciStatic.AccessKeyID, "", now); err != nil {
				t.Fatal(err)
			}
			tt.do(t, path)
			now = now.Add(300 * time.Millisecond)
			_, _, err = s.Lookup(ciStatic.AccessKeyID, "", now)
			if reasonOf(err) != ReasonUnavailable || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v", err)
			}
			if _, err := s.WebIdentity(t.Context(), "x", now); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v", err)
			}
			// Mended, it serves again.
			os.RemoveAll(path)
			write(t, path, `{"id":"CSIGZZZZZZZZZZZZZZZZ"}`)
			now = now.Add(300 * time.Millisecond)
			if _, _, err := s.Lookup(ciStatic.AccessKeyID, "", now); err != nil {
				t.Errorf("mended: %v", err)
			}
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRevocationsFileThatNeverWasMeansNothingRevoked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "revocations")
	r, err := OpenRevocations(path)
	if err != nil {
		t.Fatal(err)
	}
	s := testStore(t, func(o *Options) { o.Revocations = r })
	now := time.Now()
	if _, _, err := s.Lookup(ciStatic.AccessKeyID, "", now); err != nil {
		t.Error(err)
	}
	write(t, path, `{"identity":"ci"}`)
	if _, _, err := s.Lookup(ciStatic.AccessKeyID, "", now.Add(300*time.Millisecond)); reasonOf(err) != ReasonRevoked {
		t.Errorf("%v", err)
	}
}

// A second change within the time stamp's resolution, of the same length, in the same file.
func TestSwiftSecondChangeIsSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "revocations")
	write(t, path, `{"identity":"xx"}`)
	stamp := time.Now()
	r, err := OpenRevocations(path)
	if err != nil {
		t.Fatal(err)
	}
	s := testStore(t, func(o *Options) { o.Revocations = r })
	write(t, path, `{"identity":"ci"}`)
	if err := os.Chtimes(path, stamp, stamp); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Lookup(ciStatic.AccessKeyID, "", time.Now().Add(300*time.Millisecond)); reasonOf(err) != ReasonRevoked {
		t.Errorf("%v", err)
	}
}

func TestRevokeKeepsWhatIsThereAndDropsWhatIsOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "revocations")
	past, future := noon.Add(-time.Second), noon.Add(time.Hour)
	write(t, path, "")
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			id := "CSIG" + strings.Repeat(string(rune('A'+i)), 16)
			if err := Revoke(path, noon, Revocation{ID: id}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := Revoke(path, noon, Revocation{ID: "over", Until: &past}, Revocation{ID: "not yet", Until: &future, By: "ann", Note: "lost laptop"}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list, err := parseRevocations(f)
	if err != nil || len(list) != 11 {
		t.Fatalf("%d entries, %v", len(list), err)
	}
	want := Revocation{ID: "not yet", At: noon, By: "ann", Note: "lost laptop", Until: &future}
	if diff := cmp.Diff(want, list[10]); diff != "" {
		t.Error(diff)
	}
	if info, err := f.Stat(); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	write(t, path, "{")
	if err := Revoke(path, noon, Revocation{ID: "x"}); err == nil || !strings.Contains(err.Error(), "left alone") {
		t.Errorf("%v", err)
	}
	if err := Revoke(path, noon, Revocation{}); err == nil {
		t.Error("an empty revocation was written")
	}
}

func FuzzParseRevocations(f *testing.F) {
	f.Add(`{"id":"x"}` + "\n\n" + `{"identity":"y","before":"2026-01-01T00:00:00Z"}`)
	f.Add("{")
	f.Add(`{"before":"2026-01-01T00:00:00+14:00","until":"2026-01-01T00:00:00Z"}`)
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseRevocations(strings.NewReader(text))
		if err != nil && list != nil {
			t.Error("entries beside an error")
		}
		for _, e := range list {
			if e.check() != nil {
				t.Errorf("%+v", e)
			}
		}
	})
}
