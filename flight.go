package wxtoken

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/wxtoken/wxtoken/internal/endpoint"
	"github.com/wxtoken/wxtoken/internal/guard"
	"github.com/wxtoken/wxtoken/internal/protocol"
)

// A flight is one run of the protocol, on behalf of all callers of a Source. A
// Source has at most one under way.
type flight struct {
	src     *Source
	started time.Time
	judging bool // it is over when the refused token has been judged

	// Used by the flight's goroutine alone.
	view     protocol.View
	raw      []byte          // what the cache holds; nil: nothing
	record   protocol.Record // the same, decoded
	known    bool            // raw and record are what this process last read or stored
	pause    time.Duration   // before the next read
	rest     time.Duration   // before the next fetch, as a token may be over when it comes
	failures int             // of the cache, since it last stored or another's fetch was waited for
	trouble  error           // the last of them
	events   []Event

	// Guarded by src.mu.
	patience *time.Timer   // fires every Rules.Patience
	since    time.Time     // when it was last set
	overdue  bool          // it has fired in time: callers get what there is
	news     chan struct{} // closed, and made anew, when there may be a token for them

	// Written before done is closed, read after.
	done    chan struct{}
	token   Token // may be there in spite of an error; empty if only judging
	err     error
	judged  string // the last refused token that it dealt with
	verdict error  // why that is still given out; nil if it is not
}

// depart starts a flight, which outlives ctx but keeps its values. s.mu is held.
func (s *Source) depart(ctx context.Context, judging bool) {
	f := &flight{src: s, started: time.Now(), judging: judging, view: s.view, news: make(chan struct{}), done: make(chan struct{})}
	f.since, f.patience = f.started, time.AfterFunc(s.rules.Patience(), f.losePatience)
	s.flight = f
	go func() {
		f.token, f.err = f.run(guard.Detach(ctx))
		s.mu.Lock()
		f.patience.Stop()
		s.flight, s.view = nil, f.view
		s.remember(f.err)
		s.mu.Unlock()
		close(f.done)
		for _, e := range f.events { // not before, as an observer may ask for the token
			s.emit(e)
		}
	}()
}

// remember keeps a failure for a growing while, up to the watch age, so that a
// failing cache or platform sees a trickle of calls. s.mu is held.
func (s *Source) remember(err error) {
	if s.failure = err; err == nil {
		s.retryAt, s.backoff = time.Time{}, 0
		return
	}
	s.backoff = min(max(2*s.backoff, s.rules.Watch()/40), s.rules.Watch())
	s.retryAt = time.Now().Add(jitter(s.backoff))
	var cool *CooldownError
	if errors.As(err, &cool) && cool.Until.Before(s.retryAt) {
		s.retryAt = cool.Until
	}
}

// run does what Decide says until there is a token to use, or no way to one.
func (f *flight) run(ctx context.Context) (Token, error) {
	rules := f.src.rules
	// A pause of the process counts as no more than one fetch: a flight that was
	// paused has not waited in vain, and must look around before it ends.
	last, spent := f.started, time.Duration(0)
	for ; spent < 6*rules.Fetch; last, spent = time.Now(), spent+min(time.Since(last), rules.Fetch) {
		switch {
		case f.failures >= 2:
			return f.alone(ctx)
		case !f.known:
			f.read(ctx)
			continue
		case f.view.Unpublished(): // first, as it may be what was refused
		case !f.judge(ctx):
			continue
		case f.judging:
			return Token{}, nil
		}
		switch st := rules.Decide(f.record, f.view, rand.Text(), time.Now()); st.Do {
		case protocol.Use:
			held, _ := f.view.Held(time.Now())
			return tokenOf(held), nil
		case protocol.Fail:
			return Token{}, f.src.cooldownError(st)
		case protocol.Wait:
			f.known, f.failures = false, 0
			f.pause = min(f.pause, 20*time.Millisecond)
		case protocol.Ask:
			time.Sleep(jitter(f.rest))
			f.rest = min(max(2*f.rest, rules.Patience()/10), rules.Patience())
			f.view.Fetched(f.fetch(ctx, f.view.LeaseEnds()))
			f.commit("")
		case protocol.Take:
			f.view = st.After // the lease may be there although the swap does not say so
			f.swap(ctx, st)
		case protocol.Swap:
			f.swap(ctx, st)
		case protocol.Drop:
			f.view = st.After
			f.commit(st.Event)
		}
	}
	f.trouble = fmt.Errorf("wxtoken: no token after %s: other processes take the lease and do not finish, or the cache stores nothing", 6*rules.Fetch)
	f.report(Event{Kind: EventCacheError, Err: f.trouble})
	return f.alone(ctx)
}

// read learns what the cache holds: the first time at once, and then at a pace
// that spares a cache which others write to, or whose swaps do nothing.
func (f *flight) read(ctx context.Context) {
	s := f.src
	time.Sleep(jitter(f.pause))
	f.pause = max(min(f.pause*3/2, s.rules.Patience()), 5*time.Millisecond)
	readAt := time.Now()
	ctx, cancel := context.WithTimeout(ctx, s.rules.CacheCall())
	defer cancel()
	raw, err := guard.Call(ctx, "Cache.Get", func(ctx context.Context) ([]byte, error) {
		return s.cache.Get(ctx, s.key)
	})
	var r protocol.Record
	switch {
	case errors.Is(err, ErrCacheMiss):
		raw = nil
	case err != nil:
		f.stumble(err)
		return
	default:
		raw = append([]byte{}, raw...) // an empty value is not an absent one
		r, err = protocol.Decode(raw, s.seal)
		if err != nil {
			f.report(Event{Kind: EventCacheError, Err: err})
		}
		if err != nil && !errors.Is(err, protocol.ErrGarbage) {
			f.failures, f.trouble = 2, err // the record is to be left alone
			return
		}
	}
	f.raw, f.record, f.known = raw, r, true
	f.commit(f.view.Observe(r, readAt, time.Now()))
}

// swap stores st.Next in place of what was read. Unless the cache says that it
// did, the outcome is unknown, and the record must be read again.
func (f *flight) swap(ctx context.Context, st protocol.Step) bool {
	s := f.src
	now := time.Now()
	raw := protocol.Encode(st.Next, s.seal)
	ctx, cancel := context.WithTimeout(ctx, s.rules.CacheCall())
	defer cancel()
	stored, err := guard.Call(ctx, "Cache.CompareAndSwap", func(ctx context.Context) (bool, error) {
		return s.cache.CompareAndSwap(ctx, s.key, f.raw, raw, st.Next.TTL(now))
	})
	if err != nil {
		f.stumble(err)
	}
	if err != nil || !stored {
		f.known = false
		return false
	}
	f.failures = 0
	f.raw, f.record, f.view = raw, st.Next, st.After
	f.view.Observe(st.Next, now, time.Now())
	f.commit(st.Event)
	return true
}

// stumble notes that the cache failed.
func (f *flight) stumble(err error) {
	f.failures++
	f.view.CacheFailed()
	f.trouble = fmt.Errorf("%w: %w", ErrCacheUnavailable, err)
	f.report(Event{Kind: EventCacheError, Err: err})
}

func (f *flight) report(e Event) { f.events = append(f.events, e) }

// commit lets callers see what the flight knows, and then reports event, if any.
func (f *flight) commit(event string) {
	s := f.src
	s.mu.Lock()
	s.view = f.view
	s.heat(time.Now())
	f.wake()
	s.mu.Unlock()
	if event != "" {
		e := Event{Kind: EventKind(event)}
		if e.Kind == EventAdopt {
			e.ExpiresAt = tokenOf(f.view.Copy).ExpiresAt
		}
		f.report(e)
	}
}

// offers reports whether callers who wait can have the held token: a copy that
// the record has confirmed, or any once they have waited long enough, as the
// cache must be slow or dead. src.mu is held.
func (f *flight) offers() bool {
	return f.overdue && !f.paused() || f.src.hot.Load() != nil && !f.src.view.Unpublished()
}

// wake tells those who wait, if there is a token for them. src.mu is held.
func (f *flight) wake() {
	if _, usable := f.src.held(time.Now()); usable && f.offers() {
		close(f.news)
		f.news = make(chan struct{})
	}
}

// paused reports whether the timer is late by as much as it is long: the process
// stood still, and the flight with it. src.mu is held.
func (f *flight) paused() bool {
	return protocol.Passed(time.Now(), f.since.Add(2*f.src.rules.Patience()))
}

// losePatience is called every Rules.Patience. Unless that is late, the cache
// must be slow or dead, and callers get what there is.
func (f *flight) losePatience() {
	f.src.mu.Lock()
	defer f.src.mu.Unlock()
	if f.src.flight == f { // else it ended as the timer fired
		f.overdue, f.since = !f.paused(), time.Now()
		f.patience.Reset(f.src.rules.Patience())
		f.wake()
	}
}

// fetch asks the platform, once, and ends by the deadline.
func (f *flight) fetch(ctx context.Context, deadline time.Time) protocol.Result {
	s := f.src
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, min(s.rules.Fetch, deadline.Sub(start)))
	defer cancel()
	t, err := guard.Call(ctx, "Fetcher.Fetch", s.fetcher.Fetch)
	end := time.UnixMilli(t.ExpiresAt.UnixMilli()) // as the record will have it
	if err == nil && (t.Value == "" || time.Until(end) <= 0 || !endpoint.Printable(t.Value)) {
		t, err = Token{}, errors.New("wxtoken: the Fetcher returned a token that is empty or over, or has a space, control or non-ASCII byte; check its Value and ExpiresAt")
	}
	f.report(Event{Kind: EventFetch, Duration: time.Since(start), ExpiresAt: t.ExpiresAt, Err: err})
	return resultOf(t, start, err)
}

// resultOf is what a fetch that was begun at sent means to the protocol.
func resultOf(t Token, sent time.Time, err error) protocol.Result {
	var refusal *APIError
	var unsent *endpoint.Unsent
	switch {
	case err == nil:
		r := protocol.Record{Token: t.Value, IssuedAt: sent.UnixMilli(), ExpiresAt: t.ExpiresAt.UnixMilli()}
		return protocol.Result{Outcome: protocol.Issued, Token: r}
	case errors.As(err, &unsent):
		return protocol.Result{Outcome: protocol.Unsent, Err: err}
	case errors.As(err, &refusal):
		return protocol.Result{Outcome: protocol.Denied, Code: refusal.Code, Message: refusal.Message, Err: err}
	}
	return protocol.Result{Outcome: protocol.Unknown, Err: err}
}

func tokenOf(r protocol.Record) Token {
	return Token{Value: r.Token, ExpiresAt: time.UnixMilli(r.ExpiresAt)}
}

// cooldownError tells why the platform is not asked now.
func (s *Source) cooldownError(st protocol.Step) error {
	err := st.Cause.Err
	if err == nil { // another process met it, and the record has what it was told
		err = advise(platformOf(s.fetcher), &APIError{st.Cause.Code, st.Cause.Message})
	}
	return &CooldownError{st.Until, err}
}

// alone makes do without the cache: with the token at hand, or with a fetch if
// that can harm nobody.
func (f *flight) alone(ctx context.Context) (Token, error) {
	s := f.src
	err := f.trouble
	if errors.Is(f.trouble, ErrCacheUnavailable) {
		now := time.Now()
		switch st := s.rules.Alone(f.view, now); st.Do {
		case protocol.Fail:
			err = fmt.Errorf("%w; %w", s.cooldownError(st), f.trouble)
		case protocol.Ask:
			result := f.fetch(ctx, now.Add(s.rules.Fetch))
			f.view.FetchedAlone(result, now)
			err = errors.Join(result.Err, f.trouble)
		}
	}
	f.commit("")
	s.mu.Lock()
	t, usable := s.held(time.Now())
	s.mu.Unlock()
	if usable {
		return t, f.trouble
	}
	return Token{}, err
}
