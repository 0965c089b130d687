package pipeline

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/countersign-proxy/countersign/awsapi"
	"github.com/countersign-proxy/countersign/signer"
)

// filenameVariable stands in the key of a form for the name of the file.
const filenameVariable = "${filename}"

// identifyForm understands an upload by an HTML form as the PutObject that it
// amounts to: of the key in the form, and with its fields for headers. S3 demands
// the same permissions for both (Amazon S3 API reference, POST Object).
func identifyForm(in awsapi.Input, form *signer.PostForm) *awsapi.Call {
	call := awsapi.Identify(in)
	key := form.Fields["key"]
	if call.Unknown != "" || key == "" {
		return notUnderstood(call, "the form has no key")
	}
	path, _, _ := strings.Cut(in.Request.RequestURI, "?")
	in.Request = &http.Request{
		Method: http.MethodPut, Host: in.Request.Host, Header: formHeader(in.Request.Header, form),
		RequestURI: strings.TrimSuffix(path, "/") + "/" + url.PathEscape(key), ContentLength: -1,
	}
	put := awsapi.Identify(in)
	if put.Unknown == "" && put.Operation != "PutObject" {
		return notUnderstood(call, "the fields of the form select "+put.Operation)
	}
	put.Operation = call.Operation
	if put.Conditions != nil {
		put.Conditions["s3:authtype"] = []string{"POST"}
	}
	put.UnknownConditions = append(put.UnknownConditions, "s3:x-amz-content-sha256") // what it is for a form is not documented
	if strings.Contains(key, filenameVariable) {
		for i := range put.Needs {
			n := &put.Needs[i]
			for _, arn := range n.Resources {
				before, _, _ := strings.Cut(arn, filenameVariable)
				n.Patterns = append(n.Patterns, before+"*")
			}
			n.Resources, n.ResourceUnknown = nil, true
		}
	}
	return put
}

func notUnderstood(call *awsapi.Call, why string) *awsapi.Call {
	if call.Unknown == "" {
		call.Unknown = why
	}
	call.Needs, call.AccessLevel = nil, ""
	return call
}

// formHeader is what the header of a PutObject would say that the form says.
func formHeader(h http.Header, form *signer.PostForm) http.Header {
	out := make(http.Header)
	for _, name := range []string{"User-Agent", "Referer"} {
		if v := h[name]; v != nil {
			out[name] = slices.Clone(v)
		}
	}
	for name, value := range form.Fields {
		switch {
		case name == "acl":
			out.Set("X-Amz-Acl", value)
		case name == "tagging":
			// XML here, a query string there: tags are there, whatever they are.
			out.Set("X-Amz-Tagging", "%")
		case strings.HasPrefix(name, "x-amz-") && !signatureFields[name]:
			out.Set(name, value)
		}
	}
	return out
}

// signatureFields are about the signature of a form, not about the object.
var signatureFields = map[string]bool{
	"x-amz-algorithm": true, "x-amz-credential": true, "x-amz-date": true, "x-amz-signature": true, "x-amz-security-token": true,
}
