package wxtoken

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wxtoken/wxtoken/internal/endpoint"
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
	raw     []byte // what the cache holds; nil: nothing
	parsed  string // what record was parsed from; "": nothing yet
	record  protocol.Record
	trouble error // the last failure of the cache
	events  []Event

	// Guarded by src.mu.
	judging  bool          // it is only to decide on rejections
	patience *time.Timer   // fires every Rules.Patience
	since    time.Time     // when it was last set
	overdue  bool          // it has fired in time: callers get what there is
	news     chan struct{} // closed when there may be a token for them, and replaced unless the flight has ended

	// Written before done is closed, read after.
	done     chan struct{}
	token    Token // may be there in spite of an error; empty if only judging
	err      error
	verdicts map[string]protocol.Verdict // on the rejected tokens that were reported
}

// start starts a flight, which outlives ctx but keeps its values. s.mu is held.
func (s *Source) start(ctx context.Context, judging bool) {
	now := time.Now()
	f := &flight{src: s, started: now, since: now, judging: judging,
		news: make(chan struct{}), done: make(chan struct{})}
	f.patience = time.AfterFunc(s.process.Patience(), f.losePatience)
	s.flight = f
	if s.busy++; s.busy == 1 {
		s.idle = make(chan struct{})
	}
	s.process.Begin(judging, now)
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
	if s.busy--; s.busy == 0 {
		close(s.idle)
	}
}

// next asks for the next step, and ends the flight where there is none: in one go,
// so that no report of a rejection comes between.
func (f *flight) next() protocol.Step {
	s := f.src
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.process.Next(rand.Text(), time.Now())
	if st.Lost {
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
		f.trouble = fmt.Errorf("wxtoken: no token after %s: other processes take the lease and do not finish, or the cache stores nothing", 6*s.process.Fetch)
		f.report(Event{Kind: EventCacheError, Err: f.trouble})
	}
	if st.Do == protocol.Fail {
		f.err = f.trouble
		if st.Cause.Err != nil || st.Cause.Outcome != protocol.Pending {
			f.err = s.cooldownError(st)
			if f.trouble != nil && errors.Is(f.trouble, ErrCacheUnavailable) {
				f.err = fmt.Errorf("%w; %w", f.err, f.trouble)
			}
		}
	}
	f.verdicts = s.process.End()
	for _, verdict := range f.verdicts {
		for _, e := range s.eventsOf(verdict) {
			f.report(e)
		}
	}
	now := time.Now()
	switch t, usable := s.held(now); {
	case f.judging:
	case usable:
		f.token = t
	case f.err == nil && s.process.Withholds(now):
		f.err = errWithheld // else callers would start flight after flight
	}
	f.patience.Stop()
	s.flight = nil
	s.remember(f.err)
	s.refresh(now)
	if !slices.ContainsFunc(f.events, func(e Event) bool { return e.Kind == EventCacheError }) {
		s.mutes.outage = false
	}
}

// errWithheld is for callers of Token while a report waits for the cache.
var errWithheld = fmt.Errorf("%w: an API rejected the token, and the cache did not store that", ErrCacheUnavailable)

// remember keeps a failure for a growing while, up to the watch age, so that a
// failing cache or platform sees a trickle of calls. s.mu is held.
func (s *Source) remember(err error) {
	if s.failure = err; err == nil {
		s.retryAt, s.backoff = time.Time{}, 0
		return
	}
	watch := s.process.Watch()
	s.backoff = min(max(2*s.backoff, watch/40), watch)
	s.retryAt = time.Now().Add(jitter(s.backoff))
	var cool *CooldownError
	if errors.As(err, &cool) && cool.Until.Before(s.retryAt) {
		s.retryAt = cool.Until
	}
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
	case err != nil:
		f.cacheFailed(err)
		return
	default:
		if raw == nil {
			raw = []byte{} // an empty value is not an absent one
		}
		r, err = f.decode(raw)
		if err != nil {
			f.report(Event{Kind: EventCacheError, Err: err})
		}
		if err != nil && !errors.Is(err, protocol.ErrCorrupt) {
			f.trouble = err
			f.did(func(time.Time) string { s.process.CacheFailed(true); return "" })
			return
		}
	}
	f.raw = raw
	f.did(func(now time.Time) string { return s.process.DidRead(r, readAt, now) })
}

// decode is protocol.Decode, once for a record that is read again and again while
// another process fetches.
func (f *flight) decode(raw []byte) (protocol.Record, error) {
	if f.parsed != "" && f.parsed == string(raw) {
		return f.record, nil
	}
	r, err := protocol.Decode(raw, f.src.seal)
	if err == nil {
		f.parsed, f.record = string(raw), r
	}
	return r, err
}

// swap stores st.Next in place of what was read.
func (f *flight) swap(ctx context.Context, st protocol.Step) {
	s := f.src
	sentAt := time.Now()
	raw := protocol.Encode(st.Next, s.seal)
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
	f.trouble = fmt.Errorf("%w: %w", ErrCacheUnavailable, err)
	f.report(Event{Kind: EventCacheError, Err: err})
	f.did(func(time.Time) string { f.src.process.CacheFailed(false); return "" })
}

// fetch asks the platform, once.
func (f *flight) fetch(ctx context.Context, st protocol.Step) {
	s := f.src
	time.Sleep(jitter(st.Pause))
	sent := time.Now()
	ctx, cancel := context.WithTimeout(ctx, min(s.process.Fetch, st.Until.Sub(sent)))
	defer cancel()
	t, err := guard.Call(ctx, "Fetcher.Fetch", func(ctx context.Context) (Token, error) {
		t, err := s.fetcher.Fetch(ctx)
		return t, s.sound(err)
	})
	t, err = checked(t, sent, err)
	result := resultOf(t, sent, err)
	f.report(Event{Kind: EventFetch, Duration: time.Since(sent), ExpiresAt: t.ExpiresAt, Err: result.Err})
	f.did(func(now time.Time) string {
		if p, ok := s.fetcher.(secretive); ok {
			s.process.SetFingerprint(p.fingerprint(s.key))
		}
		s.process.DidFetch(result, now)
		if err == nil { // it is published first: a caller who has it may end the process
			f.bePatient(now)
		}
		return ""
	})
}

// sound returns err with what is known of its platform, fit to be looked at: an
// error of another package's Fetcher that panics, such as a nil pointer, is to do
// so here, where that is one more failure.
func (s *Source) sound(err error) error {
	if err == nil {
		return nil
	}
	var denial *APIError
	if errors.As(err, &denial) && denial == nil {
		return errors.New("wxtoken: the Fetcher returned a nil *APIError as its error; return a plain nil where there is none")
	}
	_ = err.Error()
	if denial, ok := err.(*APIError); ok {
		return advise(platformOf(s.fetcher), denial)
	}
	return err
}

// A secretive Fetcher asks with a secret. Its fingerprint tells that from others
// without giving it away; it is of the secret that was last used.
type secretive interface{ fingerprint(salt string) string }

// A changeable Fetcher asks for its secret before each fetch.
type changeable interface {
	currentFingerprint(ctx context.Context, salt string) (string, error)
}

// askSecret looks whether the secret has changed, which ends a cooldown that is
// about the old one.
func (f *flight) askSecret(ctx context.Context) {
	s := f.src
	p, ok := s.fetcher.(changeable)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.process.CacheCall())
	defer cancel()
	fingerprint, err := guard.Call(ctx, "the function of WithSecretFunc", func(ctx context.Context) (string, error) {
		return p.currentFingerprint(ctx, s.key)
	})
	if err == nil { // else the cooldown goes on
		f.did(func(time.Time) string { s.process.SetFingerprint(fingerprint); return "" })
	}
}

// checked turns a token that no record can hold into an error, and cuts a
// lifetime of over 30 days.
func checked(t Token, sent time.Time, err error) (Token, error) {
	if err != nil {
		return Token{}, err
	}
	t.ExpiresAt = time.UnixMilli(t.ExpiresAt.UnixMilli()) // as the record will have it
	if t.ExpiresAt.Sub(sent) > protocol.MaxLifetime {
		t.ExpiresAt = sent.Add(protocol.MaxLifetime)
	}
	if !t.Valid() || !protocol.CanHold(t.Value) {
		return Token{}, errors.New("wxtoken: the Fetcher returned a token that is empty, expired or over 4 KiB, or has a space, control or non-ASCII byte; check its Value and ExpiresAt")
	}
	return t, nil
}

// resultOf is what a fetch that was sent at sent means to the protocol.
func resultOf(t Token, sent time.Time, err error) protocol.Result {
	var denial *APIError
	var unsent *endpoint.Unsent
	switch {
	case err == nil:
		expiresAt := t.ExpiresAt.UnixMilli()
		return protocol.Result{Outcome: protocol.Issued,
			Token: protocol.Record{Token: t.Value, IssuedAt: min(sent.UnixMilli(), expiresAt), ExpiresAt: expiresAt}}
	case errors.As(err, &unsent):
		return protocol.Result{Outcome: protocol.Unsent, Err: err}
	case !errors.As(err, &denial):
		return protocol.Result{Outcome: protocol.Unknown, Err: err}
	}
	message := protocol.CleanMessage(denial.Message)
	if message != denial.Message {
		err = &APIError{denial.Code, message}
	}
	if denial.Code == 0 { // which denies nothing
		return protocol.Result{Outcome: protocol.Unknown, Err: err}
	}
	return protocol.Result{Outcome: protocol.Denied, Code: denial.Code, Message: message, Err: err}
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

// cooldownError says why the platform is not asked now.
func (s *Source) cooldownError(st protocol.Step) error {
	err := st.Cause.Err
	if err == nil { // another process met it, and the record has what the platform answered
		err = advise(platformOf(s.fetcher), &APIError{st.Cause.Code, st.Cause.Message})
	}
	return &CooldownError{st.Until, err}
}
