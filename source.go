package wxtoken

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wxtoken/wxtoken/internal/bridge"
	"github.com/wxtoken/wxtoken/internal/protocol"
)

// A Source hands out the one valid token of a credential, and sees to it that
// all Sources with the same Fetcher key and cache, in any number of processes,
// fetch it only once. Make one with New, keep it for the life of the process,
// and share it: it is safe for concurrent use, holds no goroutine while idle,
// and need not be closed.
type Source struct {
	fetcher Fetcher
	cache   Cache
	rules   protocol.Rules
	key     string
	seal    protocol.Sealer

	observer func(Event) // nil: none
	log      func(Event) // nil: none
	gate     bridge.Gate // nil: always open

	// hot is the held token for as long as it may be given out without a look
	// at anything else; a timer clears it. It makes the common path one load.
	hot atomic.Pointer[Token]

	mu      sync.Mutex    // guards what follows
	view    protocol.View // changed only by the flight under way
	flight  *flight       // nil: none
	refused string        // a value that Invalidate was given and no flight has judged
	refusal time.Time     // when it was given last
	failure error         // of the last flight; nil after one that succeeded
	retryAt time.Time     // while it is remembered, no new flight before this
	backoff time.Duration
	seen    bridge.Revision // of gate, when a failure was last forgiven for it
}

// New makes a Source of tokens that f fetches and that c shares between
// processes. A nil c means a new MemoryCache, good for a single process. New
// starts nothing and sends nothing. It panics if f is nil.
func New(f Fetcher, c Cache, opts ...Option) *Source {
	if f == nil {
		panic("wxtoken: New: nil Fetcher; pass NewFetcher(appID, secret)")
	}
	if c == nil {
		c = NewMemoryCache()
	}
	o := newOptions(opts)
	s := &Source{fetcher: f, cache: c, key: o.prefix + f.Key(), observer: o.observer, log: o.log}
	s.seal = protocol.Sealer{Keys: o.keys, CacheKey: s.key}
	s.rules = protocol.Rules{Fetch: o.fetchTimeout, Local: o.localAge, Ahead: jitter(o.refreshAhead)}
	r, ok := f.(interface{ Repeatable() bool })
	s.rules.Repeatable = ok && r.Repeatable()
	if p, ok := f.(interface{ fingerprint(salt string) string }); ok {
		s.rules.Fingerprint = p.fingerprint(s.key)
	}
	if s.gate, _ = f.(bridge.Gate); s.gate != nil {
		s.seen, _ = s.gate.Gate()
	}
	return s
}

// Format prints the key of the record, for every verb of package fmt, and neither
// the token nor the keys of WithEncryption.
func (s *Source) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "wxtoken.Source(%s)", s.key) }

// Token returns a token that can be used now. Mostly that is a copy in memory;
// when the copy is about to end, one caller in one process makes the platform
// replace it, in the background. A caller waits while there is no usable token,
// and for a look at the cache, but no longer than a second (a tenth of
// WithFetchTimeout), when the copy is older than WithLocalAge; never beyond its
// ctx. The work that it started goes on for the others.
//
// Errors wrap what happened: an *APIError if the platform refused, inside a
// *CooldownError that says when it is asked again; ErrCacheUnavailable if the
// cache does not answer and there is no usable copy; ctx's error if it ended
// before anything else was known.
func (s *Source) Token(ctx context.Context) (Token, error) {
	if t := s.hot.Load(); t != nil {
		return *t, nil
	}
	for {
		t, f, err := s.enter(ctx)
		if f != nil {
			t, err = s.await(ctx, f)
		}
		if t.Value != "" {
			return t, nil
		}
		if err != nil && !waitOut(ctx, err) {
			return Token{}, err
		}
	}
}

// enter returns a token or an error at once, or the flight to wait for.
func (s *Source) enter(ctx context.Context) (Token, *flight, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.closed(); err != nil {
		return Token{}, nil, err
	}
	now := time.Now()
	t, usable := s.held(now)
	soft, hard := s.rules.Ages(&s.view)
	switch {
	case usable && !protocol.Passed(now, soft):
		s.heat(now)
		return t, nil, nil
	case s.flight != nil:
	case now.Before(s.retryAt):
		if usable {
			return t, nil, nil
		}
		return Token{}, nil, s.failure
	case !usable && ctx.Err() != nil:
		return Token{}, nil, fmt.Errorf("wxtoken: no token at hand: %w", context.Cause(ctx))
	default:
		s.depart(ctx, false)
	}
	// Nobody waits again for what has only just failed.
	failing := s.failure != nil && s.flight.started.Before(s.retryAt.Add(s.rules.Watch()))
	if usable && (failing || !protocol.Passed(now, hard)) {
		return t, nil, nil
	}
	return Token{}, s.flight, nil
}

// closed returns why the gate is closed, if it is, and forgets failures that have
// lost their reason. s.mu is held.
func (s *Source) closed() error {
	if s.gate == nil {
		return nil
	}
	revision, err := s.gate.Gate()
	if revision != s.seen && s.flight == nil {
		s.seen = revision
		s.view.Forgive()
		s.failure, s.retryAt, s.backoff = nil, time.Time{}, 0
	}
	if err != nil {
		s.hot.Store(nil)
	}
	return err
}

// await waits for f, or until f offers the held token; what f goes on to do is
// for later callers. Who has to leave takes whatever there is. Without an error
// and without a token, f did not look for one.
func (s *Source) await(ctx context.Context, f *flight) (Token, error) {
	var ended error
	for {
		s.mu.Lock()
		t, usable := s.held(time.Now())
		offered, news := f.offers(), f.news
		s.mu.Unlock()
		if usable && (offered || ended != nil) {
			return t, nil
		}
		select {
		case <-f.done: // what is there beats a ctx that ended with it
			return f.token, f.err
		default:
		}
		if ended != nil {
			return Token{}, ended
		}
		select {
		case <-f.done:
		case <-news:
		case <-ctx.Done():
			ended = fmt.Errorf("wxtoken: waiting for a token: %w", context.Cause(ctx))
		}
	}
}

// waitOut waits for a platform that has only just said that it is busy, if ctx
// allows. The cooldown doubles, so nobody waits here more than twice.
func waitOut(ctx context.Context, err error) bool {
	var cool *CooldownError
	var refusal *APIError
	if !errors.As(err, &cool) || !errors.As(err, &refusal) || !refusal.Temporary() {
		return false
	}
	wait := time.Until(cool.Until)
	end, ends := ctx.Deadline()
	return 0 < wait && wait <= 2*time.Second && (!ends || wait < time.Until(end)) && sleep(ctx, wait)
}

// sleep waits for d and reports true, or false as soon as ctx ends.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// held is the token to give out. One that an API refused is kept back until a
// flight has judged it; if none can, since the cache is down, then for the watch
// age, as the platform now and then refuses a good one. s.mu is held.
func (s *Source) held(now time.Time) (Token, bool) {
	r, usable := s.view.Held(now)
	keptBack := r.Token == s.refused && now.Sub(s.refusal) < s.rules.Watch()
	return tokenOf(r), usable && !keptBack
}

// heat lets Token return the held token without a lock until its soft age, or
// 10 ms before its end as a timer may be late, and leaves no timer behind for
// longer. s.mu is held.
func (s *Source) heat(now time.Time) {
	t, usable := s.held(now)
	soft, _ := s.rules.Ages(&s.view)
	left := min(soft.Sub(now), t.ExpiresAt.Sub(now)-10*time.Millisecond)
	if !usable || left <= 0 || s.closed() != nil {
		s.hot.Store(nil)
		return
	}
	s.hot.Store(&t)
	time.AfterFunc(left, func() { s.hot.CompareAndSwap(&t, nil) })
}

// Run keeps the token fresh, calls or no calls, until ctx ends, and returns
// ctx's error. It is for a central server, whose clients should never wait.
// Failures are retried, and reported as Events.
func (s *Source) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		s.mu.Lock()
		if s.closed() == nil && s.flight == nil && !time.Now().Before(s.retryAt) {
			s.depart(ctx, false)
		}
		f := s.flight
		s.mu.Unlock()
		if f != nil {
			select {
			case <-f.done:
			case <-ctx.Done():
			}
		}
		s.mu.Lock()
		next, _ := s.rules.Ages(&s.view)
		if s.failure != nil {
			next = s.retryAt
		}
		s.mu.Unlock()
		sleep(ctx, max(time.Until(next), s.rules.Watch()/10))
	}
	return ctx.Err()
}
