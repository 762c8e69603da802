package wxtoken

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http/httptrace"
	"time"

	"github.com/wxtoken/wxtoken/internal/endpoint"
	"github.com/wxtoken/wxtoken/internal/guard"
)

// A flight is one run of the protocol, on behalf of all callers of a Source. A
// Source has at most one under way.
type flight struct {
	src     *Source
	started time.Time
	judging bool // it is over when the refused token has been judged

	// Used by the flight's goroutine alone.
	view     view
	raw      []byte        // what the cache holds; nil: nothing
	record   record        // the same, decoded
	known    bool          // raw and record are what this process last read or stored
	pause    time.Duration // before the next read
	failures int           // of the cache, in a row
	trouble  error         // the last of them
	events   []Event
	found    bool // good is closed

	good chan struct{} // closed when the copy is known to be good, if it is

	// Written before done is closed, read after.
	done    chan struct{}
	token   Token // may be there in spite of an error; empty if only judging
	err     error
	judged  string // the last refused token that it dealt with
	verdict error  // why that is still given out; nil if it is not
}

// failed is the error for a caller who wants a token.
func (f *flight) failed() error {
	if f.token.Value != "" {
		return nil
	}
	return f.err
}

// depart starts a flight, which outlives ctx but keeps its values. s.mu is held.
func (s *Source) depart(ctx context.Context, judging bool) {
	f := &flight{src: s, started: time.Now(), judging: judging, view: s.view, good: make(chan struct{}), done: make(chan struct{})}
	s.flight = f
	go func() {
		f.token, f.err = f.run(untraced{context.WithoutCancel(ctx)})
		s.mu.Lock()
		s.flight, s.view = nil, f.view
		s.remember(f.err)
		s.mu.Unlock()
		close(f.done)
		for _, e := range f.events { // not before, as an observer may ask for the token
			s.emit(e)
		}
	}()
}

// untraced is a ctx without its httptrace hooks: they are for a request of the
// caller's own, and by HTTP/2 would see a fetch's path, which has the secret.
type untraced struct{ context.Context }

func (c untraced) Value(key any) any {
	value := c.Context.Value(key)
	if _, ok := value.(*httptrace.ClientTrace); ok {
		return nil
	}
	return value
}

// remember keeps a failure for a growing while, up to the watch age, so that a
// failing cache or platform sees a trickle of calls. s.mu is held.
func (s *Source) remember(err error) {
	if s.failure = err; err == nil {
		s.retryAt, s.backoff = time.Time{}, 0
		return
	}
	s.backoff = min(max(2*s.backoff, s.rules.watch()/40), s.rules.watch())
	s.retryAt = time.Now().Add(jitter(s.backoff))
	var cool *CooldownError
	if errors.As(err, &cool) && cool.Until.Before(s.retryAt) {
		s.retryAt = cool.Until
	}
}

// run does what decide says until there is a token to use, or no way to one.
func (f *flight) run(ctx context.Context) (Token, error) {
	rules := f.src.rules
	// A pause of the process counts as no more than one fetch: a flight that was
	// paused has not waited in vain, and must look around before it ends.
	last, spent := f.started, time.Duration(0)
	for ; spent < 6*rules.fetch; last, spent = time.Now(), spent+min(time.Since(last), rules.fetch) {
		if f.failures >= 2 {
			return f.alone(ctx)
		}
		if !f.known {
			f.read(ctx)
			continue
		}
		if judged := f.judge(ctx); judged && f.judging {
			return Token{}, nil
		} else if !judged {
			continue
		}
		st := rules.decide(f.record, f.view, rand.Text(), time.Now())
		switch st.do {
		case use:
			held, _ := f.view.held(time.Now())
			return held.token(), nil
		case fail:
			return Token{}, st.err
		case wait:
			f.known, f.failures = false, 0
		case ask:
			f.ask(ctx)
		case take:
			f.view = st.after // the lease may be there although the swap does not say so
			f.swap(ctx, st)
		case swap:
			f.swap(ctx, st)
		case drop:
			f.view = st.after
			f.commit(st.event)
		}
	}
	f.trouble = fmt.Errorf("wxtoken: no token after %s: other processes take the lease and do not finish, or the cache stores nothing", 6*rules.fetch)
	return f.alone(ctx)
}

// read learns what the cache holds: the first time at once, and then at a pace
// that spares a cache which others write to, or whose swaps do nothing.
func (f *flight) read(ctx context.Context) {
	s := f.src
	time.Sleep(jitter(f.pause))
	f.pause = min(max(f.pause*3/2, 5*time.Millisecond), 30*time.Millisecond)
	readAt := time.Now()
	ctx, cancel := context.WithTimeout(ctx, s.rules.cacheCall())
	defer cancel()
	raw, err := guard.Call(ctx, "Cache.Get", func(ctx context.Context) ([]byte, error) {
		return s.cache.Get(ctx, s.key)
	})
	var r record
	switch {
	case errors.Is(err, ErrCacheMiss):
		raw = nil
	case err != nil:
		f.stumble(err)
		return
	default:
		raw = append([]byte{}, raw...) // an empty value is not an absent one
		r, err = decode(raw, s.seal)
		if errors.Is(err, errGarbage) {
			f.report(Event{Kind: EventCacheError, Err: err})
		} else if err != nil {
			f.failures, f.trouble = 2, err
			f.report(Event{Kind: EventCacheError, Err: err})
			return
		}
	}
	f.raw, f.record, f.known = raw, r, true
	if f.view.observe(r, readAt, time.Now()) {
		f.commit(EventAdopt)
	} else {
		f.commit("")
	}
}

// swap stores st.next in place of what was read. Unless the cache says that it
// did, the outcome is unknown, and the record must be read again.
func (f *flight) swap(ctx context.Context, st step) bool {
	s := f.src
	now := time.Now()
	raw, err := encode(st.next, s.seal)
	stored := false
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, s.rules.cacheCall())
		defer cancel()
		stored, err = guard.Call(ctx, "Cache.CompareAndSwap", func(ctx context.Context) (bool, error) {
			return s.cache.CompareAndSwap(ctx, s.key, f.raw, raw, st.next.ttl(now))
		})
	}
	if err != nil {
		f.stumble(err)
	}
	if err != nil || !stored {
		f.known = false
		return false
	}
	f.failures = 0
	f.raw, f.record, f.view = raw, st.next, st.after
	f.view.observe(st.next, now, time.Now())
	f.commit(st.event)
	return true
}

func (f *flight) stumble(err error) {
	f.failures++
	f.view.claim.kept = f.view.claim.outcome == issued
	f.trouble = fmt.Errorf("%w: %w", ErrCacheUnavailable, err)
	f.report(Event{Kind: EventCacheError, Err: err})
}

func (f *flight) report(e Event) { f.events = append(f.events, e) }

// commit lets callers see what the flight knows, and then reports kind, if any.
func (f *flight) commit(kind EventKind) {
	s := f.src
	s.mu.Lock()
	s.view = f.view
	s.heat(time.Now())
	s.mu.Unlock()
	if !f.found && s.hot.Load() != nil && f.view.claim.outcome != issued {
		f.found = true
		close(f.good)
	}
	switch kind {
	case "":
	case EventAdopt:
		f.report(Event{Kind: kind, ExpiresAt: time.UnixMilli(f.view.copy.ExpiresAt)})
	default:
		f.report(Event{Kind: kind})
	}
}

// ask fetches under this process's lease, and never for longer than it lasts.
func (f *flight) ask(ctx context.Context) {
	c := &f.view.claim
	c.token, c.err = f.fetch(ctx, c.ends)
	c.outcome = outcomeOf(c.err)
	f.commit("")
}

// fetch asks the platform, once, and ends by the deadline.
func (f *flight) fetch(ctx context.Context, deadline time.Time) (record, error) {
	s := f.src
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, min(s.rules.fetch, deadline.Sub(start)))
	defer cancel()
	t, err := guard.Call(ctx, "Fetcher.Fetch", s.fetcher.Fetch)
	if err == nil && (!t.Valid() || !endpoint.Printable(t.Value)) {
		err = errors.New("wxtoken: the Fetcher returned a token that is empty or over, or has a space, control or non-ASCII byte; check its Value and ExpiresAt")
	}
	e := Event{Kind: EventFetch, Duration: time.Since(start), Err: err}
	if err != nil {
		f.report(e)
		return record{}, err
	}
	e.ExpiresAt = t.ExpiresAt
	f.report(e)
	return record{Token: t.Value, IssuedAt: start.UnixMilli(), ExpiresAt: t.ExpiresAt.UnixMilli()}, nil
}

// alone makes do without the cache: with the token at hand, or with a fetch if
// that can harm nobody.
func (f *flight) alone(ctx context.Context) (Token, error) {
	rules := f.src.rules
	now := time.Now()
	held, usable := f.view.held(now)
	if rules.repeatable && errors.Is(f.trouble, ErrCacheUnavailable) && rules.due(held, f.view, now) {
		err := rules.cooling(record{}, f.view, now)
		if err == nil {
			held, err = f.fetch(ctx, now.Add(rules.fetch))
			f.view.fetchedAlone(held, err, now)
		}
		if err != nil && !usable {
			return Token{}, errors.Join(err, f.trouble)
		}
	}
	f.commit("")
	f.src.mu.Lock()
	held, usable = f.src.held(time.Now())
	f.src.mu.Unlock()
	if !usable {
		return Token{}, f.trouble
	}
	return held.token(), f.trouble
}

// judge deals with the token that Invalidate was told is bad. It reports false
// if the record must be read again first.
func (f *flight) judge(ctx context.Context) bool {
	s := f.src
	s.mu.Lock()
	token := s.refused
	s.mu.Unlock()
	if token == "" {
		return true
	}
	believed, err := s.rules.judge(f.record, f.view, token, time.Now())
	if believed {
		next := f.record
		next.Rejected = true
		next.Seq++
		next.Early++
		if !f.swap(ctx, step{next: next, after: f.view, event: EventReject}) {
			return false
		}
	}
	if token == f.view.copy.Token && f.record.Token == "" {
		f.view.copy.Rejected = true // the store lost the record, and the copy is no good
		f.commit("")
	}
	switch {
	case errors.Is(err, errConflict):
		f.report(Event{Kind: EventConflict, Err: err})
	case believed && f.record.Early > 3:
		f.report(Event{Kind: EventConflict, Err: errConflict})
	}
	f.judged, f.verdict = token, err
	s.mu.Lock()
	s.refused = ""
	s.mu.Unlock()
	return true
}
