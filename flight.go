package wxtoken

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wxtoken/wxtoken/internal/guard"
	"github.com/wxtoken/wxtoken/internal/protocol"
)

// A flight is one run of the protocol, on behalf of all callers of a Source. A
// Source has at most one under way. It does the I/O that the Source's Process
// asks for.
type flight struct {
	src     *Source
	started time.Time

	// Used by the flight's goroutine alone.
	raw      []byte // what the cache holds; nil: nothing
	cacheErr error  // the last failure of the cache
	events   []Event

	// Guarded by src.mu.
	patience *time.Timer   // fires every Rules.Patience
	since    time.Time     // when it was last set
	overdue  bool          // it has fired in time: callers get what there is
	news     chan struct{} // closed when there may be a token for them, and replaced unless the flight has ended

	// Written before done is closed, read after.
	done     chan struct{}
	token    Token // may be there in spite of an error; empty if it only decided on rejections
	err      error
	verdicts map[string]protocol.Verdict // on the rejected tokens that were reported
}

// start starts a flight, only to decide on rejections if verdictsOnly is true. It
// outlives ctx but keeps its values. s.mu is held.
func (s *Source) start(ctx context.Context, verdictsOnly bool) {
	now := time.Now()
	f := &flight{src: s, started: now, since: now,
		news: make(chan struct{}), done: make(chan struct{})}
	f.patience = time.AfterFunc(s.process.Patience(), f.losePatience)
	s.flight = f
	if s.busy == nil {
		s.busy = &busy{idle: make(chan struct{})}
	}
	s.busy.flights++
	s.process.Begin(verdictsOnly, now)
	go f.run(guard.Detach(ctx))
}

// run does what the Process says until the flight is over.
func (f *flight) run(ctx context.Context) {
	for {
		switch st := f.next(); st.Do {
		case protocol.Read:
			f.read(ctx, st)
		case protocol.Swap:
			f.swap(ctx, st)
		case protocol.Fetch:
			f.fetch(ctx, st)
		case protocol.Secret:
			f.askSecret(ctx)
		default:
			defer f.src.delivered() // also if an observer ends the goroutine
			close(f.done)
			close(f.news)
			for _, e := range f.events { // not before, as an observer may ask for the token
				f.src.emit(e)
			}
			return
		}
	}
}

// delivered notes that a flight has ended, and that its Events are delivered.
func (s *Source) delivered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy.flights--; s.busy.flights == 0 {
		close(s.busy.idle)
		s.busy = nil
	}
}

// next asks for the next step, and ends the flight where there is none, under one
// lock: no report of a rejection may come between.
func (f *flight) next() protocol.Step {
	s := f.src
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process.Unwanted = s.waiting.Load() == 0
	st := s.process.Next(rand.Text(), time.Now())
	if st.Dropped {
		f.report(Event{Kind: EventLeaseLost})
	}
	switch st.Do {
	case protocol.Return, protocol.Fail:
		f.end(st)
	}
	return st
}

// end ends the flight with the step st. s.mu is held.
func (f *flight) end(st protocol.Step) {
	s := f.src
	if st.Spent {
		f.cacheErr = fmt.Errorf("wxtoken: no token after %s: other processes take the lease and do not finish, or the cache stores nothing", s.process.Flight())
		f.report(Event{Kind: EventCacheError, Err: f.cacheErr})
	}
	if st.Do == protocol.Fail {
		f.err = s.failed(st, f.cacheErr)
	}
	seeks := s.process.Seeks()
	f.verdicts = s.process.End()
	for _, verdict := range f.verdicts {
		for _, e := range s.eventsOf(verdict) {
			f.report(e)
		}
	}
	now := time.Now()
	switch t, usable := s.held(now); {
	case !seeks:
	case usable:
		f.token = t
	case f.err == nil && s.process.Withholds(now):
		f.err = errWithheld // else callers would start flight after flight
	}
	f.patience.Stop()
	s.flight = nil
	s.remember(f.err)
	s.refresh(now)
	if !slices.ContainsFunc(f.events, func(e Event) bool { return e.Kind == EventCacheError }) { // the outage is over
		delete(s.mutes, EventCacheError)
	}
}

// errWithheld is for callers of Token while a report waits for the cache.
var errWithheld = fmt.Errorf("%w: an API rejected the token, and the cache did not store that", ErrCacheUnavailable)

// remember keeps a failure for a growing while, up to the watch age, so that a cache
// or platform that fails gets few calls. s.mu is held.
func (s *Source) remember(err error) {
	if err == nil {
		s.failure = nil
		return
	}
	watch := s.process.Watch()
	backoff := watch / 40
	if s.failure != nil {
		backoff = min(max(2*s.failure.backoff, backoff), watch)
	}
	until := time.Now().Add(jitter(backoff))
	var cool *CooldownError
	if errors.As(err, &cool) && cool.Until.Before(until) {
		until = cool.Until
	}
	s.failure = &failure{err, until, backoff}
}

// read reads what the cache holds, after the pause that the Process asks for.
func (f *flight) read(ctx context.Context, st protocol.Step) {
	s := f.src
	time.Sleep(jitter(st.Pause))
	readAt := time.Now()
	ctx, cancel := context.WithTimeout(ctx, s.process.CacheCall())
	defer cancel()
	raw, err := cacheGet(ctx, s.cache, s.key)
	var r protocol.Record
	switch {
	case errors.Is(err, ErrCacheMiss):
		raw = nil
		if k := s.foreign; k != nil && readAt.Before(k.until) {
			f.leaveAlone(k.err)
			return
		}
	case err != nil:
		f.cacheFailed(err)
		return
	default:
		if raw == nil {
			raw = []byte{} // an empty value is not an absent one
		}
		r, err = protocol.Decode(raw, s.seal())
		if err != nil {
			f.report(Event{Kind: EventCacheError, Err: err})
		}
		if err != nil && !errors.Is(err, protocol.ErrCorrupt) {
			s.foreign = &foreign{err, readAt.Add(2 * time.Minute)}
			f.leaveAlone(err)
			return
		}
	}
	f.raw = raw
	f.did(func(now time.Time) string { return s.process.DidRead(r, readAt, now) })
}

// A foreign is why the record was not for this process to read when it last looked.
// Until then it makes none either, should the store lose that one: its key or version
// may be the one that differs, and the others could not read what it wrote.
type foreign struct {
	err   error
	until time.Time
}

// leaveAlone ends the flight for a record that must not be touched.
func (f *flight) leaveAlone(err error) {
	f.cacheErr = err
	f.did(func(time.Time) string { f.src.process.CacheFailed(true); return "" })
}

// swap stores st.Next in place of what was read.
func (f *flight) swap(ctx context.Context, st protocol.Step) {
	s := f.src
	sentAt := time.Now()
	raw := protocol.Encode(st.Next, s.seal())
	ctx, cancel := context.WithTimeout(ctx, s.process.CacheCall())
	defer cancel()
	stored, err := cacheSwap(ctx, s.cache, s.key, f.raw, raw, st.TTL)
	if err != nil {
		f.cacheFailed(err)
		return
	}
	if stored {
		f.raw = raw
	}
	f.did(func(now time.Time) string { return s.process.DidSwap(stored, sentAt, now) })
}

// cacheFailed notes that the cache failed.
func (f *flight) cacheFailed(err error) {
	f.cacheErr = fmt.Errorf("%w: %w", ErrCacheUnavailable, err)
	f.report(Event{Kind: EventCacheError, Err: err})
	f.did(func(time.Time) string { f.src.process.CacheFailed(false); return "" })
}

// did tells the Process what came of its step, lets callers see what it knows
// now, and reports the event that it returns, if any.
func (f *flight) did(tell func(now time.Time) string) {
	s := f.src
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	event := tell(now)
	s.refresh(now)
	f.wake(now)
	switch event {
	case "":
	case protocol.Reject: // see end
	case protocol.Lost:
		f.report(Event{Kind: EventCacheError, Err: errRecordLost})
	case protocol.Adopt:
		t, _ := s.held(now)
		f.report(Event{Kind: EventAdopt, ExpiresAt: t.ExpiresAt})
	default:
		f.report(Event{Kind: EventKind(event)})
	}
}

func (f *flight) report(e Event) { f.events = append(f.events, e) }

// offers reports whether callers who wait can have the held token: a copy that
// the record has confirmed, or one that can be tolerated once they have waited
// long enough, as the cache must be slow or dead. src.mu is held.
func (f *flight) offers(now time.Time) bool {
	p := &f.src.process
	return f.overdue && !f.paused(now) && p.Tolerable(now) || f.src.fresh.Load() != nil && !p.Unpublished()
}

// wake wakes the callers who wait, if there is a token for them. src.mu is held.
func (f *flight) wake(now time.Time) {
	if _, usable := f.src.held(now); usable && f.offers(now) {
		close(f.news)
		f.news = make(chan struct{})
	}
}

// paused reports whether the timer is late by as much as it is long: the process
// stood still, and the flight with it. src.mu is held.
func (f *flight) paused(now time.Time) bool {
	return protocol.Passed(now, f.since.Add(2*f.src.process.Patience()))
}

// bePatient gives the cache its full time again. src.mu is held.
func (f *flight) bePatient(now time.Time) {
	f.overdue, f.since = false, now
	f.patience.Reset(f.src.process.Patience())
}

// losePatience is called every Rules.Patience. Unless that is late, the cache
// must be slow or dead, and callers get what there is.
func (f *flight) losePatience() {
	f.src.mu.Lock()
	defer f.src.mu.Unlock()
	now := time.Now()
	if now.Before(f.since.Add(f.src.process.Patience())) {
		return // bePatient was called as the timer fired
	}
	if f.src.flight == f { // else it ended as the timer fired
		f.overdue, f.since = !f.paused(now), now
		f.patience.Reset(f.src.process.Patience())
		f.wake(now)
	}
}

func tokenOf(r protocol.Record) Token {
	return Token{Value: r.Token, ExpiresAt: time.UnixMilli(r.ExpiresAt)}
}

// failed is the error of a flight that ends with st: that the platform must not be
// asked now, or that the cache failed, or both.
func (s *Source) failed(st protocol.Step, cacheErr error) error {
	cause := st.Cause
	if cause.Err == nil && cause.Outcome == protocol.Pending {
		return cacheErr
	}
	if cause.Err == nil { // another process met it, and the record has what the platform answered
		cause.Err = advise(platformOf(s.fetcher), &APIError{cause.Code, cause.Message})
	}
	err := &CooldownError{st.Until, cause.Err}
	if errors.Is(cacheErr, ErrCacheUnavailable) {
		return fmt.Errorf("%w; %w", err, cacheErr)
	}
	return err
}
