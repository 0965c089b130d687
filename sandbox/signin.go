package sandbox

import (
	"crypto/subtle"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// signin is a sign-in token that was given out.
type signin struct {
	principal principal
	expires   time.Time // of the token
	session   time.Time // end of the console session
}

const (
	signinLife = 15 * time.Minute
	maxSignins = 10_000
)

var (
	signinHost  = regexp.MustCompile(`^(?:[a-z]{2,4}(?:-[a-z]+)+-\d+\.)?signin\.(?:aws\.amazon\.com|amazonaws-us-gov\.com|amazonaws\.cn|amazonaws-eusc\.eu)$`)
	consoleHost = regexp.MustCompile(`^(?:[a-z0-9-]+\.)*(?:console\.aws\.amazon\.com|console\.amazonaws-us-gov\.com|console\.amazonaws\.cn|console\.amazonaws-eusc\.eu)$`)
)

// isSignin says that the request is for the sign-in federation endpoint, the
// only one that takes requests without a signature.
func isSignin(c *call) bool {
	return signinHost.MatchString(c.hostOnly()) || c.URL.Path == "/federation" && c.Header.Get("Authorization") == ""
}

// serveSignin is the federation endpoint as documented in
// docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_enable-console-custom-url.html
func (s *Server) serveSignin(w http.ResponseWriter, c *call) error {
	c.record.Service = "signin"
	if c.URL.Path != "/federation" {
		return &apiError{404, "NotFound", "the sandbox's sign-in host has /federation alone"}
	}
	form, err := url.ParseQuery(c.URL.RawQuery)
	if err == nil && c.Method == http.MethodPost {
		if len(form) > 0 {
			return badRequest("parameters in the query string of a POST")
		}
		if c.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
			return badRequest("a POST that is not a form")
		}
		form, err = url.ParseQuery(string(c.body))
	} else if c.Method != http.MethodGet && c.Method != http.MethodPost {
		return &apiError{405, "MethodNotAllowed", "GET or POST"}
	}
	if err != nil {
		return badRequest("parameters that cannot be parsed")
	}
	c.record.Form = form
	allowed := map[string][]string{
		"getSigninToken": {"Action", "Session", "SessionDuration", "SessionType"},
		"login":          {"Action", "Issuer", "Destination", "SigninToken"},
	}[form.Get("Action")]
	for name, values := range form {
		known := false
		for _, a := range allowed {
			known = known || a == name
		}
		if !known || len(values) != 1 {
			return badRequest("unknown or repeated parameter " + strconv.Quote(name))
		}
	}
	switch form.Get("Action") {
	case "getSigninToken":
		c.record.Operation = "GetSigninToken"
		return s.getSigninToken(w, c, form)
	case "login":
		c.record.Operation = "Login"
		return s.login(w, c, form)
	}
	return badRequest("Action is neither getSigninToken nor login")
}

func badRequest(what string) error { return &apiError{400, "InvalidParameter", what} }

func (s *Server) getSigninToken(w http.ResponseWriter, c *call, form url.Values) error {
	if t := form.Get("SessionType"); form.Has("SessionType") && t != "json" {
		return badRequest("SessionType is not json")
	}
	var session map[string]string
	decoder := json.NewDecoder(strings.NewReader(form.Get("Session")))
	if err := decoder.Decode(&session); err != nil || len(session) != 3 {
		return badRequest("Session is not a JSON object of sessionId, sessionKey and sessionToken")
	}
	if _, err := decoder.Token(); err != io.EOF {
		return badRequest("Session holds more than one JSON value")
	}
	id, key, token := session["sessionId"], session["sessionKey"], session["sessionToken"]
	if id == "" || key == "" || token == "" {
		return badRequest("Session needs sessionId, sessionKey and sessionToken; long-term keys cannot sign in")
	}
	p, err := s.lookup(id, token, c.now)
	if err != nil && s.options.Foreign != nil {
		if other, ok := s.options.Foreign(id); ok && subtle.ConstantTimeCompare([]byte(other.Credentials.SessionToken), []byte(token)) == 1 {
			p = principal{credentials: other.Credentials, arn: other.ARN, expires: other.Credentials.Expires, chained: other.Chained,
				federated: strings.Contains(other.ARN, ":federated-user/")}
			err = nil
			if !c.now.Before(p.expires) {
				err = &apiError{403, "ExpiredToken", "The security token included in the request is expired"}
			}
		}
	}
	if err != nil {
		return err
	}
	if !strings.Contains(p.arn, ":assumed-role/") && !strings.Contains(p.arn, ":federated-user/") {
		return badRequest("Session is not that of a role or federated user")
	}
	if subtle.ConstantTimeCompare([]byte(p.credentials.SecretAccessKey), []byte(key)) != 1 {
		return &apiError{403, "InvalidClientTokenId", "The security token included in the request is invalid."}
	}
	c.record.AccessKeyID, c.record.Principal = id, p.arn
	end := p.expires
	if text := form.Get("SessionDuration"); form.Has("SessionDuration") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 900 || n > 43200 {
			return badRequest("SessionDuration must be between 900 and 43200 seconds")
		}
		if p.federated {
			return badRequest("SessionDuration cannot be used with credentials of GetFederationToken")
		}
		if p.longest > 0 && time.Duration(n)*time.Second > p.longest {
			return badRequest("SessionDuration exceeds the maximum session duration of the role")
		}
		if p.chained {
			return badRequest("SessionDuration cannot be used with credentials obtained by role chaining")
		}
		end = c.now.Add(time.Duration(n) * time.Second)
	}
	signinToken := secret(80)
	s.mu.Lock()
	defer s.mu.Unlock()
	for old, t := range s.signins {
		if !c.now.Before(t.expires) {
			delete(s.signins, old)
		}
	}
	if len(s.signins) >= maxSignins {
		return &apiError{400, "Throttling", "the sandbox has given out too many sign-in tokens"}
	}
	s.signins[signinToken] = signin{principal: p, expires: c.now.Add(signinLife), session: end}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	// The client that is gone needs no answer.
	_ = json.NewEncoder(w).Encode(map[string]string{"SigninToken": signinToken})
	return nil
}

func (s *Server) login(w http.ResponseWriter, c *call, form url.Values) error {
	destination, err := url.Parse(form.Get("Destination"))
	if err != nil || destination.Scheme != "https" || !consoleHost.MatchString(destination.Host) {
		return badRequest("Destination is not the address of a console page")
	}
	s.mu.Lock()
	t, ok := s.signins[form.Get("SigninToken")]
	s.mu.Unlock()
	if !ok || !c.now.Before(t.expires) {
		return &apiError{400, "InvalidSigninToken", "the sign-in token is unknown or older than 15 minutes"}
	}
	c.record.AccessKeyID, c.record.Principal = t.principal.credentials.AccessKeyID, t.principal.arn
	http.SetCookie(w, &http.Cookie{Name: "sandbox-console", Value: "signed-in", Path: "/", Expires: t.session, Secure: true, HttpOnly: true})
	http.Redirect(w, c.Request, destination.String(), http.StatusFound)
	return nil
}
