package wxtoken_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

// A stub is a Fetcher that counts and can be told what to answer.
type stub struct {
	latency    time.Duration
	lifetime   time.Duration // 0: two hours
	repeatable bool
	key        string
	answer     func(n int64) error // nil: every fetch succeeds
	block      chan struct{}       // if not nil, Fetch returns when it is closed, whatever ctx does

	fetches atomic.Int64
}

func (s *stub) Key() string      { return "stub" + s.key }
func (s *stub) Repeatable() bool { return s.repeatable }

func (s *stub) Fetch(ctx context.Context) (wxtoken.Token, error) {
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
