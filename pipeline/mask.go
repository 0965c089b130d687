package pipeline

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
)

// hideToken takes the session token that the request went out with out of AWS's
// errors. Some quote it: S3 in InvalidToken and ExpiredToken, and whoever answers
// SignatureDoesNotMatch with the canonical request. Nothing can be signed with a token
// alone; it is not the client's all the same. Each byte of it becomes an asterisk, so
// that lengths stay true.
func (x *exchange) hideToken(res *http.Response) {
	token := x.session.Credentials.SessionToken
	if x.verified == nil || res.StatusCode < 400 || token == "" || res.Body == http.NoBody {
		return
	}
	res.Body = &maskedBody{src: res.Body, secret: []byte(token)}
	if escaped := url.QueryEscape(token); escaped != token { // as in the canonical request of a presigned one
		res.Body = &maskedBody{src: res.Body, secret: []byte(escaped)}
	}
}

// maskedBody is a body without a secret. Bytes go on as they come, but for those that
// may be the secret's beginning.
type maskedBody struct {
	src    io.ReadCloser
	secret []byte
	buf    []byte
	ready  int // bytes of buf that may go on
	err    error
}

func (m *maskedBody) Close() error { return m.src.Close() }

func (m *maskedBody) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for m.ready == 0 && m.err == nil {
		var room [4 << 10]byte
		var n int
		n, m.err = m.src.Read(room[:])
		m.buf = append(m.buf, room[:n]...)
		m.mask()
	}
	n := copy(p, m.buf[:m.ready])
	m.buf, m.ready = m.buf[n:], m.ready-n
	if n == 0 {
		return 0, m.err
	}
	return n, nil
}

// mask hides the secret in what has come, and finds out how far that may go on.
func (m *maskedBody) mask() {
	from := 0
	for {
		i := bytes.Index(m.buf[from:], m.secret)
		if i < 0 {
			break
		}
		from += i
		for range m.secret {
			m.buf[from] = '*'
			from++
		}
	}
	m.ready = len(m.buf)
	if m.err != nil {
		return
	}
	for i := max(from, len(m.buf)-len(m.secret)+1); i < len(m.buf); i++ {
		if bytes.HasPrefix(m.secret, m.buf[i:]) {
			m.ready = i
			return
		}
	}
}
