package console

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/shell"
)

// Terminal is what programs on a person's own machine need to use the proxy.
type Terminal struct {
	ProxyURL string
	// ProxyFor is ProxyURL with the credentials in it, where the proxy asks for
	// them; nil: it does not.
	ProxyFor func(identity.Credentials) string
	Bundle   string        // path of the trust bundle on this machine
	CA       func() []byte // what to trust elsewhere, PEM; nil: not offered
	Region   string
	NoProxy  string
	Flags    string        // of the countersign commands, such as "--config /etc/countersign.yaml"
	Life     time.Duration // of the credentials; 0 is DefaultLifetime
}

// shellLines are what the page has for one shell.
type shellLines struct {
	Name string
	Set  string // lines that set the variables; "" where there are no credentials yet
	Env  string // line that takes the settings from `countersign env`
	Exec string
}

type variable struct{ name, value string }

// terminal shows how to use a role outside the browser.
func (s *Server) terminal(w http.ResponseWriter, r *http.Request, p *person) {
	s.showTerminal(w, p, r.URL.Query().Get("role"), identity.Credentials{})
}

// credentials mints client credentials and shows them once.
func (s *Server) credentials(w http.ResponseWriter, r *http.Request, p *person) {
	role := r.PostForm.Get("role")
	now := s.opt.Now()
	e := entry{who: p, operation: "Credentials", role: role, status: http.StatusOK, reason: "client credentials"}
	pending, err := s.reserve(r.Context())
	if err != nil {
		s.fail(w, http.StatusServiceUnavailable, p, "No credentials were made", err.Error())
		return
	}
	state := s.opt.Current()
	var creds identity.Credentials
	if _, ok := state.role(role); !ok || !p.HasRole(role) {
		e.deny, e.status = string(KindNotGranted), http.StatusForbidden
	} else if !s.limits.opening(p.Name) {
		e.deny, e.status = string(KindRate), http.StatusTooManyRequests
	} else {
		life := s.opt.Terminal.Life
		if life <= 0 {
			life = DefaultLifetime
		}
		creds, err = state.Identities.Mint(identity.Grant{Identity: p.Identity, Role: role, Expires: now.Add(life)})
		if err != nil {
			e.deny, e.err, e.status = "failed", err, http.StatusInternalServerError
		} else {
			e.resource = creds.AccessKeyID
		}
	}
	pending.Finish(s.line(r, now, e))
	if e.deny != "" {
		s.fail(w, e.status, p, "No credentials were made", "The role is not one of yours, or the proxy cannot mint credentials now ("+e.deny+").")
		return
	}
	s.showTerminal(w, p, role, creds)
}

func (s *Server) showTerminal(w http.ResponseWriter, p *person, name string, creds identity.Credentials) {
	role, ok := s.opt.Current().role(name)
	if !ok || !p.HasRole(name) {
		s.fail(w, http.StatusForbidden, p, "Not one of your roles", "You may not use a role of that name.")
		return
	}
	t := s.opt.Terminal
	flags := ""
	if t.Flags != "" {
		flags = " " + t.Flags
	}
	if p.Issuer == "" && p.Name != "local" {
		flags += " --identity " + shell.QuotePOSIX(p.Name)
	}
	flags += " --role " + shell.QuotePOSIX(name)
	// A person at another machine has neither configuration nor key there.
	local := s.opt.Local && p.Issuer == ""
	var vars []variable
	if creds.AccessKeyID != "" {
		proxy := t.ProxyURL
		if t.ProxyFor != nil {
			proxy = t.ProxyFor(creds)
		}
		vars = []variable{{"HTTPS_PROXY", proxy}, {"NO_PROXY", t.NoProxy}}
		if local {
			vars = append(vars, variable{"AWS_CA_BUNDLE", t.Bundle})
		} else {
			vars = append(vars, variable{"AWS_CA_BUNDLE", "countersign-ca.pem"})
		}
		vars = append(vars, variable{"AWS_ACCESS_KEY_ID", creds.AccessKeyID}, variable{"AWS_SECRET_ACCESS_KEY", creds.SecretAccessKey},
			variable{"AWS_SESSION_TOKEN", creds.SessionToken}, variable{"AWS_REGION", t.Region})
		vars = slices.DeleteFunc(vars, func(v variable) bool { return v.value == "" })
	}
	shells := []shellLines{
		{Name: "bash, zsh", Env: `eval "$(countersign env` + flags + `)"`},
		{Name: "fish", Env: "countersign env" + flags + " --format fish | source"},
		{Name: "PowerShell", Env: "countersign env" + flags + " --format powershell | Out-String | Invoke-Expression"},
	}
	for i, set := range []func(name, value string) string{shell.SetPOSIX, shell.SetFish, shell.SetPowerShell} {
		var lines []string
		for _, v := range vars {
			lines = append(lines, set(v.name, v.value))
		}
		shells[i].Set = strings.Join(lines, "\n")
		shells[i].Exec = "countersign exec" + flags + " -- aws sts get-caller-identity"
	}
	expires := ""
	if !creds.Expires.IsZero() {
		expires = creds.Expires.UTC().Format("2006-01-02 15:04 UTC")
	}
	s.render(w, http.StatusOK, "terminal.html", view{Title: "Use " + name + " in a terminal", Person: p, Data: struct {
		Role    Role
		Shells  []shellLines
		Local   bool
		CA      bool
		Expires string
	}{role, shells, local, t.CA != nil, expires}})
}
