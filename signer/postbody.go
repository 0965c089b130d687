package signer

import (
	"bytes"
	"io"
)

// verifyPost verifies the signature of a POST form, which covers the policy's
// text alone. That the other fields are what the policy demands is for S3 to
// check: it sees the same conditions.
func (v *Verified) verifyPost() *Error {
	sig := v.sig
	policy := sig.Post.Fields[fieldPolicy]
	if !v.key.verify([]byte(policy), sig.signature) {
		e := refuse(ReasonSignature, "the signature of the POST form is not the one computed from its policy and the secret of %s", sig.AccessKeyID)
		e.StringToSign = policy
		return e
	}
	return nil
}

// post writes the form's fields anew, with credentials, date, policy and
// signature of ours, and lets the file follow as it comes.
func (s *resigning) post() *Error {
	if err := s.unchanged(); err != nil {
		return err
	}
	if err := s.prepare(); err != nil {
		return err
	}
	form := s.sig.Post
	values := map[string]string{
		fieldCredential: s.creds.AccessKeyID + "/" + string(s.scope.append(nil)),
		fieldDate:       s.date,
		fieldToken:      s.creds.SessionToken,
	}
	values[fieldPolicy] = form.policy.rewrite(values)
	signature, err := s.key.sign(nil, []byte(values[fieldPolicy]))
	if err != nil {
		return refuse(ReasonUnresignable, "the POST form could not be signed: %v", err)
	}
	values[fieldSignature] = string(signature)

	head := form.head(values)
	out := s.out
	out.TransferEncoding, out.GetBody = nil, nil
	out.ContentLength = -1
	if n := s.v.msg.contentLength; n >= 0 {
		out.ContentLength = n - int64(form.length) + int64(len(head))
	}
	out.Body = readCloser{io.MultiReader(bytes.NewReader(head), form.rest), s.v.body}
	return nil
}

// head writes everything before the content of the file.
func (f *PostForm) head(values map[string]string) []byte {
	var b bytes.Buffer
	for _, p := range f.parts {
		if p.name == "file" {
			if _, ok := f.Fields[fieldToken]; !ok && values[fieldToken] != "" {
				f.writeField(&b, fieldToken, values[fieldToken])
			}
			b.WriteString("--" + f.boundary + "\r\n")
			b.Write(p.header)
			break
		}
		if value, ours := values[p.name]; !ours {
			b.WriteString("--" + f.boundary + "\r\n")
			b.Write(p.header)
			b.WriteString(p.value + "\r\n")
		} else if value != "" {
			f.writeField(&b, p.name, value)
		}
	}
	return b.Bytes()
}

// writeField writes a field of ours, with a header of ours.
func (f *PostForm) writeField(b *bytes.Buffer, name, value string) {
	b.WriteString("--" + f.boundary + "\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n")
}
