package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Limits of SessionDuration, and of GetFederationToken, whose sessions the console
// takes for as long as they are.
const (
	minSessionDuration = 15 * time.Minute
	maxSessionDuration = 12 * time.Hour
	maxFederation      = 36 * time.Hour
	maxRootFederation  = time.Hour
	// tokenLife is how long AWS accepts a sign-in token.
	tokenLife = 15 * time.Minute
)

const (
	signinTimeout  = 10 * time.Second // of one attempt
	signinAttempts = 3
	signinPause    = 200 * time.Millisecond // after the first attempt; doubles
	maxSigninReply = 64 << 10
)

// signin speaks to AWS's sign-in endpoints, as in "Enable custom identity broker
// access to the AWS console" of the IAM user guide.
type signin struct {
	client *http.Client
	pause  func(ctx context.Context, d time.Duration) error
}

func newSignin(client *http.Client) *signin {
	if client == nil {
		client = &http.Client{}
	}
	// An answer that sends us elsewhere must not take the session along.
	own := *client
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &signin{client: &own, pause: sleep}
}

// token exchanges temporary credentials for a sign-in token, and says at which host
// it was had: that is where it is good. duration 0 leaves SessionDuration out.
func (s *signin) token(ctx context.Context, hosts []string, creds aws.Credentials, duration time.Duration) (token, host string, err error) {
	session, err := json.Marshal(struct {
		ID    string `json:"sessionId"`
		Key   string `json:"sessionKey"`
		Token string `json:"sessionToken"`
	}{creds.AccessKeyID, creds.SecretAccessKey, creds.SessionToken})
	if err != nil {
		return "", "", fmt.Errorf("console: %w", err)
	}
	form := url.Values{"Action": {"getSigninToken"}, "Session": {string(session)}}
	if duration > 0 {
		form.Set("SessionDuration", strconv.Itoa(int(duration/time.Second)))
	}
	body := []byte(form.Encode())
	wait := signinPause
	var last error
	for i := range signinAttempts {
		if i > 0 {
			if err := s.pause(ctx, wait); err != nil {
				return "", "", err
			}
			wait *= 2
		}
		host = hosts[i%len(hosts)]
		var again bool
		token, again, last = s.ask(ctx, host, body)
		if last == nil {
			return token, host, nil
		}
		if ctx.Err() != nil {
			return "", "", ctx.Err()
		}
		if !again {
			break
		}
	}
	return "", "", last
}

// ask makes one attempt. The session goes into the body of a POST: it is too long
// for some URL limits, and URLs are logged.
func (s *signin) ask(ctx context.Context, host string, body []byte) (token string, again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, signinTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+host+"/federation", bytes.NewReader(body))
	if err != nil {
		return "", false, fmt.Errorf("console: %w", err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	res, err := s.client.Do(r)
	if err != nil {
		// The error of an http.Client quotes the URL, which holds nothing here.
		return "", true, &Error{Kind: KindUnreachable, Err: err,
			Message: fmt.Sprintf("AWS's sign-in endpoint %s cannot be reached: %v. Check the way out of the proxy (upstream.proxy).", host, plainError(err))}
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxSigninReply))
	if err != nil {
		return "", true, &Error{Kind: KindUnreachable, Err: err, Message: fmt.Sprintf("AWS's sign-in endpoint %s broke off its answer: %v.", host, plainError(err))}
	}
	if res.StatusCode != http.StatusOK {
		return "", res.StatusCode >= 500 || res.StatusCode == http.StatusTooManyRequests, refused(host, res.StatusCode)
	}
	var out struct{ SigninToken string }
	if err := json.Unmarshal(text, &out); err != nil || out.SigninToken == "" {
		return "", false, &Error{Kind: KindRefused, Message: fmt.Sprintf("AWS's sign-in endpoint %s answered with something else than a sign-in token.", host)}
	}
	return out.SigninToken, false, nil
}

// refusal is a status with which the endpoint said no. What it says beside is left
// out: it may repeat the session.
type refusal int

func (r refusal) Error() string { return http.StatusText(int(r)) }

func refused(host string, status int) error {
	kind, advice := KindRefused, "AWS takes temporary credentials of a role or federated user alone, and not those of GetSessionToken."
	switch {
	case status == http.StatusForbidden || status == http.StatusUnauthorized:
		advice = "The role session was not accepted: it may have been revoked (a policy that denies older sessions), or the role deleted."
	case status == http.StatusTooManyRequests || status >= 500:
		kind, advice = KindUnreachable, "Try again."
	}
	return &Error{Kind: kind, Err: refusal(status), Message: fmt.Sprintf("AWS's sign-in endpoint %s refused (%d %s). %s", host, status, http.StatusText(status), advice)}
}

// badRequest says whether the endpoint did not accept a parameter.
func badRequest(err error) bool {
	var r refusal
	return errors.As(err, &r) && int(r) == http.StatusBadRequest
}

// loginURL is where the browser goes with the token.
func loginURL(host, token, issuer, destination string) string {
	form := url.Values{"Action": {"login"}, "Destination": {destination}, "SigninToken": {token}}
	if issuer != "" {
		form.Set("Issuer", issuer)
	}
	return "https://" + host + "/federation?" + form.Encode()
}

// plainError leaves the URL out of what an http.Client reports.
func plainError(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
