package e2e

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// An outcome is what boto3 made of the answer to a spoilt request.
type outcome struct {
	Code      string
	Message   string
	Status    int
	RequestID string `json:"request_id"`
	Retries   int
}

func refusals(t *testing.T, w way, cases ...string) map[string]outcome {
	t.Helper()
	argv := append([]string{python(t), script(t, "refusals.py")}, cases...)
	var outcomes map[string]outcome
	if err := json.Unmarshal([]byte(w.must(t, t.TempDir(), nil, argv...)), &outcomes); err != nil {
		t.Fatal(err)
	}
	return outcomes
}

// Codes in the order of the protocols: what AWS answers, and what the SDK of
// each protocol tells apart.
var refusalServices = []string{"s3", "dynamodb", "sts", "ec2", "lambda", "cloudwatch"}

func codes(s3, json, query, ec2 string) []string {
	// Clients that came from the query protocol are given its codes beside the
	// new ones, and botocore shows them.
	return []string{s3, json, query, ec2, json, query}
}

var signatureCodes = codes("SignatureDoesNotMatch", "InvalidSignatureException", "SignatureDoesNotMatch", "AuthFailure")

var refusalTable = map[string]struct {
	codes  []string // "" : not tried
	reason string   // in the audit line
	says   string   // in the message
}{
	"unknown_key":              {codes("InvalidAccessKeyId", "UnrecognizedClientException", "InvalidClientTokenId", "AuthFailure"), "", "CSIGZZZZZZZZZZZZZZZZ"},
	"wrong_secret":             {signatureCodes, "signature", "Canonical String"},
	"real_user_key":            {codes("InvalidAccessKeyId", "UnrecognizedClientException", "InvalidClientTokenId", "AuthFailure"), "", "AWS"},
	"real_session_key":         {codes("InvalidAccessKeyId", "UnrecognizedClientException", "InvalidClientTokenId", "AuthFailure"), "", "AWS"},
	"stale_date":               {codes("RequestTimeTooSkewed", "InvalidSignatureException", "RequestExpired", "RequestExpired"), "skewed", ""},
	"future_date":              {codes("RequestTimeTooSkewed", "InvalidSignatureException", "RequestExpired", "RequestExpired"), "skewed", ""},
	"no_signature":             {codes("AccessDenied", "MissingAuthenticationTokenException", "MissingAuthenticationToken", "MissingAuthenticationToken"), "", ""},
	"altered_path":             {signatureCodes, "signature", "Canonical String"},
	"altered_query":            {signatureCodes, "signature", "Canonical String"},
	"altered_header":           {signatureCodes, "signature", "Canonical String"},
	"altered_body":             {codes("XAmzContentSHA256Mismatch", "InvalidSignatureException", "SignatureDoesNotMatch", "AuthFailure"), "", ""},
	"unsigned_amz_header":      {codes("AccessDenied", "AccessDeniedException", "AccessDenied", "UnauthorizedOperation"), "not-signed", "x-amz-acl"},
	"scope_of_another_service": {codes("AuthorizationHeaderMalformed", "InvalidSignatureException", "SignatureDoesNotMatch", "AuthFailure"), "", "sqs"},
	"scope_of_another_region":  {codes("AuthorizationHeaderMalformed", "InvalidSignatureException", "SignatureDoesNotMatch", "AuthFailure"), "", "eu-west-1"},
	"two_authentications":      {codes("InvalidRequest", "ValidationException", "ValidationError", "InvalidRequest"), "ambiguous", ""},
	"host_of_another":          {codes("InvalidRequest", "ValidationException", "ValidationError", "InvalidRequest"), "", "iam.amazonaws.com"},
	"oversized_body":           {codes("", "RequestEntityTooLargeException", "RequestEntityTooLarge", "RequestEntityTooLarge"), "too-large", ""},
}

// The server that everything else is proved with is no rubber stamp: the same
// spoilt requests, sent to it directly with real keys, are refused by it.
func TestStrictMotoRefuses(t *testing.T) {
	u := strictMoto(t)
	mark := u.mark(t)
	cases := slices.Sorted(maps.Keys(refusalTable))
	// It has no limit on bodies, and host_of_another is a correct request for
	// where a Host header leads.
	cases = slices.DeleteFunc(cases, func(name string) bool {
		return name == "oversized_body" || name == "host_of_another"
	})
	outcomes := refusals(t, directly(t, u), cases...)
	for label, got := range outcomes {
		if got.Status != 403 {
			t.Errorf("%s: %+v", label, got)
		}
	}
	for _, s := range u.since(t, mark) {
		if s.Refused == "" {
			t.Errorf("accepted: %s %s%s %v", s.Method, s.Host, s.Target, s.header("User-Agent"))
		}
	}
}

// Wrong input of every kind gets the right error in the protocol's shape,
// parsed by a real SDK, is not retried, leaves one audit line and sends nothing
// upstream.
func TestRefusals(t *testing.T) {
	u := strictMoto(t)
	p := serve(t, u, "limits: {body_buffer: 1MiB}\n")
	mark, began := u.mark(t), time.Now().Add(-time.Second)
	outcomes := refusals(t, p.client("ci"))
	lines := map[string][]auditLine{}
	// One more than was tried: scope_of_another_region.s3, see below.
	for _, line := range waitForAudit(t, p.audit, len(outcomes)+1) {
		lines[line.RequestID] = append(lines[line.RequestID], line)
		if at, err := time.Parse(time.RFC3339Nano, line.Time); err != nil || at.Before(began) {
			t.Errorf("recorded as of %s: %+v", line.Time, line)
		}
		if line.Decision != "deny" {
			t.Errorf("not denied: %+v", line)
		}
	}
	for _, s := range u.since(t, mark) {
		// A body that is hashed on its way is found out at its end, and is then
		// cut off upstream. The role's session was needed for it.
		if s.Service == "sts" && s.AccessKeyID == u.keys.AccessKeyID || strings.HasPrefix(s.Refused, "RequestTimeout") {
			continue
		}
		t.Errorf("sent upstream: %s %s%s %v", s.Method, s.Host, s.Target, s.header("User-Agent"))
	}
	total := 0
	for name, want := range refusalTable {
		for i, service := range refusalServices {
			label := name + "." + service
			if want.codes[i] == "" {
				continue
			}
			total++
			got, ok := outcomes[label]
			if !ok {
				t.Fatalf("%s was not tried", label)
			}
			if name == "host_of_another" && got.Status != http.StatusMisdirectedRequest {
				t.Errorf("%s: %+v", label, got)
			}
			if code := want.codes[i]; got.Code != code {
				t.Errorf("%s: code %q, want %q: %+v", label, got.Code, code, got)
			}
			retries := 0
			if label == "scope_of_another_region.s3" {
				retries = 1 // botocore signs again for the region that the answer names
			}
			if got.Retries != retries || got.Status < 400 || got.Status >= 500 {
				t.Errorf("%s: %+v", label, got)
			}
			if !strings.Contains(strings.ToLower(got.Message), strings.ToLower(want.says)) {
				t.Errorf("%s: the message does not say %q: %q", label, want.says, got.Message)
			}
			if strings.Contains(got.Message, "REALKEY2EXAMPLE2") {
				t.Errorf("%s: the message repeats the real key: %q", label, got.Message)
			}
			if len(lines[got.RequestID]) != 1 {
				t.Errorf("%s: %d audit lines for request %q", label, len(lines[got.RequestID]), got.RequestID)
				continue
			}
			line := lines[got.RequestID][0]
			if line.Status != got.Status || (want.reason != "" && line.Reason != want.reason) {
				t.Errorf("%s: audit line %+v, want reason %q and status %d", label, line, want.reason, got.Status)
			}
			if strings.Contains(line.AccessKeyID+line.Error, "REALKEY2EXAMPLE2") {
				t.Errorf("%s: the audit line repeats the real key: %+v", label, line)
			}
		}
	}
	if len(outcomes) != total {
		t.Errorf("%d outcomes for %d cases", len(outcomes), total)
	}
}

// What cannot be helped by sending the same again is not answered with a status
// that SDKs retry; what can be, is.
func TestRoleSessionFailures(t *testing.T) {
	u := strictMoto(t)
	nowhere, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, config string
		retried      bool
		says         string
	}{
		{
			name:   "STS refuses",
			config: "roles: {source: {arn: \"\"}, deploy: {arn: \"arn:aws:iam::" + account + ":role/Refused\"}}\n",
			says:   "arn:aws:iam::" + account + ":role/Refused",
		},
		{
			name:    "STS unreachable",
			config:  override(nowhere, thePKI(t).rootFile),
			retried: true,
			says:    "STS",
		},
		{
			name:   "no source credentials",
			config: "source: {profile: nobody, region: us-east-1}\n",
			says:   "credentials",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := serve(t, u, test.config)
			mark := u.mark(t)
			outcomes := refusals(t, p.client("ci"), "as_it_is")
			for label, got := range outcomes {
				if retried := got.Status >= 500; retried != test.retried || got.Status < 400 {
					t.Errorf("%s: %+v", label, got)
				}
				if !strings.Contains(got.Message, test.says) {
					t.Errorf("%s: the message does not say %q: %q", label, test.says, got.Message)
				}
			}
			for _, s := range u.since(t, mark) {
				if s.Service != "sts" || len(s.header("User-Agent")) == 1 && strings.Contains(s.header("User-Agent")[0], "case/") {
					t.Errorf("sent upstream: %s %s%s", s.Method, s.Host, s.Target)
				}
			}
			waitForAudit(t, p.audit, len(outcomes))
		})
	}
}
