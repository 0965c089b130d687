package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"testing"
	"time"
)

// An auditLine has the fields of the audit record; an unknown one is an error.
type auditLine struct {
	Time          string   `json:"time"`
	RequestID     string   `json:"request_id"`
	Identity      string   `json:"identity"`
	AccessKeyID   string   `json:"access_key_id"`
	Role          string   `json:"role"`
	RoleARN       string   `json:"role_arn"`
	SessionName   string   `json:"session_name"`
	Client        string   `json:"client"`
	Method        string   `json:"method"`
	Host          string   `json:"host"`
	Service       string   `json:"service"`
	Region        string   `json:"region"`
	Operation     string   `json:"operation"`
	Actions       []string `json:"actions"`
	Resources     []string `json:"resources"`
	Decision      string   `json:"decision"`
	Reason        string   `json:"reason"`
	Policy        string   `json:"policy"`
	Statement     string   `json:"statement"`
	Status        int      `json:"status"`
	AWSRequestID  string   `json:"aws_request_id"`
	RequestBytes  int64    `json:"request_bytes"`
	ResponseBytes int64    `json:"response_bytes"`
	DurationMS    float64  `json:"duration_ms"`
	OverheadUS    float64  `json:"overhead_us"`
	Signature     string   `json:"signature"`
	Error         string   `json:"error"`
}

// readAudit reads the lines that a record holds now. Of a proxy that runs, those of
// the last requests may still be missing: see waitForAudit.
func readAudit(t testing.TB, file string) (lines []auditLine) {
	t.Helper()
	text := readRecord(t, file)
	scanner := bufio.NewScanner(bytes.NewReader(text))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var line auditLine
		decoder := json.NewDecoder(bytes.NewReader(scanner.Bytes()))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&line); err != nil {
			t.Fatalf("audit line %q: %v", scanner.Text(), err)
		}
		lines = append(lines, line)
	}
	return lines
}

// readRecord reads a file of whole lines. While one is being written, a part of it
// can be there alone.
func readRecord(t testing.TB, file string) []byte {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) == 0 || bytes.HasSuffix(text, []byte("\n")) || time.Now().After(deadline) {
			return text
		}
	}
}

// auditUntil reads a record until its lines are enough, and returns them as they are
// when patience ends.
func auditUntil(t testing.TB, file string, enough func([]auditLine) bool) []auditLine {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if lines := readAudit(t, file); enough(lines) || time.Now().After(deadline) {
			return lines
		}
	}
}

// waitForAudit waits for a number of lines: that of a request is written when it
// has ended, which can be after its client has left.
func waitForAudit(t testing.TB, file string, want int) []auditLine {
	t.Helper()
	lines := auditUntil(t, file, func(lines []auditLine) bool { return len(lines) >= want })
	if len(lines) != want {
		t.Fatalf("%d audit lines, want %d: %+v", len(lines), want, lines)
	}
	return lines
}

// count is the number of lines that are as they should be.
func count(lines []auditLine, is func(auditLine) bool) (n int) {
	for _, line := range lines {
		if is(line) {
			n++
		}
	}
	return n
}
