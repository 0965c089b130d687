//go:build unix

package safefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// put writes a file with the mode, whatever the umask.
func put(t *testing.T, path, content string, mode fs.FileMode) string {
	t.Helper()
	if err := errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	return path
}

var rules = []Rule{Own, Private, Trusted, Any}

func TestModes(t *testing.T) {
	type verdict struct{ own, private, trusted, any bool }
	all, readable, none := verdict{true, true, true, true}, verdict{false, false, true, true}, verdict{false, false, false, true}
	for _, tt := range []struct {
		name string
		mode fs.FileMode
		want verdict
	}{
		{"the owner alone", 0o600, all},
		{"the owner alone, to read", 0o400, all},
		{"the owner alone, a folder", 0o700, all},
		{"the group reads (Kubernetes with fsGroup)", 0o440, all},
		{"the group reads", 0o640, all},
		{"the group enters a folder", 0o750, all},
		{"others read", 0o604, readable},
		{"all read (the default mode of Kubernetes Secrets)", 0o644, readable},
		{"others enter a folder", 0o701, readable},
		{"all list a folder", 0o755, readable},
		{"the group changes it", 0o620, none},
		{"the group changes a folder", 0o770, none},
		{"others change it", 0o602, none},
		{"all change it", 0o666, none},
		{"all change a folder that is sticky", 0o777 | fs.ModeSticky, none},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := put(t, filepath.Join(dir, "file"), "s3cret", tt.mode)
			folder := filepath.Join(dir, "folder")
			if err := errors.Join(os.Mkdir(folder, 0o700), os.Chmod(folder, tt.mode)); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(folder)
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range []bool{tt.want.own, tt.want.private, tt.want.trusted, tt.want.any} {
				for path, err := range map[string]error{path: Check(path, rules[i]), folder: Judge(folder, info, rules[i])} {
					var exposed *ExposedError
					if errors.As(err, &exposed); (err == nil) != want || (exposed == nil) != want {
						t.Errorf("rule %d of %s: %v", rules[i], path, err)
					} else if exposed != nil && (exposed.Path != path || exposed.Mode.Perm() != tt.mode.Perm() || exposed.Rule != rules[i] || exposed.Owner != 0) {
						t.Errorf("rule %d of %s: %+v", rules[i], path, exposed)
					}
				}
			}
		})
	}
}

func TestOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	for owner, want := range map[int]error{
		0:     nil,
		54321: &ExposedError{Rule: Own, Mode: 0o600, Owner: 54321},
	} {
		path := put(t, filepath.Join(t.TempDir(), "file"), "s3cret", 0o600)
		if err := os.Chown(path, owner, owner); err != nil {
			t.Fatal(err)
		}
		if e, ok := want.(*ExposedError); ok {
			e.Path = path
		}
		if diff := cmp.Diff(want, Check(path, Own)); diff != "" {
			t.Errorf("user %d: %s", owner, diff)
		}
		for _, rule := range []Rule{Private, Trusted, Any} {
			if err := Check(path, rule); err != nil {
				t.Errorf("user %d, rule %d: %v", owner, rule, err)
			}
		}
	}
}

func TestWhatExposedErrorsSay(t *testing.T) {
	for _, tt := range []struct {
		err  ExposedError
		want string
	}{
		{ExposedError{Path: "k", Rule: Private, Mode: 0o644}, "k has mode 0644, so that others can read it or the group can change it; expected 0600: chmod 600 k"},
		{ExposedError{Path: "d", Rule: Own, Mode: fs.ModeDir | 0o755}, "d has mode 0755, so that others can read it or the group can change it; expected 0700: chmod 700 d"},
		{ExposedError{Path: "r", Rule: Trusted, Mode: 0o666}, "r has mode 0666, so that others can change it: chmod go-w r"},
		{ExposedError{Path: "k", Rule: Own, Mode: 0o600, Owner: 1000}, "k belongs to user 1000, who can change it at any time; run countersign as that user"},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

// The one who put a link into the folder could have put the file there as well.
func TestLinksAreJudgedByTheirTarget(t *testing.T) {
	dir := t.TempDir()
	target, link := put(t, filepath.Join(dir, "target"), "s3cret", 0o600), filepath.Join(dir, "link")
	if err := os.Symlink("target", link); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(link, Own, 6); err != nil || string(got) != "s3cret" {
		t.Errorf("%q %v", got, err)
	}
	put(t, target, "s3cret", 0o644)
	if err := Check(link, Own); !errors.As(err, new(*ExposedError)) {
		t.Error(err)
	}
}

func TestWhatIsNoFileIsRefusedAtOnce(t *testing.T) {
	dir, pipe := t.TempDir(), filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"folder": dir, "named pipe": pipe, "device": os.DevNull} {
		for _, rule := range rules {
			err := Check(path, rule)
			if want := fmt.Sprintf("open %s: not a regular file", path); !errors.Is(err, ErrNotRegular) || err.Error() != want {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	// A pipe that took the place of the file after it was looked at does not block.
	if f, _, err := open(pipe, Any); f != nil || !errors.Is(err, ErrNotRegular) {
		t.Errorf("%v", err)
	}
	if err := Check(filepath.Join(dir, "none"), Any); !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "open ") {
		t.Error(err)
	}
}

func TestReadHasALimit(t *testing.T) {
	path := put(t, filepath.Join(t.TempDir(), "file"), "s3cret", 0o600)
	if got, err := Read(path, Private, 6); err != nil || string(got) != "s3cret" {
		t.Errorf("%q %v", got, err)
	}
	got, err := Read(path, Private, 5)
	if diff := cmp.Diff(error(&TooLargeError{path, 5}), err); diff != "" || got != nil {
		t.Errorf("%q %s", got, diff)
	}
}

func TestReadSecretAndReadToken(t *testing.T) {
	long := strings.Repeat("s3cret", MaxSecret/6+1)
	for _, tt := range []struct {
		name, content string
		mode          fs.FileMode
		secret, token string // what is read; or what the error says after the path
	}{
		{"alone", "s3cret/+", 0o600, "s3cret/+", "s3cret/+"},
		{"with a line end", "s3cret/+\n", 0o600, "s3cret/+", "s3cret/+"},
		{"with a line end of Windows", "s3cret/+\r\n", 0o600, "s3cret/+", "s3cret/+"},
		{"with spaces, which are part of it", " s3cret ", 0o600, " s3cret ", " s3cret "},
		{"mounted for a group", "s3cret", 0o440, "s3cret", "s3cret"},
		{"as long as it may be", long[:MaxSecret], 0o600, long[:MaxSecret], long[:MaxSecret]},
		{"open to others", "s3cret", 0o644, "! has mode 0644", "s3cret"},
		{"the group may write", "s3cret", 0o620, "! has mode 0620", "s3cret"},
		{"empty", "\n", 0o600, "! is empty; expected a secret", "! is empty; expected a secret"},
		{"several lines", "s3cret\nmore", 0o600, "! has several lines; expected a secret alone", "! has several lines; expected a secret alone"},
		{"a zero byte", "s3cret\x00", 0o600, "! has several lines", "! has several lines"},
		{"too long", long, 0o600, "! is larger than 65536 bytes; expected a secret", "! is larger than 65536 bytes; expected a secret"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := put(t, filepath.Join(t.TempDir(), "file"), tt.content, tt.mode)
			for _, way := range []struct {
				read func(string) (string, error)
				want string
			}{{ReadSecret, tt.secret}, {ReadToken, tt.token}} {
				got, err := way.read(path)
				says, bad := strings.CutPrefix(way.want, "!")
				switch {
				case !bad:
					if err != nil || got != way.want {
						t.Errorf("got %q, %v", got, err)
					}
				case err == nil || got != "" || !strings.HasPrefix(err.Error(), path+says):
					t.Errorf("got %q, %v", got, err)
				case strings.Contains(err.Error(), "s3cret"):
					t.Errorf("the error repeats the secret: %v", err)
				}
			}
		})
	}
}
