package rolesession

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/countersign-proxy/countersign/rolesession/ststest"
)

func TestRefusedSessionIsMadeAgainOnce(t *testing.T) {
	f := newFixture(t, map[string]Role{"deploy": {ARN: deployARN}})
	first := f.mustCredentials(t, "deploy", alice).Credentials.AccessKeyID
	f.clock.Advance(59 * time.Second)
	if f.Refused(first) || f.mustCredentials(t, "deploy", alice).Credentials.AccessKeyID != first {
		t.Error("a new session was dropped: where a region is not enabled, each request would be an STS call")
	}
	f.clock.Advance(time.Second)
	for _, other := range []string{"", "ASIAOTHER"} {
		if f.Refused(other) || f.mustCredentials(t, "deploy", alice).Credentials.AccessKeyID != first {
			t.Errorf("the refusal of %q dropped it", other)
		}
	}
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if !f.Refused(first) {
				t.Error("not to be sent again")
			}
			if s, err := f.Credentials(t.Context(), "deploy", alice); err != nil || s.Credentials.AccessKeyID == first {
				t.Errorf("%v, %v", s, err)
			}
		})
	}
	wg.Wait()
	if n := len(f.server.Calls()); n != 2 {
		t.Errorf("%d STS calls", n)
	}
	second := f.mustCredentials(t, "deploy", alice).Credentials.AccessKeyID
	if f.Refused(second) || !f.Refused(first) {
		t.Error("the new session is not at fault, and the old one is")
	}
	f.clock.Advance(-time.Hour) // the session was made while the clock was ahead
	if !f.Refused(second) || f.mustCredentials(t, "deploy", alice).Credentials.AccessKeyID == second {
		t.Error("it is still held")
	}
}

func TestRefusedHubOfAChainIsMadeAgain(t *testing.T) {
	f := newFixture(t, map[string]Role{
		"hub":   {ARN: "arn:aws:iam::111111111111:role/Hub"},
		"spoke": {ARN: "arn:aws:iam::222222222222:role/Spoke", Via: "hub"},
		"rim":   {ARN: "arn:aws:iam::333333333333:role/Rim", Via: "hub"},
	}, func(o *Options) { o.Parallel = 1 })
	f.mustCredentials(t, "spoke", alice)
	hub := f.mustCredentials(t, "hub", alice).Credentials.AccessKeyID
	f.server.Forget(hub)
	if _, err := f.Credentials(t.Context(), "rim", alice); kindOf(err) != KindDenied {
		t.Errorf("a session that was made just now is not made again: %v", err)
	}
	f.clock.Advance(time.Minute)
	f.mustCredentials(t, "rim", alice)
	want := []string{"AssumeRole", "AssumeRole", "AssumeRole", "AssumeRole"} // hub, spoke, hub, rim; what was refused is not counted
	if got := f.server.Actions(); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func TestRefusedSourceCredentialsAreFetchedAgain(t *testing.T) {
	var fetches atomic.Int64
	f := newFixture(t, map[string]Role{"own": {}}, func(o *Options) {
		o.Source = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			fetches.Add(1)
			return ststest.Source(), nil
		})
	})
	id := ststest.Source().AccessKeyID
	f.mustCredentials(t, "own", alice)
	for i, c := range []struct {
		after time.Duration
		again bool
		want  int64
	}{
		{0, false, 1},
		{time.Minute, true, 2},
		{0, false, 2}, // they came back the same: AWS's error is for the client
		{59 * time.Second, false, 2},
		{time.Second, true, 3},
		{-time.Hour, true, 4},
	} {
		f.clock.Advance(c.after)
		again := f.Refused(id)
		f.mustCredentials(t, "own", alice)
		if again != c.again || fetches.Load() != c.want {
			t.Errorf("%d: %v, %d fetches", i, again, fetches.Load())
		}
	}
}
