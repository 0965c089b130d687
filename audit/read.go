package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"time"
)

// maxRead is the longest line that Lines reads; others' lines may be longer than ours.
const maxRead = 1 << 20

// LineError says which line of a log could not be read as an audit line.
type LineError struct {
	Line int // from 1
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap returns the cause.
func (e *LineError) Unwrap() error { return e.Err }

var errTooLong = fmt.Errorf("longer than %d bytes", maxRead)

// Lines reads audit lines one after another in constant memory. A line that
// is damaged or is no audit line yields a *LineError, and reading goes on with
// the next; empty lines are skipped. An error of r itself is yielded as it is,
// and ends the sequence.
func Lines(r io.Reader) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		br := bufio.NewReaderSize(r, 64<<10)
		var line []byte
		for n := 1; ; n++ {
			var long bool
			var err error
			line, long, err = readLine(br, line[:0])
			if err != nil && err != io.EOF {
				yield(Entry{}, err)
				return
			}
			switch {
			case long:
				if !yield(Entry{}, &LineError{n, errTooLong}) {
					return
				}
			case len(bytes.TrimSpace(line)) > 0:
				e, perr := Parse(line)
				if perr != nil {
					perr = &LineError{n, perr}
				}
				if !yield(e, perr) {
					return
				}
			}
			if err == io.EOF {
				return
			}
		}
	}
}

// readLine appends one line without its newline to buf, or as much of it as
// fits maxRead; the rest of a longer one is skipped.
func readLine(br *bufio.Reader, buf []byte) (line []byte, long bool, err error) {
	for {
		part, err := br.ReadSlice('\n')
		if !long && len(buf)+len(part) <= maxRead+1 {
			buf = append(buf, part...)
		} else {
			long = true
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		return bytes.TrimSuffix(buf, []byte{'\n'}), long, err
	}
}

// Parse reads one line. Fields that it does not know are ignored, so that
// lines of later versions can be read; a line without time or decision is
// refused, since it is something else.
func Parse(line []byte) (Entry, error) {
	var w struct {
		Time          *time.Time `json:"time"`
		RequestID     string     `json:"request_id"`
		Identity      string     `json:"identity"`
		AccessKeyID   string     `json:"access_key_id"`
		Role          string     `json:"role"`
		RoleARN       string     `json:"role_arn"`
		SessionName   string     `json:"session_name"`
		Client        string     `json:"client"`
		Method        string     `json:"method"`
		Host          string     `json:"host"`
		Service       string     `json:"service"`
		Region        string     `json:"region"`
		Operation     string     `json:"operation"`
		Actions       []string   `json:"actions"`
		Resources     []string   `json:"resources"`
		Decision      Decision   `json:"decision"`
		Reason        string     `json:"reason"`
		Policy        string     `json:"policy"`
		Statement     string     `json:"statement"`
		Status        int        `json:"status"`
		AWSRequestID  string     `json:"aws_request_id"`
		RequestBytes  int64      `json:"request_bytes"`
		ResponseBytes int64      `json:"response_bytes"`
		DurationMS    float64    `json:"duration_ms"`
		OverheadUS    int64      `json:"overhead_us"`
		Signature     string     `json:"signature"`
		Error         string     `json:"error"`
	}
	if err := json.Unmarshal(line, &w); err != nil {
		return Entry{}, fmt.Errorf("not a whole audit line: %w", err)
	}
	if w.Time == nil || w.Decision == "" {
		return Entry{}, errors.New("not an audit line: it has no time or no decision")
	}
	const longest = int64(1 << 52) // microseconds
	if math.Abs(w.DurationMS) > float64(longest/1000) || w.OverheadUS > longest || w.OverheadUS < -longest {
		return Entry{}, errors.New("not an audit line: its duration is out of range")
	}
	return Entry{
		Time: w.Time.UTC(), RequestID: w.RequestID, Identity: w.Identity, AccessKeyID: w.AccessKeyID,
		Role: w.Role, RoleARN: w.RoleARN, SessionName: w.SessionName, Client: w.Client, Method: w.Method,
		Host: w.Host, Service: w.Service, Region: w.Region, Operation: w.Operation, Actions: w.Actions,
		Resources: w.Resources, Decision: w.Decision, Reason: w.Reason, Policy: w.Policy,
		Statement: w.Statement, Status: w.Status, AWSRequestID: w.AWSRequestID,
		RequestBytes: w.RequestBytes, ResponseBytes: w.ResponseBytes,
		Duration: time.Duration(math.Round(w.DurationMS*1000)) * time.Microsecond,
		Overhead: time.Duration(w.OverheadUS) * time.Microsecond, Signature: w.Signature, Error: w.Error,
	}, nil
}
