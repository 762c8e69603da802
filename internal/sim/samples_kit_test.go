package sim

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/bridge"
	"github.com/wxtoken/wxtoken/wxtest"
)

const (
	sampleApp    = "wx1"
	sampleSecret = "0123456789abcdef"
	sampleKey    = "wxtoken:token:" + sampleApp
)

// bubble runs a test in virtual time, until all that it began is over.
func bubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			defer time.Sleep(24 * time.Hour) // also after a failure
			test(t)
		})
	})
}

// newPlatform is a fake platform that honours only the latest two tokens.
func newPlatform(opts ...wxtest.Option) *wxtest.Platform {
	return wxtest.NewPlatform(append([]wxtest.Option{wxtest.WithApp(sampleApp, sampleSecret), wxtest.WithStrictGrace()}, opts...)...)
}

func fetches(p *wxtest.Platform) int { return p.Stats().Fetches().Total() }

// through is a FetcherOption for p's client, seen through way.
func through(p *wxtest.Platform, way func(http.RoundTripper) http.RoundTripper) wxtoken.FetcherOption {
	if way == nil {
		return wxtoken.WithHTTPClient(p.Client())
	}
	return wxtoken.WithHTTPClient(&http.Client{Transport: way(p.Transport())})
}

func plain(p *wxtest.Platform) wxtoken.Fetcher {
	return wxtoken.NewFetcher(sampleApp, sampleSecret, through(p, nil))
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// A program is one process of an app: when it dies, its goroutines go on here, but nothing
// that they do reaches store or platform. What is under way lands.
type program struct {
	wxtoken.Fetcher
	wxtoken.Cache
	*wxtoken.Source
	name string // of the member of the fleet whose processes start one after the other
	dead context.Context
	die  context.CancelFunc
}

var errNoProcess = errors.New("the process is dead")

func startProgram(f wxtoken.Fetcher, c wxtoken.Cache, opts ...wxtoken.Option) *program {
	m := &program{Fetcher: f, Cache: c}
	m.dead, m.die = context.WithCancel(context.Background())
	m.Source = wxtoken.New(programFetcher{m}, programCache{m}, opts...)
	return m
}

// alive holds what a dead process does.
func (m *program) alive(ctx context.Context) error {
	if m.dead.Err() != nil {
		<-ctx.Done()
		return errNoProcess
	}
	return nil
}

type programFetcher struct{ m *program }

func (f programFetcher) Key() string { return f.m.Fetcher.Key() }

func (f programFetcher) Member() bridge.Name { return bridge.Name(f.m.name) }

func (f programFetcher) Repeatable() bool {
	r, ok := f.m.Fetcher.(interface{ Repeatable() bool })
	return ok && r.Repeatable()
}

func (f programFetcher) Fetch(ctx context.Context) (wxtoken.Token, error) {
	if err := f.m.alive(ctx); err != nil {
		return wxtoken.Token{}, err
	}
	t, err := f.m.Fetcher.Fetch(ctx)
	if dead := f.m.alive(ctx); dead != nil {
		return wxtoken.Token{}, dead
	}
	return t, err
}

type programCache struct{ m *program }

func (c programCache) Get(ctx context.Context, key string) ([]byte, error) {
	if err := c.m.alive(ctx); err != nil {
		return nil, err
	}
	return c.m.Cache.Get(ctx, key)
}

func (c programCache) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	if err := c.m.alive(ctx); err != nil {
		return false, err
	}
	return c.m.Cache.CompareAndSwap(ctx, key, old, new, ttl)
}

// A hooked is a cache that a test can hold up, count and rewind.
type hooked struct {
	wxtoken.Cache
	before func(ctx context.Context, swap bool) error
	after  func(new []byte) // of a swap that stored

	mu      sync.Mutex
	reads   atomic.Int64
	history [][]byte
}

func (h *hooked) hook(ctx context.Context, swap bool) error {
	if h.before == nil {
		return nil
	}
	return h.before(ctx, swap)
}

func (h *hooked) Get(ctx context.Context, key string) ([]byte, error) {
	if err := h.hook(ctx, false); err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.reads.Add(1)
	h.mu.Unlock()
	return h.Cache.Get(ctx, key)
}

func (h *hooked) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	if err := h.hook(ctx, true); err != nil {
		return false, err
	}
	stored, err := h.Cache.CompareAndSwap(ctx, key, old, new, ttl)
	if stored {
		h.mu.Lock()
		h.history = append(h.history, old)
		h.mu.Unlock()
		if h.after != nil {
			h.after(new)
		}
	}
	return stored, err
}

// rewind is a failover to a replica that lacks the last writes.
func (h *hooked) rewind(t *testing.T, writes int) {
	h.mu.Lock()
	was := h.history[len(h.history)-writes]
	h.history = h.history[:len(h.history)-writes]
	h.mu.Unlock()
	put(t, h.Cache, was)
}

// put puts raw, which may be nil, in the place of the record.
func put(t *testing.T, c wxtoken.Cache, raw []byte) {
	t.Helper()
	old, err := c.Get(t.Context(), sampleKey)
	if errors.Is(err, wxtoken.ErrCacheMiss) {
		old = nil
	}
	ttl := time.Hour
	if raw == nil { // there is no way to delete
		raw, ttl = []byte("{}"), time.Nanosecond
	}
	stored, err := c.CompareAndSwap(t.Context(), sampleKey, old, raw, ttl)
	require.NoError(t, err)
	require.True(t, stored)
	if ttl == time.Nanosecond {
		time.Sleep(ttl)
	}
}

// fields is the record as a reader in another language sees it.
func fields(t *testing.T, c wxtoken.Cache) map[string]any {
	t.Helper()
	raw, err := c.Get(t.Context(), sampleKey)
	if errors.Is(err, wxtoken.ErrCacheMiss) {
		return nil
	}
	require.NoError(t, err)
	var r map[string]any
	require.NoError(t, json.Unmarshal(raw, &r))
	return r
}

// change changes the record behind the processes' backs.
func change(t *testing.T, c wxtoken.Cache, do func(r map[string]any)) {
	t.Helper()
	r := fields(t, c)
	do(r)
	raw, err := json.Marshal(r)
	require.NoError(t, err)
	put(t, c, raw)
}

// need is Token, which must succeed.
func need(t *testing.T, src wxtoken.TokenSource) string {
	t.Helper()
	tok, err := src.Token(t.Context())
	require.NoError(t, err)
	return tok.Value
}

// failing counts the calls that fail of those made every period.
func failing(t *testing.T, src wxtoken.TokenSource, period, length time.Duration) (n int) {
	for start := time.Now(); time.Since(start) < length; time.Sleep(period) {
		ctx, cancel := context.WithTimeout(t.Context(), tolerated)
		if _, err := src.Token(ctx); err != nil {
			n++
		}
		cancel()
	}
	return n
}

const patience = 5 * time.Second // of a job

// job is one run of a cron job of the named member: a process that asks for one token,
// waits until nothing is under way, and ends.
func job(t *testing.T, name string, f wxtoken.Fetcher, c wxtoken.Cache) error {
	m := startProgram(f, c)
	m.name = name
	defer m.die()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := m.Token(ctx)
	_ = m.Wait(ctx)
	return err
}

// repeated calls do every period, until stop is called.
func repeated(period time.Duration, do func(i int)) (stop func()) {
	over, stop := context.WithCancel(context.Background())
	go func() {
		for i := 0; over.Err() == nil; i++ {
			do(i)
			time.Sleep(period)
		}
	}()
	return stop
}

// got reports whether src returns a token in time.
func got(t *testing.T, src wxtoken.TokenSource, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	_, err := src.Token(ctx)
	return err == nil
}

// accepted reports whether src returns a token in time that the platform accepts, if
// one that it rejects is reported, as Transport does.
func accepted(t *testing.T, p *wxtest.Platform, src *wxtoken.Source, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tok, err := src.Token(ctx)
	if err == nil && !p.Honoured(tok.Value) {
		_ = src.Invalidate(ctx, tok.Value)
		tok, err = src.Token(ctx)
	}
	return err == nil && p.Honoured(tok.Value)
}

// longest calls try every period, and returns the longest time from a call that failed
// to the next that did not.
func longest(period, length time.Duration, try func(i int) bool) (worst time.Duration) {
	var failed time.Time // zero: the last call did not
	start := time.Now()
	for i := 0; time.Since(start) < length; i++ {
		began := time.Now()
		ok := try(i)
		if !ok && failed.IsZero() {
			failed = began
		}
		if !failed.IsZero() {
			worst = max(worst, time.Since(failed))
		}
		if ok {
			failed = time.Time{}
		}
		time.Sleep(period)
	}
	return worst
}
