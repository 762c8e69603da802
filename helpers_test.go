package wxtoken_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/errcode"
)

// A countingFetcher is a Fetcher that counts its fetches and answers as a test says.
type countingFetcher struct {
	latency    time.Duration
	lifetime   time.Duration // 0: two hours
	repeatable bool
	key        string
	answer     func(n int64) error // nil: every fetch succeeds
	block      chan struct{}       // if not nil, Fetch returns when it is closed, whatever ctx does

	fetches atomic.Int64
}

func (s *countingFetcher) Key() string { return "stub" + s.key }

func (s *countingFetcher) Repeatable() bool { return s.repeatable }

func (s *countingFetcher) Fetch(ctx context.Context) (wxtoken.Token, error) {
	n := s.fetches.Add(1)
	start := time.Now()
	if s.block != nil {
		<-s.block
	}
	select {
	case <-time.After(s.latency):
	case <-ctx.Done():
		return wxtoken.Token{}, ctx.Err()
	}
	if s.answer != nil {
		if err := s.answer(n); err != nil {
			return wxtoken.Token{}, err
		}
	}
	life := s.lifetime
	if life == 0 {
		life = 2 * time.Hour
	}
	return wxtoken.Token{Value: fmt.Sprintf("token-%d", n), ExpiresAt: start.Add(life)}, nil
}

// fixed is a Fetcher that has the same value each time, for another hour.
func fixed(key, value string) wxtoken.Fetcher {
	return wxtoken.FetcherFunc(key, func(context.Context) (wxtoken.Token, error) {
		return wxtoken.Token{Value: value, ExpiresAt: time.Now().Add(time.Hour)}, nil
	})
}

// A faultyCache fails or delays the operations of another.
type faultyCache struct {
	wxtoken.Cache
	get   func(ctx context.Context) error            // before the real Get
	swap  func(ctx context.Context) error            // before the real CompareAndSwap
	after func(stored bool, err error) (bool, error) // after it
	gets  atomic.Int64
	swaps atomic.Int64
}

func (c *faultyCache) Get(ctx context.Context, key string) ([]byte, error) {
	c.gets.Add(1)
	if c.get != nil {
		if err := c.get(ctx); err != nil {
			return nil, err
		}
	}
	return c.Cache.Get(ctx, key)
}

func (c *faultyCache) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	c.swaps.Add(1)
	if c.swap != nil {
		if err := c.swap(ctx); err != nil {
			return false, err
		}
	}
	stored, err := c.Cache.CompareAndSwap(ctx, key, old, new, ttl)
	if c.after != nil {
		return c.after(stored, err)
	}
	return stored, err
}

var errDown = errors.New("connection refused")

const ever = math.MaxInt64

// failBetween is an answer of a countingFetcher: err to the fetches from first to last.
func failBetween(first, last int64, err error) func(n int64) error {
	return func(n int64) error {
		if first <= n && n <= last {
			return err
		}
		return nil
	}
}

// hang is a call of a cache that ends with its ctx.
func hang(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// breakable makes a cache fail while down is true.
func breakable(c wxtoken.Cache) (cache *faultyCache, down *atomic.Bool) {
	down = new(atomic.Bool)
	fail := func(context.Context) error {
		if down.Load() {
			return errDown
		}
		return nil
	}
	return &faultyCache{Cache: c, get: fail, swap: fail}, down
}

// broken makes a cache fail until it is repaired.
func broken(c wxtoken.Cache) (cache *faultyCache, repair func()) {
	cache, down := breakable(c)
	down.Store(true)
	return cache, func() { down.Store(false) }
}

// slow makes each call of a cache take d.
func slow(c wxtoken.Cache, d time.Duration) *faultyCache {
	wait := func(context.Context) error { time.Sleep(d); return nil }
	return &faultyCache{Cache: c, get: wait, swap: wait}
}

// A swapsBy cache has another CompareAndSwap if swap is not nil.
type swapsBy struct {
	wxtoken.Cache
	swap func(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error)
}

func (s *swapsBy) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	if s.swap != nil {
		return s.swap(ctx, key, old, new, ttl)
	}
	return s.Cache.CompareAndSwap(ctx, key, old, new, ttl)
}

// A log keeps the Events of a Source.
type log struct {
	mu     sync.Mutex
	events []wxtoken.Event
}

func (l *log) option() wxtoken.Option {
	return wxtoken.WithObserver(func(e wxtoken.Event) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.events = append(l.events, e)
	})
}

// all returns the Events so far, in a bubble, once nothing is under way.
func (l *log) all() []wxtoken.Event {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

func (l *log) count(kind wxtoken.EventKind) int {
	n := 0
	for _, e := range l.all() {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// token is src.Token that must succeed.
func token(t *testing.T, src wxtoken.TokenSource) string {
	t.Helper()
	tok, err := src.Token(t.Context())
	require.NoError(t, err)
	require.True(t, tok.Valid())
	return tok.Value
}

// processes makes n Sources on one cache, as n processes have.
func processes(n int, f wxtoken.Fetcher, c wxtoken.Cache, opts ...wxtoken.Option) []*wxtoken.Source {
	srcs := make([]*wxtoken.Source, n)
	for i := range srcs {
		srcs[i] = wxtoken.New(f, c, opts...)
	}
	return srcs
}

// use asks each of srcs for the token every so often, for d, and returns how many of
// the calls blocked. All must succeed.
func use(t *testing.T, d, every time.Duration, srcs ...*wxtoken.Source) (blocked int) {
	t.Helper()
	for start := time.Now(); time.Since(start) < d; time.Sleep(every) {
		for _, src := range srcs {
			before := time.Now()
			token(t, src)
			if time.Since(before) > 0 {
				blocked++
			}
		}
	}
	return blocked
}

// together runs fn n times at once and waits for all.
func together(n int, fn func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { fn(i) })
	}
	wg.Wait()
}

// age makes tokens old enough for the first rejection in a row to be believed.
func age(t *testing.T) {
	t.Helper()
	time.Sleep(11 * time.Second)
}

// heap returns how many bytes are in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bubble runs a test in virtual time.
func bubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { inBubble(t, test) })
}

func inBubble(t *testing.T, test func(t *testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		defer time.Sleep(2 * time.Hour) // all that is under way ends by itself
		test(t)
	})
}

// bubbles runs a test in virtual time, beside the others of its kind.
func bubbles(t *testing.T, name string, test func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		inBubble(t, test)
	})
}

// stored returns what is stored under the key of countingFetchers.
func stored(t *testing.T, c wxtoken.Cache) string {
	t.Helper()
	raw, err := c.Get(t.Context(), "wxtoken:stub")
	require.NoError(t, err)
	return string(raw)
}

// recordOf reads that as a reader in another language would.
func recordOf(t *testing.T, c wxtoken.Cache) map[string]any {
	t.Helper()
	var r map[string]any
	require.NoError(t, json.Unmarshal([]byte(stored(t, c)), &r))
	return r
}

// put stores a value there, whatever there was.
func put(t *testing.T, c wxtoken.Cache, value string) {
	t.Helper()
	old, err := c.Get(t.Context(), "wxtoken:stub")
	if errors.Is(err, wxtoken.ErrCacheMiss) {
		old = nil
	}
	mustSwap(t, c, "wxtoken:stub", old, []byte(value), time.Hour)
}

// change edits the record that is there, as another process would.
func change(t *testing.T, c wxtoken.Cache, edit func(r map[string]any)) {
	t.Helper()
	r := recordOf(t, c)
	edit(r)
	raw, err := json.Marshal(r)
	require.NoError(t, err)
	put(t, c, string(raw))
}

// recordWith is a record with a token, and with more fields, such as `"early":5,`.
func recordWith(value string, issued, expires time.Time, more string) string {
	return fmt.Sprintf(`{"v":1,"epoch":"e","seq":4,%s"token":%q,"issued_at":%d,"expires_at":%d}`,
		more, value, issued.UnixMilli(), expires.UnixMilli())
}

// swappable is a store that can be lost.
type swappable struct {
	mu    sync.Mutex
	cache wxtoken.Cache // guarded by mu
}

func newSwappable() *swappable { return &swappable{cache: wxtoken.NewMemoryCache()} }

// use puts c in place of the store.
func (s *swappable) use(c wxtoken.Cache) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cache = c
}

func (s *swappable) lose() { s.use(wxtoken.NewMemoryCache()) }

func (s *swappable) current() wxtoken.Cache {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cache
}

func (s *swappable) Get(ctx context.Context, key string) ([]byte, error) {
	return s.current().Get(ctx, key)
}

func (s *swappable) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	return s.current().CompareAndSwap(ctx, key, old, new, ttl)
}

// An onPlatform fetcher is one of another package of the module.
type onPlatform struct {
	wxtoken.Fetcher
	platform errcode.Platform
}

func (f onPlatform) Platform() errcode.Platform { return f.platform }

// rotatingSource hands out first or else token-1, and next or else token-2 and so on
// after each Invalidate of the current one.
type rotatingSource struct {
	first, next string

	mu            sync.Mutex
	rotations     int
	asked         int
	rejected      []string
	failFrom      int // the call of Token from which on it fails; 0: none
	invalidateErr error
}

func (s *rotatingSource) current() string {
	switch {
	case s.first != "" && s.rotations == 0:
		return s.first
	case s.next != "" && s.rotations > 0:
		return s.next
	}
	return "token-" + strconv.Itoa(s.rotations+1)
}

func (s *rotatingSource) Token(context.Context) (wxtoken.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked++; s.failFrom > 0 && s.asked >= s.failFrom {
		return wxtoken.Token{}, errors.New("the platform is away")
	}
	return wxtoken.Token{Value: s.current()}, nil
}

func (s *rotatingSource) Invalidate(_ context.Context, rejected string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rejected = append(s.rejected, rejected)
	if s.invalidateErr != nil {
		return s.invalidateErr
	}
	if rejected == s.current() {
		s.rotations++
	}
	return nil
}

// A platform is a Base that records what it was sent, closes request bodies, and
// returns its answers in turn, the last one again and again. It has no connections.
type platform struct {
	answers []string
	header  http.Header
	status  int
	err     error

	mu     sync.Mutex
	sent   []*http.Request
	bodies []string
	closed []bool // the answers' bodies
}

func (p *platform) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
		_ = req.Body.Close()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.sent)
	p.sent, p.bodies, p.closed = append(p.sent, req), append(p.bodies, string(body)), append(p.closed, false)
	if p.err != nil {
		return nil, p.err
	}
	text := p.answers[min(n, len(p.answers)-1)]
	return &http.Response{
		StatusCode:    max(p.status, http.StatusOK),
		Header:        p.header.Clone(),
		ContentLength: int64(len(text)),
		Request:       req,
		Body: &closeSpy{strings.NewReader(text), func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.closed[n] = true
		}},
	}, nil
}

func (p *platform) queries() []string {
	var qs []string
	for _, r := range p.sent {
		qs = append(qs, r.URL.RawQuery)
	}
	return qs
}

type closeSpy struct {
	io.Reader
	close func()
}

func (c *closeSpy) Close() error { c.close(); return nil }

func get(t *testing.T, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	require.NoError(t, err)
	return req
}

func readAll(t *testing.T, resp *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return string(text)
}

// send has a Transport send req, which must succeed, and returns the answer's body.
func send(t *testing.T, tr http.RoundTripper, req *http.Request) string {
	t.Helper()
	resp, err := tr.RoundTrip(req)
	require.NoError(t, err)
	if resp.Body == nil {
		return ""
	}
	return readAll(t, resp)
}

type baseFunc func(*http.Request) (*http.Response, error)

func (f baseFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
