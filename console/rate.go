package console

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// limits keep sign-ins from being tried, begun or made without end, and the record
// from being filled by that. What is right is never counted as a try, so nobody is
// locked out by what others do, be it from the same address: behind a balancer, or on
// one machine with a page of somebody else's. Addresses share one bucket when there are
// too many to tell apart.
type limits struct {
	now      func() time.Time
	mu       sync.Mutex
	tries    map[string]*bucket // what was wrong, by address
	begun    map[string]*bucket // what the issuer is asked, by address
	openings map[string]*bucket // sign-ins to AWS, by identity
}

type bucket struct {
	*rate.Limiter
	refused bool // since it let somebody through
}

const (
	maxBuckets   = 10_000
	tryBurst     = 20
	begunBurst   = 100
	openingBurst = 20
)

var (
	tryEvery     = rate.Every(3 * time.Second)
	begunEvery   = rate.Every(100 * time.Millisecond)
	openingEvery = rate.Every(2 * time.Second)
)

func newLimits(now func() time.Time) *limits {
	return &limits{now: now, tries: map[string]*bucket{}, begun: map[string]*bucket{}, openings: map[string]*bucket{}}
}

// verdict is what a limit says. A refusal that comes after another is not worth a line
// of the record.
type verdict struct{ ok, first bool }

// try counts what was wrong: a link, a ticket, an answer, a form.
func (l *limits) try(remote string) verdict {
	return l.allow(l.tries, address(remote), tryEvery, tryBurst)
}

// begin counts what the issuer is asked for somebody who is not known yet.
func (l *limits) begin(remote string) verdict {
	return l.allow(l.begun, address(remote), begunEvery, begunBurst)
}

// opening says whether an identity may be signed in to AWS.
func (l *limits) opening(name string) bool {
	return l.allow(l.openings, name, openingEvery, openingBurst).ok
}

// address is what a client is counted by: whoever has one IPv6 address has its /64
// (RFC 6177).
func address(remote string) string {
	a, err := netip.ParseAddrPort(remote)
	if err != nil {
		return remote
	}
	ip := a.Addr().Unmap().WithZone("")
	if ip.Is6() {
		return netip.PrefixFrom(ip, 64).Masked().String()
	}
	return ip.String()
}

func (l *limits) allow(buckets map[string]*bucket, key string, every rate.Limit, burst int) verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	b := buckets[key]
	if b == nil {
		if len(buckets) >= maxBuckets {
			for k, old := range buckets {
				if old.TokensAt(now) >= float64(burst) {
					delete(buckets, k)
				}
			}
		}
		if len(buckets) >= maxBuckets {
			key = ""
		}
		if b = buckets[key]; b == nil {
			b = &bucket{Limiter: rate.NewLimiter(every, burst)}
			buckets[key] = b
		}
	}
	v := verdict{ok: b.AllowN(now, 1), first: !b.refused}
	b.refused = !v.ok
	return v
}
