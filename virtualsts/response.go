package virtualsts

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/countersign-proxy/countersign/identity"
)

const namespace = "https://sts.amazonaws.com/doc/2011-06-15/"

// output is what an answer says.
type output struct {
	credentials      identity.Credentials
	arn, id          string
	sourceIdentity   string
	packedPolicySize *int32

	subject, audience, provider                     string // web identity
	subjectType, samlIssuer, nameQualifier, samlAud string
}

// member is an element of an answer: a text, a number, a time, or more members.
type member struct {
	name  string
	value any // string, int32, time.Time or []member
}

// members puts the answer of an operation together, in the order of STS's own.
func (o *output) members(operation string) []member {
	var out []member
	add := func(name, value string) {
		if value != "" {
			out = append(out, member{name, value})
		}
	}
	switch operation {
	case opAssumeRoleWithWebIdentity:
		add("SubjectFromWebIdentityToken", o.subject)
		add("Audience", o.audience)
		add("Provider", o.provider)
	case opAssumeRoleWithSAML:
		add("Issuer", o.samlIssuer)
		add("Subject", o.subject)
		add("SubjectType", o.subjectType)
		add("Audience", o.samlAud)
		add("NameQualifier", o.nameQualifier)
	}
	switch operation {
	case opAssumeRole, opAssumeRoleWithWebIdentity, opAssumeRoleWithSAML:
		out = append(out, member{"AssumedRoleUser", []member{{"AssumedRoleId", o.id}, {"Arn", o.arn}}})
	case opGetFederationToken:
		out = append(out, member{"FederatedUser", []member{{"FederatedUserId", o.id}, {"Arn", o.arn}}})
	}
	add("SourceIdentity", o.sourceIdentity)
	c := o.credentials
	out = append(out, member{"Credentials", []member{
		{"AccessKeyId", c.AccessKeyID}, {"SecretAccessKey", c.SecretAccessKey}, {"SessionToken", c.SessionToken}, {"Expiration", c.Expires},
	}})
	if o.packedPolicySize != nil {
		out = append(out, member{"PackedPolicySize", *o.packedPolicySize})
	}
	return out
}

// response writes the answer as STS does: XML, or JSON for whoever accepts
// nothing else.
func response(r *http.Request, operation string, o *output, requestID string) (int, http.Header, []byte) {
	whole := []member{{operation + "Result", o.members(operation)}, {"ResponseMetadata", []member{{"RequestId", requestID}}}}
	if wantsJSON(r) {
		return finish(http.StatusOK, "application/json", requestID, toJSON([]member{{operation + "Response", whole}}))
	}
	var b bytes.Buffer
	b.WriteString("<" + operation + `Response xmlns="` + namespace + `">`)
	toXML(&b, whole)
	b.WriteString("</" + operation + "Response>\n")
	return finish(http.StatusOK, "text/xml", requestID, b.Bytes())
}

func errorResponse(r *http.Request, e *Error, requestID string) (int, http.Header, []byte) {
	kind := "Sender"
	if e.Status >= 500 {
		kind = "Receiver"
	}
	whole := []member{{"Error", []member{{"Type", kind}, {"Code", e.Code}, {"Message", e.Message}}}, {"RequestId", requestID}}
	if wantsJSON(r) {
		return finish(e.Status, "application/json", requestID, toJSON(whole))
	}
	var b bytes.Buffer
	b.WriteString(`<ErrorResponse xmlns="` + namespace + `">`)
	toXML(&b, whole)
	b.WriteString("</ErrorResponse>\n")
	return finish(e.Status, "text/xml", requestID, b.Bytes())
}

func finish(status int, contentType, requestID string, body []byte) (int, http.Header, []byte) {
	h := http.Header{}
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Amzn-Requestid", requestID)
	h.Set("Cache-Control", "no-store")
	return status, h, body
}

// wantsJSON says whether the client asks for JSON by Accept, as STS's query
// protocol honours it.
func wantsJSON(r *http.Request) bool {
	accept := strings.Split(r.Header.Get("Accept"), ",")[0]
	kind, _, err := mime.ParseMediaType(accept)
	return err == nil && kind == "application/json"
}

func toXML(b *bytes.Buffer, list []member) {
	for _, m := range list {
		b.WriteString("<" + m.name + ">")
		switch v := m.value.(type) {
		case []member:
			toXML(b, v)
		case string:
			_ = xml.EscapeText(b, []byte(v)) // a bytes.Buffer does not fail
		case int32:
			b.WriteString(strconv.Itoa(int(v)))
		case time.Time:
			b.WriteString(v.UTC().Format(time.RFC3339))
		}
		b.WriteString("</" + m.name + ">")
	}
}

func toJSON(list []member) []byte {
	var object func([]member) map[string]any
	object = func(list []member) map[string]any {
		out := make(map[string]any, len(list))
		for _, m := range list {
			switch v := m.value.(type) {
			case []member:
				out[m.name] = object(v)
			case time.Time:
				out[m.name] = v.Unix()
			default:
				out[m.name] = v
			}
		}
		return out
	}
	body, err := json.Marshal(object(list))
	if err != nil {
		panic(err) // texts and numbers always marshal
	}
	return append(body, '\n')
}
