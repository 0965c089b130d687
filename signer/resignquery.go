package signer

import "strings"

// signQuery signs in the query. Every parameter keeps its
// place and its bytes, except those that are signature material.
func (s *resigning) signQuery() *Error {
	if _, ok := s.out.Header["X-Amz-Date"]; ok {
		s.out.Header["X-Amz-Date"] = []string{s.date}
	}
	if s.sig.tokenIn != tokenParam && s.sig.Service == "iotdevicegateway" {
		s.v.forms.dropToken = true
	}
	msg := s.message(s.signedHeaders())
	query := s.rewriteQuery(msg.signedHeaders)
	msg.query = query + "="

	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	room, err := s.sign((*buf)[:0], msg)
	*buf = room
	if err != nil {
		return err
	}
	u := *s.out.URL // which may be the URL of the request that came in
	u.RawQuery = query + "=" + s.seed
	s.out.URL = &u
	return nil
}

// rewriteQuery returns the new query up to and including the name
// X-Amz-Signature, which comes last.
func (s *resigning) rewriteQuery(signedHeaders []string) string {
	var b strings.Builder
	b.Grow(len(s.sig.query) + len(s.creds.SessionToken)*2)
	param := func(name, value string) {
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(name)
		b.WriteByte('=')
		escapeTo(&b, value)
	}
	token := func() {
		if s.creds.SessionToken != "" {
			param(s.tokenName(), s.creds.SessionToken)
		}
	}
	for part := range strings.SplitSeq(s.sig.query, "&") {
		name, _, _ := strings.Cut(part, "=")
		switch name {
		case paramSignature:
		case paramToken, paramS3Session:
			token()
		case paramCredential:
			var room [256]byte
			param(name, s.creds.AccessKeyID+"/"+string(s.scope.append(room[:0])))
		case paramDate:
			param(name, s.date)
		case paramSignedHeaders:
			param(name, strings.Join(signedHeaders, ";"))
		default:
			if b.Len() > 0 {
				b.WriteByte('&')
			}
			b.WriteString(part)
		}
	}
	if s.sig.tokenIn != tokenParam {
		token()
	}
	b.WriteByte('&')
	b.WriteString(paramSignature)
	return b.String()
}

func escapeTo(b *strings.Builder, s string) {
	for i := 0; i < len(s); i++ {
		if c := s[i]; unreserved(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		}
	}
}
