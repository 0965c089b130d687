package main

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/mitm"
)

func TestUntrustingClientsAreLoggedOnceAMinute(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var u untrusting
	for i, c := range []struct {
		client string
		after  time.Duration
		want   int
	}{
		{"10.0.0.1:1000", 0, 1},
		{"10.0.0.1:1001", 0, 0},
		{"10.0.0.2:1000", 0, 1},
		{"10.0.0.1:1002", 59 * time.Second, 0},
		{"10.0.0.1:1003", time.Second, 3},
		{"10.0.0.1:1004", 0, 0},
		{"[2001:db8::1]:1", 0, 1},
		{"[2001:db8::1]:2", -time.Hour, 1}, // the clock was set back
		{"a pipe", 0, 1},
	} {
		at = at.Add(c.after)
		if got := u.note(c.client, at); got != c.want {
			t.Errorf("%d: a line on %d connections, expected %d", i, got, c.want)
		}
	}
}

func TestUntrustingClientsAreBounded(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var u untrusting
	lines := 0
	for i := range 10_000 {
		lines += min(u.note(fmt.Sprintf("10.0.%d.%d:1", i/256, i%256), at), 1)
	}
	if lines != maxUntrusting+1 || len(u.clients) != maxUntrusting+1 {
		t.Errorf("%d lines, %d clients", lines, len(u.clients))
	}
	at = at.Add(time.Minute)
	if got := u.note("10.9.9.9:1", at); got != 1 || len(u.clients) != 1 {
		t.Errorf("a minute later: a line on %d, %d clients", got, len(u.clients))
	}
}

func TestEachUntrustedConnectionIsRecorded(t *testing.T) {
	core, logged := observer.New(zap.WarnLevel)
	var record recorder
	l, err := audit.Open(audit.Options{Writer: &record})
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{log: zap.New(core), audit: l}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for range 50 {
		p.recordEvent(mitm.Event{Time: at, Kind: mitm.KindHandshake, Code: mitm.CodeUntrusted, Client: "10.0.0.1:1", Host: "s3.amazonaws.com", Port: 443}, "id")
	}
	p.recordEvent(mitm.Event{Time: at, Kind: mitm.KindHandshake, Code: mitm.CodeClosed, Client: "10.0.0.2:1", Host: "s3.amazonaws.com", Port: 443}, "id")
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if logged.Len() != 1 || logged.All()[0].ContextMap()["connections"] != int64(1) || record.lines != 51 {
		t.Errorf("logged %v, recorded %d", logged.All(), record.lines)
	}
}

// recorder counts the lines of a record.
type recorder struct{ lines int }

func (r *recorder) Write(p []byte) (int, error) {
	for _, b := range p {
		if b == '\n' {
			r.lines++
		}
	}
	return len(p), nil
}
