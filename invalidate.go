package wxtoken

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wxtoken/wxtoken/internal/protocol"
)

// Invalidate tells that an API refused a token, by errcode 40001, 40014 or
// 42001. It makes no fetch: the next Token does, if rejected is still the shared
// token. An old value kills nothing, and any number of reports of the same one
// cause one fetch.
//
// Nil says that rejected is no longer given out. An error says why it may still
// be: the cache did not answer (ErrCacheUnavailable) or holds what this process
// cannot read; the last flight failed (a *CooldownError, say); ctx ended; or the
// refusal is not believed, since the token is younger than WithFetchTimeout or
// since tokens are refused again and again, by another system's fetches for the
// same app most likely. While the cache does not answer, a refused token is kept back for a
// 22nd of WithLocalAge (2 s) after each report, and Token gives an error instead.
func (s *Source) Invalidate(ctx context.Context, rejected string) error {
	started := time.Now()
	defer func() {
		s.mu.Lock()
		if s.refused == rejected { // else it is not kept back, or another one is
			s.refusal = time.Now()
		}
		s.mu.Unlock()
	}()
	for rejected != "" {
		f, wait, err := s.accuse(ctx, rejected)
		if f == nil && err == nil {
			return nil
		}
		if f != nil {
			select {
			case <-f.done:
			case <-ctx.Done():
				return fmt.Errorf("wxtoken: invalidating a token: %w", context.Cause(ctx))
			}
			if f.judged == rejected {
				return f.verdict
			}
			err = f.err
		}
		if err != nil && (time.Since(started)+wait > s.rules.Patience() || !sleep(ctx, wait)) {
			return err
		}
	}
	return nil
}

// accuse notes the refused value for a flight to judge, unless it is known not
// to be given out. Without a flight, it gives the failure that is remembered and
// for how long.
func (s *Source) accuse(ctx context.Context, rejected string) (*flight, time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	held, usable := s.view.Held(now)
	if usable && held.Token != rejected || held.Token == rejected && held.Rejected {
		return nil, 0, nil
	}
	if s.refused == "" || held.Token == rejected {
		s.refused = rejected // else this one's turn comes after that of another
		s.refusal = now
		s.hot.Store(nil)
	}
	if s.flight == nil {
		if wait := s.retryAt.Sub(now); wait > 0 {
			return nil, wait, s.failure
		}
		s.depart(ctx, true)
	}
	return s.flight, 0, nil
}

// errConflict is in the error of Invalidate, and in the Event, when tokens are
// refused more often than can be put right by fetching.
var errConflict = errors.New("wxtoken: tokens are refused again and again soon after their issue; another system probably fetches for the same app: let it use this cache or a token server, or change to NewStableFetcher")

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
	var verdict, conflict error
	switch st := s.rules.Refuse(f.record, f.view, token, time.Now()); st.Do {
	case protocol.Swap:
		if !f.swap(ctx, st) {
			return false
		}
		if f.record.Early > 3 {
			conflict = errConflict
		}
	case protocol.Drop:
		f.view = st.After
		f.commit("")
	case protocol.Fail:
		verdict = fmt.Errorf("wxtoken: an API refused the token, which is not believed before it is %s old", st.Young)
		if f.record.Early > 0 {
			verdict = fmt.Errorf("%w: %w", verdict, errConflict)
			conflict = verdict
		}
	}
	if conflict != nil {
		f.report(Event{Kind: EventConflict, Err: conflict})
	}
	f.judged, f.verdict = token, verdict
	s.mu.Lock()
	s.refused = ""
	s.mu.Unlock()
	return true
}
