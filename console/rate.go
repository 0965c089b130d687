package console

import (
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// limits keep sign-ins from being tried or made without end. Addresses share one
// bucket when there are too many to tell apart.
type limits struct {
	now      func() time.Time
	mu       sync.Mutex
	tries    map[string]*rate.Limiter // failed or begun sign-ins to the page, by address
	openings map[string]*rate.Limiter // sign-ins to AWS, by identity
}

const (
	maxBuckets   = 10_000
	tryBurst     = 20
	openingBurst = 20
)

var (
	tryEvery     = rate.Every(3 * time.Second)
	openingEvery = rate.Every(2 * time.Second)
)

func newLimits(now func() time.Time) *limits {
	return &limits{now: now, tries: map[string]*rate.Limiter{}, openings: map[string]*rate.Limiter{}}
}

// try says whether a client may try to sign in to the page.
func (l *limits) try(remote string) bool {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	return l.allow(l.tries, host, tryEvery, tryBurst)
}

// opening says whether an identity may be signed in to AWS.
func (l *limits) opening(name string) bool {
	return l.allow(l.openings, name, openingEvery, openingBurst)
}

func (l *limits) allow(buckets map[string]*rate.Limiter, key string, every rate.Limit, burst int) bool {
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
			b = rate.NewLimiter(every, burst)
			buckets[key] = b
		}
	}
	return b.AllowN(now, 1)
}
