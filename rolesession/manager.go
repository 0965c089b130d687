package rolesession

import (
	"context"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// The defaults of Options.
const (
	DefaultRegion      = "us-east-1"
	DefaultCacheSize   = 4096
	DefaultCallTimeout = 20 * time.Second
	DefaultParallel    = 64
)

// Options say which roles there are and how STS is reached. Source is required;
// the zero value of everything else is its documented default.
type Options struct {
	Roles  map[string]Role
	Source aws.CredentialsProvider // the proxy's own credentials
	// Profile names the profile of the source credentials in messages.
	Profile string
	// Region is where STS is called, and that region's endpoint is used; "" is
	// us-east-1. Its partition must be that of the roles.
	Region     string
	FIPS       bool                       // call the FIPS endpoint
	Endpoint   string                     // "" is the region's; a URL otherwise
	HTTPClient aws.HTTPClient             // nil is the SDK's, which knows no proxy settings of ours
	Client     func(options *sts.Options) // last change to the options of each STS client; nil: none

	CallTimeout time.Duration // of one session, its retries included; 0 is 20 s
	Parallel    int           // STS calls at a time; 0 is 64
	CacheSize   int           // sessions kept; 0 is 4096

	Now     func() time.Time
	Rand    io.Reader   // for jitter; nil is crypto/rand
	Observe func(Event) // called after each STS call, from any goroutine; must not block
}

// Manager makes sessions and keeps them. It is safe for concurrent use. Close
// ends the goroutines that it started.
type Manager struct {
	opt    Options
	source *aws.CredentialsCache
	roles  atomic.Pointer[map[string]*role]

	// sourceIsRole is set when STS said that the source credentials are a role
	// session, whose roles last an hour at most.
	sourceIsRole atomic.Bool

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup
	slots  chan struct{}

	mu      sync.Mutex
	closed  bool
	entries *simplelru.LRU[key, *entry]
	dropped *simplelru.LRU[string, struct{}] // access key ids that AWS refused
	caller  callerState

	sourceKey atomic.Pointer[sourceKey]
}

// New checks every role and returns a Manager. The error names each role and key
// that is wrong.
func New(opt Options) (*Manager, error) {
	if opt.Source == nil {
		return nil, errors.New("rolesession: Options.Source is missing")
	}
	if opt.Region == "" {
		opt.Region = DefaultRegion
	}
	if opt.CallTimeout <= 0 {
		opt.CallTimeout = DefaultCallTimeout
	}
	if opt.Parallel <= 0 {
		opt.Parallel = DefaultParallel
	}
	if opt.CacheSize <= 0 {
		opt.CacheSize = DefaultCacheSize
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Rand == nil {
		opt.Rand = cryptorand.Reader
	}
	if opt.Observe == nil {
		opt.Observe = func(Event) {}
	}
	roles, err := compileRoles(opt.Roles, opt.Region)
	if err != nil {
		return nil, err
	}
	entries, err := simplelru.NewLRU[key, *entry](opt.CacheSize, nil)
	if err != nil {
		return nil, fmt.Errorf("rolesession: %w", err)
	}
	dropped, err := simplelru.NewLRU[string, struct{}](maxDropped, nil)
	if err != nil {
		return nil, fmt.Errorf("rolesession: %w", err)
	}
	source, ok := opt.Source.(*aws.CredentialsCache)
	if !ok {
		source = aws.NewCredentialsCache(opt.Source)
	}
	m := &Manager{
		opt:     opt,
		source:  source,
		slots:   make(chan struct{}, opt.Parallel),
		entries: entries,
		dropped: dropped,
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.roles.Store(&roles)
	return m, nil
}

// SetRoles replaces all roles, or none of them and says why. Sessions of entries
// that did not change are kept, since the cache knows them by their content.
func (m *Manager) SetRoles(entries map[string]Role) error {
	roles, err := compileRoles(entries, m.opt.Region)
	if err != nil {
		return err
	}
	m.roles.Store(&roles)
	return nil
}

// Role returns an entry of the configuration.
func (m *Manager) Role(name string) (Role, bool) {
	r, ok := (*m.roles.Load())[name]
	if !ok {
		return Role{}, false
	}
	return r.Role, true
}

// Invalidate forgets every session and the source credentials, so that the next
// request makes them anew.
func (m *Manager) Invalidate() {
	m.source.Invalidate()
	m.sourceIsRole.Store(false)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries.Purge()
	m.caller = callerState{}
}

// Forget drops the sessions of a principal, by its name. At AWS they live until they
// expire; who is still let in gets new ones.
func (m *Manager) Forget(principal string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.entries.Keys() {
		if e, ok := m.entries.Peek(k); ok && e.principal == principal {
			m.entries.Remove(k)
		}
	}
}

// Close cancels the STS calls under way and waits for them. Sessions are refused
// from then on.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.closed = true
	m.entries.Purge()
	m.mu.Unlock()
	m.cancel()
	m.work.Wait()
	return nil
}

// Sessions returns what is held now and has not expired, in no order.
func (m *Manager) Sessions() []Info {
	now := m.opt.Now()
	m.mu.Lock()
	held := m.entries.Values()
	m.mu.Unlock()
	var out []Info
	for _, e := range held {
		if info, ok := e.info(now); ok {
			out = append(out, info)
		}
	}
	return out
}

// where names the STS endpoint in messages.
func (m *Manager) where() string {
	if m.opt.Endpoint != "" {
		return "its configured endpoint"
	}
	return "its endpoint in " + m.opt.Region
}

func closedError() *Error {
	return &Error{Kind: KindClosed, Message: "The proxy is shutting down."}
}

// Source returns the proxy's own credentials. Errors are of type *[Error].
func (m *Manager) sourceCredentials(ctx context.Context) (aws.Credentials, error) {
	creds, err := m.source.Retrieve(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return aws.Credentials{}, ctx.Err()
		}
		return aws.Credentials{}, m.sourceError(err)
	}
	if !creds.HasKeys() {
		return aws.Credentials{}, m.sourceError(errors.New("static credentials are empty"))
	}
	if creds.CanExpire && !m.opt.Now().Before(creds.Expires) {
		m.source.Invalidate()
		return aws.Credentials{}, m.sourceError(fmt.Errorf("they expired at %s", creds.Expires.UTC().Format(time.RFC3339)))
	}
	m.noticeSource(creds.AccessKeyID)
	return creds, nil
}
