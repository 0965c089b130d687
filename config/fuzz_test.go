package config

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// FuzzLoad: whatever the file holds, there is either a configuration that loads
// the same again, or a list of problems with places and without real key ids.
func FuzzLoad(f *testing.F) {
	f.Add(example, "COUNTERSIGN_LISTEN=127.0.0.1:1")
	f.Add([]byte("roles: {a: {via: a}}"), "COUNTERSIGN_ROLES_A_ARN=x")
	names, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, "COUNTERSIGN_TUNNEL=[a.example.com, b.example.com]")
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte, env string) {
		o := Options{Env: []string{env}, Home: "/home/user", Dir: dir}
		c, err := build(o, filepath.Join(dir, "c.yaml"), text)
		if err != nil {
			var ps Problems
			if !errors.As(err, &ps) || len(ps) == 0 || err.Error() == "" {
				t.Fatalf("%v", err)
			}
			return
		}
		if !LoopbackAddress(c.Listen) && c.Listen != "" && len(c.Identities)+len(c.Issuers) == 0 {
			t.Fatalf("open to everybody: %+v", c)
		}
		for name, id := range c.Identities {
			for _, role := range id.Roles {
				if _, ok := c.Roles[role]; !ok {
					t.Fatalf("%s has role %q, which does not exist", name, role)
				}
			}
		}
		if len(c.roleOrder) != len(c.Roles) {
			t.Fatalf("%d names of %d roles", len(c.roleOrder), len(c.Roles))
		}
	})
}
