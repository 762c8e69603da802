package wxtoken

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/wxtoken/wxtoken/internal/bridge"
	"github.com/wxtoken/wxtoken/internal/protocol"
)

// A Source hands out the one valid token of a credential, and ensures that
// all Sources with the same [Fetcher] key and cache, in any number of processes,
// fetch it only once. Make one with [New], keep it for the lifetime of the
// process, and share it: it is safe for concurrent use, has no goroutine while idle,
// and need not be closed. The zero Source fetches nothing: its methods return an error
// that says so, and Peek and Wait return at once.
type Source struct {
	fetcher Fetcher
	cache   Cache
	key     string
	sealer  *protocol.Sealer // nil: no WithEncryption

	observer func(Event) // nil: none
	log      func(Event) // nil: none

	fresh  atomic.Pointer[Token] // the token, while Token can return it without the lock; a timer clears it
	handed memory                // what it handed out

	waiting atomic.Int64 // callers who block until a flight has ended

	mu      sync.Mutex // guards what follows
	process protocol.Process
	flight  *flight         // nil: none
	busy    int             // flights under way, or whose Events are being delivered
	idle    chan struct{}   // closed when there are none of those any more; nil: there are none
	stale   *time.Timer     // clears fresh
	failure *failure        // of the last flight; nil after one that succeeded
	mutes   mutes           // Events sent at most once a minute
	foreign *foreign        // the record is not for this process to read; nil: it has not been seen
	seen    bridge.Revision // of the Fetcher's Gate, when a failure was last forgiven for it
}

// errZeroSource is what the zero Source returns.
var errZeroSource = errors.New("wxtoken: this Source comes from no constructor; make it with New")

// A failure of a flight is remembered for a moment.
type failure struct {
	err     error
	until   time.Time // no new flight before this
	backoff time.Duration
}

// retryAt is when a new flight can start. A nil failure is none.
func (f *failure) retryAt() time.Time {
	if f == nil {
		return time.Time{}
	}
	return f.until
}

// New returns a [Source] of tokens that f fetches and that c shares between
// processes. A nil c means a new [MemoryCache], for a single process. New starts
// nothing and sends nothing. It panics if f is nil.
func New(f Fetcher, c Cache, opts ...Option) *Source {
	if f == nil {
		panic("wxtoken: New: nil Fetcher; pass NewFetcher(appID, secret)")
	}
	if c == nil {
		c = NewMemoryCache()
	}
	o := newOptions(opts)
	s := &Source{fetcher: f, cache: c, key: o.prefix + f.Key(), observer: o.observer, log: o.log}
	if len(o.keys) > 0 {
		s.sealer = &protocol.Sealer{Keys: o.keys, CacheKey: s.key, Plain: o.plainRecords}
	}
	s.process.Rules = protocol.Rules{
		Fetch: o.fetchTimeout, Local: o.localAge, Ahead: jitter(o.refreshAhead),
		Repeatable: isRepeatable(f),
	}
	var keyed func(text string) string // by the secret; nil: it is not known yet
	if p, ok := f.(secretive); ok {
		if s.process.Fingerprint = p.fingerprint(s.key); s.process.Fingerprint != "" {
			keyed = p.fingerprint
		}
	}
	_, s.process.Changeable = f.(changeable)
	var hosts []string
	if p, ok := f.(interface{ askedHosts() []string }); ok {
		hosts = p.askedHosts()
	}
	s.process.Member, s.process.Vague = func() string { return member(keyed, hosts) }, keyed == nil
	if m, ok := f.(bridge.Member); ok {
		s.process.Member, s.process.Vague = func() string { return string(m.Member()) }, false
	}
	s.process.AtExpiry, s.process.FullLife = repeats(f)
	if gate, ok := f.(bridge.Gate); ok {
		s.seen, _ = gate.Gate()
	}
	return s
}

// member names what this process has in common with the next that is started in the
// same way on the same machine: one whose proxy is broken may live for a second, and
// be started again and again. What sets its way to the platform apart from another's is
// part of the name. Arguments, proxies and URLs can hold passwords, so they count only
// under a hash that the secret keys; without a fixed secret, the machine and the program
// are all that counts, and no lease has the name.
func member(keyed func(text string) string, hosts []string) string {
	host, _ := os.Hostname()
	if keyed != nil {
		return keyed(fmt.Sprintf("%q%q", append([]string{"member", host, os.Getenv("HTTPS_PROXY"), os.Getenv("https_proxy")}, os.Args...), hosts))
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", append([]string{host}, os.Args[:min(len(os.Args), 1)]...)))
	return hex.EncodeToString(sum[:5])
}

func isRepeatable(f Fetcher) bool {
	r, ok := f.(interface{ Repeatable() bool })
	return ok && r.Repeatable()
}

// seal seals and opens the record, if there are keys.
func (s *Source) seal() protocol.Sealer {
	if s.sealer == nil {
		return protocol.Sealer{}
	}
	return *s.sealer
}

// Format prints the key of the record, for every verb of package fmt, and neither
// the token nor the keys of [WithEncryption].
func (s *Source) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "wxtoken.Source(%s)", s.key) }

// Token returns a token that can be used now. Usually that is a copy in memory;
// when the copy is about to expire, one caller in one process makes the platform
// replace it, in the background.
//
// A caller blocks while there is no usable token. If the copy is older than
// [WithLocalAge], it also blocks while the cache is read, but rarely for more than a
// second (a tenth of [WithFetchTimeout]). It never blocks beyond its ctx. Work that it
// started continues for other callers.
//
// Errors wrap what happened: an [*APIError] if the platform denied the request,
// inside a [*CooldownError] that says when it is asked again; [ErrCacheUnavailable]
// if the cache does not answer and there is no usable copy; ctx's error if it
// ended before anything else was known.
func (s *Source) Token(ctx context.Context) (Token, error) {
	if t := s.fresh.Load(); t != nil {
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
		if err != nil && !s.waitOut(ctx, err) {
			return Token{}, err
		}
	}
}

// enter returns a token or an error at once, or the flight to wait for, which it starts
// if there is none.
func (s *Source) enter(ctx context.Context) (Token, *flight, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.closed(); err != nil {
		return Token{}, nil, err
	}
	now := time.Now()
	t, usable := s.held(now)
	fresh, stale := s.process.Ages(now)
	switch {
	case usable && !protocol.Passed(now, fresh):
		s.refresh(now)
		return t, nil, nil
	case s.flight != nil:
	case now.Before(s.failure.retryAt()): // another would fail too
		if usable {
			return t, nil, nil
		}
		return Token{}, nil, s.failure.err
	case !usable && ctx.Err() != nil:
		return Token{}, nil, fmt.Errorf("wxtoken: no token at hand: %w", context.Cause(ctx))
	default:
		s.start(ctx, false)
	}
	if usable && (s.failing(s.flight.started) || !protocol.Passed(now, stale)) {
		return t, nil, nil
	}
	s.waiting.Add(1)
	s.process.Seek() // else flights that only decide on rejections could follow one another for long
	return Token{}, s.flight, nil
}

// closed returns why no token is handed out or fetched, if so, and drops failures
// whose cause may be gone. s.mu is held.
func (s *Source) closed() error {
	if s.fetcher == nil {
		return errZeroSource
	}
	gate, ok := s.fetcher.(bridge.Gate)
	if !ok {
		return nil
	}
	revision, err := gate.Gate()
	if revision != s.seen && s.flight == nil {
		s.seen = revision
		s.process.Forgive()
		s.failure = nil
	}
	if err != nil {
		s.fresh.Store(nil)
	}
	return err
}

// failing reports whether a flight that starts at started follows closely on one that
// has failed: callers do not block on it while there is a copy. s.mu is held.
func (s *Source) failing(started time.Time) bool {
	return s.failure != nil && started.Before(s.failure.until.Add(s.process.Watch()))
}

// Peek returns the token that Token would return at once, without blocking and
// without I/O, and false if there is none. It starts nothing, so a readiness
// handler can call it at any rate. It does not keep the token fresh either: a copy
// counts for [WithLocalAge] only, so a program that calls Peek also calls Token, or
// runs [Source.Run].
func (s *Source) Peek() (Token, bool) {
	if t := s.fresh.Load(); t != nil {
		return *t, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed() != nil {
		return Token{}, false
	}
	now := time.Now()
	t, usable := s.held(now)
	_, stale := s.process.Ages(now)
	started := now // when the flight would that Token waits for
	if s.flight != nil {
		started = s.flight.started
	}
	atOnce := !protocol.Passed(now, stale) || s.failing(started) || s.flight != nil && s.flight.offers(now)
	if !usable || !atOnce {
		return Token{}, false
	}
	return t, true
}

// await blocks until f has ended or offers the held token. A caller whose ctx ends
// gets the copy, if there is one. Neither token nor error: f only decided on rejections.
func (s *Source) await(ctx context.Context, f *flight) (Token, error) {
	defer s.waiting.Add(-1)
	for {
		ended := ctx.Err() != nil
		s.mu.Lock()
		now := time.Now()
		t, usable := s.held(now)
		offered, news := f.offers(now), f.news
		s.mu.Unlock()
		if usable && (offered || ended) {
			return t, nil
		}
		select {
		case <-f.done: // what is there beats a ctx that ended with it
			return f.token, f.err
		default:
		}
		if ended {
			return Token{}, fmt.Errorf("wxtoken: waiting for a token: %w", context.Cause(ctx))
		}
		select {
		case <-news:
		case <-ctx.Done():
		}
		if t := s.fresh.Load(); t != nil { // hundreds may wake at once, and would queue for the lock
			return *t, nil
		}
	}
}

// waitOut blocks while a platform that is busy is not asked, if ctx allows and that
// is short. The cooldown doubles, so no caller waits here more than twice.
func (s *Source) waitOut(ctx context.Context, err error) bool {
	var cool *CooldownError
	var denial *APIError
	if !errors.As(err, &cool) || !errors.As(err, &denial) || !denial.Temporary() {
		return false
	}
	wait := time.Until(cool.Until)
	end, ends := ctx.Deadline()
	return 0 < wait && wait <= s.process.Fetch/4 && (!ends || wait < time.Until(end)) && sleep(ctx, wait)
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

// held returns the token to hand out. s.mu is held.
func (s *Source) held(now time.Time) (Token, bool) {
	r, usable := s.process.Held(now)
	if usable {
		s.handed.add(r.Token)
	}
	return tokenOf(r), usable
}

// refresh sets fresh, until at most 10 ms before the token expires, as a timer may be
// late. The timer holds a weak reference, so that a Source which is no longer used can
// be collected before it fires. s.mu is held.
func (s *Source) refresh(now time.Time) {
	t, usable := s.held(now)
	fresh, _ := s.process.Ages(now)
	left := min(fresh.Sub(now), t.ExpiresAt.Sub(now)-10*time.Millisecond, 5*time.Minute)
	if !usable || left <= 0 || s.closed() != nil {
		s.fresh.Store(nil)
		return
	}
	if old := s.fresh.Load(); old == nil || *old != t {
		s.fresh.Store(&t)
	}
	if s.stale != nil {
		s.stale.Reset(left)
		return
	}
	source := weak.Make(s)
	s.stale = time.AfterFunc(left, func() {
		if s := source.Value(); s != nil {
			s.fresh.Store(nil)
		}
	})
}

// Run keeps the token fresh, with or without calls, until ctx ends, and returns
// ctx's error. It is for a central server, whose clients should never wait.
// Failures are retried, and reported as Events.
func (s *Source) Run(ctx context.Context) error {
	if s.fetcher == nil {
		return errZeroSource
	}
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	for ctx.Err() == nil {
		s.mu.Lock()
		if s.closed() == nil && s.flight == nil && !time.Now().Before(s.failure.retryAt()) {
			s.start(ctx, false)
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
		next, _ := s.process.Ages(time.Now())
		if s.failure != nil {
			next = s.failure.until
		}
		s.mu.Unlock()
		sleep(ctx, max(time.Until(next), s.process.Watch()/10, 5*time.Millisecond))
	}
	return ctx.Err()
}

// Wait blocks until nothing that Token or Invalidate began is under way, its
// Events included, or until ctx ends, and then returns ctx's error, wrapped. It
// starts nothing, and returns nil at once when the Source is idle.
//
// It is for programs that are about to exit: if one exits in the middle of a fetch,
// other processes must find out whether a token was issued. An observer must not
// call it.
func (s *Source) Wait(ctx context.Context) error {
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	s.mu.Lock()
	idle := s.idle
	s.mu.Unlock()
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wxtoken: waiting for work under way: %w", context.Cause(ctx))
	}
}
