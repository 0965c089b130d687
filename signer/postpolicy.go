package signer

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
)

// The fields of a POST form that belong to its signature.
const (
	fieldPolicy     = "policy"
	fieldAlgorithm  = "x-amz-algorithm"
	fieldCredential = "x-amz-credential"
	fieldDate       = "x-amz-date"
	fieldSignature  = "x-amz-signature"
	fieldToken      = "x-amz-security-token"
)

// fill reads the fields of the signature and the policy's end.
func (f *PostForm) fill(sig *Signature) *Error {
	if f.Fields["awsaccesskeyid"] != "" {
		return refuse(ReasonUnsupported, "the POST form is signed with Signature Version 2, which is not accepted; use Signature Version 4")
	}
	if f.Fields[fieldPolicy] == "" && f.Fields[fieldSignature] == "" && f.Fields[fieldCredential] == "" {
		return errNone
	}
	for _, name := range [...]string{fieldPolicy, fieldAlgorithm, fieldCredential, fieldDate, fieldSignature} {
		if f.Fields[name] == "" {
			return refuse(ReasonMalformed, "the POST form has no field %s", name)
		}
	}
	sig.Algorithm = f.Fields[fieldAlgorithm]
	if sig.Algorithm != AlgorithmHMAC {
		return refuse(ReasonUnsupported, "the POST form is signed with %q; POST forms are signed with %s", clip(sig.Algorithm), AlgorithmHMAC)
	}
	sig.signature = f.Fields[fieldSignature]
	if err := parseCredential(sig, f.Fields[fieldCredential]); err != nil {
		return err
	}
	if err := checkSignature(sig); err != nil {
		return err
	}
	if token := f.Fields[fieldToken]; token != "" {
		sig.SecurityToken, sig.TokenSigned, sig.tokenIn = token, true, tokenParam
	}
	var e error
	if sig.Time, e = parseAmzDate(f.Fields[fieldDate]); e != nil {
		return refuse(ReasonMalformed, "the date %q is not of the form yyyymmddThhmmssZ", clip(f.Fields[fieldDate]))
	}
	if f.Fields[fieldDate][:8] != sig.Date {
		return refuse(ReasonScope, "the credential scope is of %s, but the form of %s", sig.Date, f.Fields[fieldDate][:8])
	}
	var err *Error
	if f.policy, err = parsePolicy(f.Fields[fieldPolicy]); err != nil {
		return err
	}
	if err = f.policy.check(f.Fields); err != nil {
		return err
	}
	// A signing key is good for seven days, whatever the policy says.
	sig.Expires = min(f.policy.expiration.Sub(sig.Time), MaxExpires)
	return nil
}

// A postPolicy is the policy of a POST form, read no further than signing it
// again needs.
type postPolicy struct {
	members    []member // in order
	expiration time.Time
	conditions []condition
}

// A member is one name and value of a JSON object.
type member struct {
	name  string
	value json.RawMessage
}

// A condition is one of the policy's conditions. field is "" unless it is about
// a field that signing again replaces.
type condition struct {
	raw              json.RawMessage
	field, op, value string
}

func replacedField(name string) bool {
	return name == fieldCredential || name == fieldDate || name == fieldToken
}

func errPolicy(what string) *Error {
	return refuse(ReasonMalformed, "the policy of the POST form %s", what)
}

func parsePolicy(text string) (*postPolicy, *Error) {
	src, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errPolicy("is not in base64")
	}
	p := &postPolicy{}
	if p.members, err = object(src); err != nil {
		return nil, errPolicy("is not a JSON object with each name once")
	}
	var expiration string
	var conditions []json.RawMessage
	for _, m := range p.members {
		switch strings.ToLower(m.name) {
		case "expiration":
			err = json.Unmarshal(m.value, &expiration)
		case "conditions":
			err = json.Unmarshal(m.value, &conditions)
		}
		if err != nil {
			return nil, errPolicy("has an expiration or conditions of the wrong kind")
		}
	}
	if p.expiration, err = time.Parse(time.RFC3339, expiration); err != nil {
		return nil, errPolicy("has no expiration of the form 2006-01-02T15:04:05Z")
	}
	if conditions == nil {
		return nil, errPolicy("has no conditions")
	}
	for _, raw := range conditions {
		c, ok := parseCondition(raw)
		if !ok {
			return nil, errPolicy("has a condition that is not understood")
		}
		p.conditions = append(p.conditions, c)
	}
	return p, nil
}

// object reads a JSON object's members. Names that are equal but for case are
// refused: readers differ in which of them they take.
func object(src []byte) ([]member, error) {
	d := json.NewDecoder(bytes.NewReader(src))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errNotObject
	}
	var members []member
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		m := member{name: t.(string)}
		if err := d.Decode(&m.value); err != nil {
			return nil, err
		}
		for _, other := range members {
			if strings.EqualFold(other.name, m.name) {
				return nil, errNotObject
			}
		}
		members = append(members, m)
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if d.InputOffset() != int64(len(bytes.TrimRight(src, " \t\r\n"))) {
		return nil, errNotObject
	}
	return members, nil
}

var errNotObject = errPolicy("is not a JSON object with each name once")

// parseCondition reads {"field": value} or ["eq", "$field", value] as far as
// it is about a field that will be replaced.
func parseCondition(raw json.RawMessage) (condition, bool) {
	c := condition{raw: raw}
	if len(raw) > 0 && raw[0] == '{' {
		members, err := object(raw)
		if err != nil {
			return c, false
		}
		for _, m := range members {
			name := strings.ToLower(m.name)
			if !replacedField(name) {
				continue
			}
			if len(members) > 1 || json.Unmarshal(m.value, &c.value) != nil {
				return c, false
			}
			c.field, c.op = name, "eq"
		}
		return c, true
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil || len(list) != 3 {
		return c, false
	}
	var name string
	if json.Unmarshal(list[0], &c.op) != nil {
		return c, false
	}
	if json.Unmarshal(list[1], &name) != nil {
		return c, strings.EqualFold(c.op, "content-length-range")
	}
	name, _ = strings.CutPrefix(strings.ToLower(name), "$")
	if !replacedField(name) {
		return c, true
	}
	c.field, c.op = name, strings.ToLower(c.op)
	return c, json.Unmarshal(list[2], &c.value) == nil && (c.op == "eq" || c.op == "starts-with")
}

// check sees to it that the conditions about the fields that will be replaced
// hold for what the client sent; replacing both would hide that they do not.
func (p *postPolicy) check(fields map[string]string) *Error {
	for _, c := range p.conditions {
		if c.field == "" {
			continue
		}
		v := fields[c.field]
		if c.op == "eq" && v != c.value || !strings.HasPrefix(v, c.value) {
			return refuse(ReasonMalformed, "the field %s of the POST form is not what its policy demands", c.field)
		}
	}
	return nil
}

// rewrite returns the policy in base64 with the given values in the conditions
// that are about these fields. A field without a value loses its conditions, and
// a token always gets one.
func (p *postPolicy) rewrite(values map[string]string) string {
	conditions := []json.RawMessage{}
	done := make(map[string]bool)
	put := func(field string) {
		if values[field] != "" && !done[field] {
			done[field] = true
			conditions = append(conditions, encode(map[string]string{field: values[field]}))
		}
	}
	for _, c := range p.conditions {
		if c.field == "" {
			conditions = append(conditions, c.raw)
		} else {
			put(c.field)
		}
	}
	put(fieldToken)
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range p.members {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(encode(m.name))
		b.WriteByte(':')
		if strings.EqualFold(m.name, "conditions") {
			b.Write(encode(conditions))
		} else {
			b.Write(m.value)
		}
	}
	b.WriteByte('}')
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

// encode encodes what cannot fail: strings and valid JSON.
func encode(v any) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}
