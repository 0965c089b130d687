package pipeline

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/aws/aws-sdk-go-v2/aws"
)

func TestErrorsOfAWSDoNotQuoteTheSessionToken(t *testing.T) {
	const token = "IQoJb3JpZ2luX2VjEA+/real/session/token=="
	status := http.StatusForbidden
	h := setup(t, func(o *Options) {
		withSource(t, o, nil, func() aws.Credentials {
			c := sourceKeys
			c.SessionToken, c.AccountID = token, "123456789012"
			return c
		})
	}, func(w http.ResponseWriter, r *http.Request) {
		sent := r.Header.Get("X-Amz-Security-Token")
		text := "<Error><Code>InvalidToken</Code><Token-0>" + sent + "</Token-0>" + url.QueryEscape(sent) + "</Error>"
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text[:60])
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, text[60:])
	})
	_, body := h.send(get("/key"), nil)
	escaped := url.QueryEscape(token)
	want := "<Error><Code>InvalidToken</Code><Token-0>" + strings.Repeat("*", len(token)) + "</Token-0>" + strings.Repeat("*", len(escaped)) + "</Error>"
	if body != want {
		t.Errorf("got  %s\nwant %s", body, want)
	}
	if seen := h.arrived(); len(seen) != 1 || seen[0].Header.Get("X-Amz-Security-Token") != token {
		t.Errorf("%+v", seen)
	}
	// What is no error is the customer's data.
	status = http.StatusOK
	if _, body = h.send(get("/key"), nil); !strings.Contains(body, token) {
		t.Errorf("data was changed: %s", body)
	}
}

func TestMaskedBody(t *testing.T) {
	const secret = "aab-aab-c"
	for _, text := range []string{
		"", "plain", secret, "a" + secret, "aab-" + secret + "aab-aab-", secret + secret + "x", "aab-aab-aab-c", strings.Repeat("aab-aab-", 900) + "c", "aab-aab-",
	} {
		want := strings.ReplaceAll(text, secret, strings.Repeat("*", len(secret)))
		for name, r := range map[string]io.Reader{
			"whole": strings.NewReader(text), "by bytes": iotest.OneByteReader(strings.NewReader(text)), "with the end": iotest.DataErrReader(strings.NewReader(text)),
		} {
			got, err := io.ReadAll(iotest.HalfReader(&maskedBody{src: io.NopCloser(r), secret: []byte(secret)}))
			if err != nil || string(got) != want {
				t.Errorf("%.40q %s: %q, %v", text, name, got, err)
			}
		}
	}
	// An error keeps what came before it.
	got, err := io.ReadAll(&maskedBody{src: io.NopCloser(io.MultiReader(strings.NewReader("x aab-"), iotest.ErrReader(io.ErrUnexpectedEOF))), secret: []byte(secret)})
	if string(got) != "x aab-" || err != io.ErrUnexpectedEOF {
		t.Errorf("%q, %v", got, err)
	}
}
