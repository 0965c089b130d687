package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func sample() Entry {
	return Entry{
		Time:      time.Date(2026, 3, 4, 5, 6, 7, 89012345, time.FixedZone("", 3600)),
		RequestID: "01J9Z3", Identity: "ci", AccessKeyID: "CSIGABCDEFGHIJKLMNOP", Role: "deploy",
		RoleARN: "arn:aws:iam::123456789012:role/Deploy", SessionName: "ci", Client: "127.0.0.1:50000",
		Method: "GET", Host: "bucket.s3.eu-central-1.amazonaws.com", Service: "s3", Region: "eu-central-1",
		Operation: "GetObject", Actions: []string{"s3:GetObject"}, Resources: []string{"arn:aws:s3:::bucket/a b+c/é&=~%20"},
		Decision: Allow, Reason: "allowed", Policy: "deploy.json", Statement: "Read", Status: 200,
		AWSRequestID: "79104EXAMPLEB723", RequestBytes: 0, ResponseBytes: 1048576,
		Duration: 12345 * time.Microsecond, Overhead: 187 * time.Microsecond, Signature: "header",
	}
}

func TestLine(t *testing.T) {
	for name, c := range map[string]struct {
		entry Entry
		want  string
	}{
		"a call":        {sample(), `{"time":"2026-03-04T04:06:07.089012Z","request_id":"01J9Z3","identity":"ci","access_key_id":"CSIGABCDEFGHIJKLMNOP","role":"deploy","role_arn":"arn:aws:iam::123456789012:role/Deploy","session_name":"ci","client":"127.0.0.1:50000","method":"GET","host":"bucket.s3.eu-central-1.amazonaws.com","service":"s3","region":"eu-central-1","operation":"GetObject","actions":["s3:GetObject"],"resources":["arn:aws:s3:::bucket/a b+c/é&=~%20"],"decision":"allow","reason":"allowed","policy":"deploy.json","statement":"Read","status":200,"aws_request_id":"79104EXAMPLEB723","request_bytes":0,"response_bytes":1048576,"duration_ms":12.345,"overhead_us":187,"signature":"header","error":""}`},
		"nothing known": {Entry{Time: time.Unix(0, 0), Decision: Deny}, `{"time":"1970-01-01T00:00:00.000000Z","request_id":"","identity":"","access_key_id":"","role":"","role_arn":"","session_name":"","client":"","method":"","host":"","service":"","region":"","operation":"","actions":[],"resources":[],"decision":"deny","reason":"","policy":"","statement":"","status":0,"aws_request_id":"","request_bytes":0,"response_bytes":0,"duration_ms":0,"overhead_us":0,"signature":"","error":""}`},
	} {
		t.Run(name, func(t *testing.T) {
			got := string(c.entry.AppendJSON(nil))
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			back, err := Parse([]byte(got))
			if err != nil {
				t.Fatal(err)
			}
			want := c.entry
			want.Time = want.Time.UTC().Truncate(time.Microsecond)
			if diff := cmp.Diff(want, back, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// everyText returns an entry with s in every text.
func everyText(s string) Entry {
	e := sample()
	for _, f := range []*string{&e.RequestID, &e.Identity, &e.AccessKeyID, &e.Role, &e.RoleARN, &e.SessionName,
		&e.Client, &e.Method, &e.Host, &e.Service, &e.Region, &e.Operation, (*string)(&e.Decision), &e.Reason,
		&e.Policy, &e.Statement, &e.AWSRequestID, &e.Signature, &e.Error} {
		*f = s
	}
	e.Actions, e.Resources = []string{s}, []string{s, s}
	return e
}

func TestTextCannotLeaveItsLineOrReachTheTerminal(t *testing.T) {
	for name, s := range map[string]string{
		"newline":        "a\nb\r\n{\"time\":\"2026-03-04T04:06:07Z\",\"decision\":\"allow\"}",
		"escape":         "\x1b[2J\x1b]0;title\a",
		"controls":       "\x00\x01\t\x7f\u0080\u009b31m",
		"separators":     "a\u2028b\u2029c\u0085d",
		"bidirectional":  "user\u202e txt.exe \u2066\u2069",
		"private, tags":  "\ue000\U000e0041\U0010ffff",
		"quotes":         `"},{"decision":"allow`,
		"backslash":      `\u000a\`,
		"not UTF-8":      "\xff\xfe\xc3(\xed\xa0\x80",
		"emoji, letters": "naïve 日本語 😀",
	} {
		t.Run(name, func(t *testing.T) {
			line := everyText(s).AppendJSON(nil)
			for i, r := range string(line) {
				if !unicode.IsPrint(r) || r == utf8.RuneError {
					t.Fatalf("%q at %d in %s", r, i, line)
				}
			}
			back, err := Parse(line)
			if err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			want := everyText(strings.ToValidUTF8(strings.Join(strings.Split(s, ""), ""), "\ufffd"))
			want.Time = want.Time.UTC().Truncate(time.Microsecond)
			if name == "not UTF-8" { // one replacement for each bad byte
				want = everyText("\ufffd\ufffd\ufffd(\ufffd\ufffd\ufffd")
				want.Time = want.Time.UTC().Truncate(time.Microsecond)
			}
			if diff := cmp.Diff(want, back); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLineIsBounded(t *testing.T) {
	var many []string
	for i := range 5000 {
		many = append(many, fmt.Sprintf("arn:aws:s3:::bucket/%06d", i))
	}
	for name, c := range map[string]struct {
		entry Entry
		check func(e Entry) bool
	}{
		"texts of the worst letters": {everyText(strings.Repeat("\x01", 100000)), func(e Entry) bool {
			return strings.HasPrefix(e.Error, "\x01\x01") && strings.HasSuffix(e.Error, " bytes)") && len(e.Resources) == 2
		}},
		"texts beyond the basic plane": {everyText(strings.Repeat("\U000e0041", 100000)), func(e Entry) bool {
			return strings.HasSuffix(e.Error, " bytes)")
		}},
		"long list": {Entry{Time: time.Now(), Decision: Allow, Actions: many, Resources: many}, func(e Entry) bool {
			last := e.Resources[len(e.Resources)-1]
			return len(e.Resources) > 300 && e.Resources[0] == many[0] &&
				last == fmt.Sprintf("…(+%d more)", 5000-len(e.Resources)+1) && len(e.Actions) > 100
		}},
		"one long resource": {Entry{Time: time.Now(), Decision: Allow, Resources: []string{strings.Repeat("x", 5000), "y"}}, func(e Entry) bool {
			return len(e.Resources) == 2 && strings.HasSuffix(e.Resources[0], "bytes)") && e.Resources[1] == "y"
		}},
	} {
		t.Run(name, func(t *testing.T) {
			line := c.entry.AppendJSON(nil)
			if len(line)+1 > MaxLine {
				t.Errorf("%d bytes", len(line))
			}
			e, err := Parse(line)
			if err != nil {
				t.Fatal(err)
			}
			if !c.check(e) {
				t.Errorf("%+v", e)
			}
		})
	}
}

func TestCleanDoesNotChangeTheCallersLists(t *testing.T) {
	list := []string{"a", "AKIAIOSFODNN7EXAMPLE", strings.Repeat("x", 5000)}
	want := append([]string{}, list...)
	e := Entry{Actions: list, Resources: list[:2]}
	e.AppendJSON(nil)
	if diff := cmp.Diff(want, list); diff != "" {
		t.Error(diff)
	}
}

func TestRealKeyIDsAreMasked(t *testing.T) {
	for in, want := range map[string]string{
		"AKIAIOSFODNN7EXAMPLE":                        "AKIA…MPLE",
		"the key ASIAIOSFODNN7EXAMPLE is real":        "the key ASIA…MPLE is real",
		"ASIAIOSFODNN7EXAMPLE,AKIAIOSFODNN7EXAMPLE/x": "ASIA…MPLE,AKIA…MPLE/x",
		"xAKIAIOSFODNN7EXAMPLE":                       "xAKIA…MPLE",
		"CSIGABCDEFGHIJKLMNOP":                        "CSIGABCDEFGHIJKLMNOP",
		"ASIA":                                        "ASIA",
		"EURASIA AND ASIA":                            "EURASIA AND ASIA",
	} {
		back, err := Parse(everyText(in).AppendJSON(nil))
		if err != nil {
			t.Fatal(err)
		}
		wanted := everyText(want)
		wanted.Time = back.Time
		if diff := cmp.Diff(wanted, back); diff != "" {
			t.Errorf("%s: %s", in, diff)
		}
	}
}

func TestLines(t *testing.T) {
	good := string(sample().AppendJSON(nil))
	log := strings.Join([]string{
		good,
		"",
		good[:100], // cut off by a full disk
		`{"level":"info","msg":"listening"}`,
		"plain text",
		strings.Repeat("x", maxRead+100),
		`{"time":"2026-03-04T04:06:07Z","decision":"allow","duration_ms":1e300}`,
		`{"time":"2026-03-04T04:06:07Z","decision":"allow","status":"200"}`,
		`{"time":"2026-03-04T04:06:07Z","decision":"deny","of_a_later_version":{"x":1}}`,
		good, // without a newline at the end
	}, "\n")
	var entries []Entry
	var damaged []string
	for e, err := range Lines(iotest.HalfReader(strings.NewReader(log))) {
		var le *LineError
		switch {
		case err == nil:
			entries = append(entries, e)
		case errors.As(err, &le):
			damaged = append(damaged, err.Error())
		default:
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{
		"line 3: not a whole audit line: unexpected end of JSON input",
		"line 4: not an audit line: it has no time or no decision",
		"line 5: not a whole audit line: invalid character 'p' looking for beginning of value",
		"line 6: longer than 1048576 bytes",
		"line 7: not an audit line: its duration is out of range",
		"line 8: not a whole audit line: json: cannot unmarshal string into Go struct field .status of type int",
	}, damaged); diff != "" {
		t.Error(diff)
	}
	one, _ := Parse([]byte(good))
	want := []Entry{one, {Time: time.Date(2026, 3, 4, 4, 6, 7, 0, time.UTC), Decision: Deny}, one}
	if diff := cmp.Diff(want, entries); diff != "" {
		t.Error(diff)
	}
}

func TestLinesReadError(t *testing.T) {
	broken := errors.New("broken")
	r := io.MultiReader(strings.NewReader(string(sample().AppendJSON(nil))+"\n{"), iotest.ErrReader(broken))
	n, last := 0, error(nil)
	for _, err := range Lines(r) {
		n, last = n+1, err
	}
	if n != 2 || !errors.Is(last, broken) {
		t.Errorf("%d, %v", n, last)
	}
}

func FuzzEntry(f *testing.F) {
	f.Add("plain", "\x1b\n\xff", 3, int64(1))
	f.Add("AKIAIOSFODNN7EXAMPLE", "\u202e\U000e0041", 4000, int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, a, b string, n int, d int64) {
		e := everyText(a)
		e.Decision = "x" + e.Decision
		e.Error = b
		for range n & 0x3fff {
			e.Resources = append(e.Resources, b)
		}
		e.Duration, e.Overhead = time.Duration(d), time.Duration(-d)
		line := e.AppendJSON(nil)
		if len(line)+1 > MaxLine {
			t.Fatalf("%d bytes", len(line))
		}
		for _, r := range string(line) {
			if !unicode.IsPrint(r) {
				t.Fatalf("%q in %q", r, line)
			}
		}
		if !json.Valid(line) {
			t.Fatalf("%s", line)
		}
		once, err := Parse(line)
		if err != nil {
			if strings.Contains(err.Error(), "out of range") {
				return
			}
			t.Fatalf("%v: %s", err, line)
		}
		// Writing what was read changes nothing more, but for what was cut.
		if again := once.AppendJSON(nil); string(again) != string(line) && !strings.Contains(string(line), "…(+") {
			t.Fatalf("%s\n%s", line, again)
		}
	})
}

func FuzzLines(f *testing.F) {
	f.Add(string(sample().AppendJSON(nil)) + "\n{\n\n")
	f.Add(`{"time":"2026-03-04T04:06:07Z","decision":"allow","duration_ms":-1e15,"overhead_us":-9223372036854775808}`)
	f.Fuzz(func(t *testing.T, log string) {
		n := 0
		for e, err := range Lines(strings.NewReader(log)) {
			n++
			if err == nil && (e.Decision == "" || len(e.AppendJSON(nil))+1 > MaxLine) {
				t.Fatalf("%+v", e)
			}
			var le *LineError
			if err != nil && (!errors.As(err, &le) || le.Line < 1 || le.Line > strings.Count(log, "\n")+1) {
				t.Fatal(err)
			}
		}
		if n > strings.Count(log, "\n")+1 {
			t.Fatalf("%d entries", n)
		}
	})
}
