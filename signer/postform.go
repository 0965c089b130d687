package signer

import (
	"bufio"
	"bytes"
	"io"
	"mime"
	"net/http"
	"strings"
)

const (
	// maxPostFields bounds everything before the file. S3 allows 20 KB.
	maxPostFields = 64 << 10
	maxPostParts  = 100
)

// A PostForm is what an S3 POST form says before its file.
type PostForm struct {
	// Fields are the form's fields, by names in lower case: key, policy,
	// x-amz-credential, success_action_status and so on.
	Fields map[string]string
	// Filename is what ${filename} in the key stands for.
	Filename string

	boundary string
	parts    []postPart
	length   int           // bytes consumed so far
	rest     *bufio.Reader // the content of the file and what follows
	policy   *postPolicy
}

// A postPart is one part: its header lines as sent, with the empty line, and
// its value. Of the file there is only the header.
type postPart struct {
	name   string // lower case
	header []byte
	value  string
}

// IsPost tells whether a request may be an S3 POST form: a multipart POST
// without a signature in its head. Only the body, which [ParsePost] reads, can
// say more.
func IsPost(r *http.Request) bool {
	if r.Method != http.MethodPost || len(r.Header["Authorization"]) > 0 {
		return false
	}
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "multipart/form-data")
}

// ParsePost reads what an S3 POST form says about its signature, which is in
// the body: it reads the fields before the file, at most 64 KiB. It returns
// [ErrNoSignature] for a form without policy and signature, and otherwise errors
// of type [*Error]. Whatever it returns, r.Body reads as if nothing had been
// taken from it; but once [Resign] has made the outgoing body, r.Body must not
// be read any more.
func ParsePost(r *http.Request) (*Signature, error) {
	if !IsPost(r) || r.Body == nil {
		return nil, ErrNoSignature
	}
	form := &PostForm{rest: bufio.NewReaderSize(r.Body, maxPostFields)}
	var raw bytes.Buffer
	sig, err := form.parse(r, &raw)
	r.Body = readCloser{io.MultiReader(bytes.NewReader(raw.Bytes()), form.rest), r.Body}
	switch {
	case err == errNone:
		return nil, ErrNoSignature
	case err != nil:
		return nil, err
	}
	return sig, nil
}

func (f *PostForm) parse(r *http.Request, raw *bytes.Buffer) (*Signature, *Error) {
	path, query, ok := target(r)
	if !ok {
		return nil, refuse(ReasonMalformed, "the request target does not begin with a slash: only origin-form targets can be signed")
	}
	var params authParams
	if err := params.read(query); err != nil {
		return nil, err
	}
	if params.seen != 0 {
		return nil, refuse(ReasonAmbiguous, "the request has both a POST form and parameters of a signature in the query")
	}
	contentType, err := single(r.Header, "Content-Type")
	if err != nil {
		return nil, err
	}
	_, media, e := mime.ParseMediaType(contentType)
	// An extended parameter (RFC 2231) would be the boundary to mime alone.
	if e != nil || strings.Contains(contentType, "*") || !isBoundary(media["boundary"]) {
		return nil, refuse(ReasonMalformed, "the Content-Type of the POST form has no usable boundary")
	}
	f.boundary = media["boundary"]
	if err := f.readParts(raw); err != nil {
		return nil, err
	}
	f.length = raw.Len()
	sig := &Signature{
		Form: FormPost, Payload: PayloadUnsigned, PayloadHash: "UNSIGNED-PAYLOAD",
		Post: f, path: path, query: query, decodedLength: -1,
	}
	if err := f.fill(sig); err != nil {
		return nil, err
	}
	for key := range r.Header {
		if isAmz(key) {
			return nil, refuse(ReasonNotSigned, "the signature of a POST form does not cover the header %s", clip(key))
		}
	}
	return sig, nil
}

// isBoundary follows RFC 2046 section 5.1.1.
func isBoundary(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAlnum(s[i]) && strings.IndexByte("'()+_,-./:=? ", s[i]) < 0 {
			return false
		}
	}
	return s != "" && len(s) <= 70 && s[len(s)-1] != ' '
}

// readParts reads up to the content of the file, and keeps a copy in raw. It
// is stricter than RFC 2046, because what another reader takes for a boundary
// or a field must not be hidden from this one.
func (f *PostForm) readParts(raw *bytes.Buffer) *Error {
	first, err := f.line(raw)
	if err != nil {
		return err
	}
	if string(first) != "--"+f.boundary+"\r\n" {
		return refuse(ReasonMalformed, "the POST form does not begin with its boundary")
	}
	f.Fields = make(map[string]string)
	for {
		if len(f.parts) == maxPostParts {
			return refuse(ReasonTooLarge, "the POST form has more than %d fields", maxPostParts)
		}
		p, err := f.readHeader(raw)
		if err != nil {
			return err
		}
		if p.name == "file" {
			f.parts = append(f.parts, p)
			return nil
		}
		if _, twice := f.Fields[p.name]; twice {
			return refuse(ReasonAmbiguous, "the POST form has the field %q twice", clip(p.name))
		}
		last, err := f.readValue(raw, &p)
		if err != nil {
			return err
		}
		f.parts = append(f.parts, p)
		f.Fields[p.name] = p.value
		if last {
			return refuse(ReasonMalformed, "the POST form has no file")
		}
	}
}

// line reads one line with its end.
func (f *PostForm) line(raw *bytes.Buffer) ([]byte, *Error) {
	line, err := f.rest.ReadSlice('\n')
	start := raw.Len()
	raw.Write(line)
	switch {
	case err == bufio.ErrBufferFull || raw.Len() > maxPostFields:
		return nil, refuse(ReasonTooLarge, "the fields before the file are longer than %d bytes; the file must be the last field of the form", maxPostFields)
	case err != nil:
		return nil, bodyEnd(err, "before the file of the POST form")
	}
	return raw.Bytes()[start:], nil
}

// readHeader reads the header lines of a part.
func (f *PostForm) readHeader(raw *bytes.Buffer) (p postPart, _ *Error) {
	start := raw.Len()
	named := false
	for {
		line, err := f.line(raw)
		if err != nil {
			return p, err
		}
		text, ok := strings.CutSuffix(string(line), "\r\n")
		if !ok {
			return p, refuse(ReasonMalformed, "a header of the POST form does not end in CRLF")
		}
		if text == "" {
			break
		}
		name, value, _ := strings.Cut(text, ":")
		switch {
		case strings.EqualFold(name, "Content-Disposition"):
			if named {
				return p, refuse(ReasonAmbiguous, "a field of the POST form has two names")
			}
			var filename string
			if p.name, filename, named = disposition(value); !named {
				return p, refuse(ReasonMalformed, "a field of the POST form has the Content-Disposition %q; it must be form-data; name=\"…\"", clip(value))
			}
			if p.name == "file" {
				f.Filename = filename
			}
		case strings.EqualFold(name, "Content-Type"), strings.EqualFold(name, "Content-Length"),
			strings.EqualFold(name, "Content-Transfer-Encoding") && isIdentity(value):
		default:
			return p, refuse(ReasonMalformed, "a field of the POST form has the header %q", clip(name))
		}
	}
	if !named {
		return p, refuse(ReasonMalformed, "a field of the POST form has no name")
	}
	p.header = bytes.Clone(raw.Bytes()[start:])
	return p, nil
}

// isIdentity tells transfer encodings that leave bytes as they are.
func isIdentity(encoding string) bool {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "7bit", "8bit", "binary":
		return true
	}
	return false
}

// disposition reads form-data; name="a"; filename="b" in exactly the shape in
// which browsers and HTTP libraries write it.
func disposition(v string) (name, filename string, ok bool) {
	v, ok = strings.CutPrefix(strings.TrimLeft(v, " "), "form-data;")
	if !ok {
		return "", "", false
	}
	if name, v, ok = quoted(v, "name="); !ok || name == "" {
		return "", "", false
	}
	name = strings.ToLower(name)
	for i := 0; i < len(name); i++ {
		if name[i] <= ' ' || name[i] >= 0x7f || name[i] == '\\' || name[i] == '%' {
			return "", "", false
		}
	}
	if v == "" {
		return name, "", true
	}
	if v, ok = strings.CutPrefix(v, ";"); !ok {
		return "", "", false
	}
	filename, v, ok = quoted(v, "filename=")
	return name, filename, ok && v == ""
}

// quoted reads an attribute and its value in quotes.
func quoted(v, attribute string) (value, rest string, ok bool) {
	v, ok = strings.CutPrefix(strings.TrimLeft(v, " "), attribute)
	if !ok || v == "" || v[0] != '"' {
		return "", "", false
	}
	value, rest, ok = strings.Cut(v[1:], `"`)
	return value, rest, ok && !strings.HasSuffix(value, `\`)
}

// readValue reads a field's value and the boundary behind it.
func (f *PostForm) readValue(raw *bytes.Buffer, p *postPart) (last bool, _ *Error) {
	start := raw.Len()
	delimiter := "--" + f.boundary
	for {
		end := raw.Len()
		line, err := f.line(raw)
		if err != nil {
			return false, err
		}
		if !bytes.HasPrefix(line, []byte(delimiter)) {
			continue
		}
		value, ok := strings.CutSuffix(string(raw.Bytes()[start:end]), "\r\n")
		tail := string(line[len(delimiter):])
		if !ok && end > start || tail != "\r\n" && tail != "--\r\n" {
			return false, refuse(ReasonMalformed, "a field of the POST form holds something like a boundary")
		}
		p.value = value
		return tail == "--\r\n", nil
	}
}
