package pipeline

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

func TestRedirectsOfPresignedRequestsKeepTheSignature(t *testing.T) {
	const host = "bucket.s3.us-east-1.amazonaws.com"
	const other = "https://bucket.s3.eu-west-1.amazonaws.com"
	r, err := http.NewRequest(http.MethodGet, "https://"+host+"/key?X-Amz-Expires=600", nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, _, err := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }).
		PresignHTTP(t.Context(), clientKeys, r, "UNSIGNED-PAYLOAD", "s3", "us-east-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	target := strings.TrimPrefix(signed, "https://"+host)
	for name, c := range map[string]struct {
		location func(target string) string
		want     string
	}{
		"as S3 does it":        {func(target string) string { return other + target }, other + target},
		"within another query": {func(target string) string { return other + "/?to=" + url.QueryEscape(target) }, other + "/"},
		"another's signature":  {func(string) string { return other + "/layer?X-Amz-Signature=abc" }, other + "/layer?X-Amz-Signature=abc"},
	} {
		h := setup(t, nil, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", c.location(r.RequestURI))
			w.WriteHeader(http.StatusTemporaryRedirect)
		})
		conn, err := net.Dial("tcp", h.front.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET "+target+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := res.Header.Get("Location"); res.StatusCode != http.StatusTemporaryRedirect || got != c.want {
			t.Errorf("%s: %s\n got %s\nwant %s", name, res.Status, got, c.want)
		}
		if seen := h.arrived(); len(seen) != 1 || !strings.Contains(seen[0].Target, sourceKeys.AccessKeyID) {
			t.Errorf("%s: %+v", name, seen)
		}
	}
}
