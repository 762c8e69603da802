package wxtoken

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wxtoken/wxtoken/internal/protocol"
)

// Invalidate reports that an API rejected a token, by errcode 40001, 40014 or 42001.
// It does not fetch; the next call of Token does, if rejected is still the shared
// token, whether or not this Source has handed it out. Reporting an old token has no
// effect, and any number of reports of the same one cause one fetch.
//
// A nil error means that rejected is no longer handed out, unless the fetch that
// follows fails: then it is the last resort until it expires or is replaced, since
// rejections can be mistakes. Otherwise the error says why it may still be handed out:
// the cache did not answer ([ErrCacheUnavailable]) or holds something that this process
// cannot read; the last flight failed (a [*CooldownError], for example); ctx ended; the
// rejected token is already the last resort; or the rejection is not believed, because
// the token is younger than a tenth of [WithFetchTimeout], or because tokens are
// rejected again and again, most likely because another system fetches for the same
// app. While the cache does not answer, a rejected token is withheld for a 22nd of
// [WithLocalAge] (2 s) from its first report, and Token returns an error instead.
func (s *Source) Invalidate(ctx context.Context, rejected string) error {
	if s.fetcher == nil {
		return errZeroSource
	}
	started := time.Now()
	for rejected != "" {
		verdict, decided, f, err := s.reject(ctx, rejected)
		switch {
		case decided:
			for _, e := range s.eventsOf(verdict) {
				s.emit(e)
			}
			return s.verdictError(verdict)
		case f != nil:
			select {
			case <-f.done:
			case <-ctx.Done():
				return fmt.Errorf("wxtoken: invalidating a token: %w", context.Cause(ctx))
			}
			if verdict, ok := f.verdicts[rejected]; ok {
				return s.verdictError(verdict)
			}
			err = f.err
		}
		if err == nil {
			continue // the flight ended before it handled this rejection
		}
		s.mu.Lock()
		wait := time.Until(s.failure.retryAt())
		s.mu.Unlock()
		if time.Since(started)+wait > s.process.Patience() || !sleep(ctx, wait) {
			if verdict.Believed {
				return nil // the Source hands out another token, and cannot see now whether rejected is newer
			}
			return err
		}
	}
	return nil
}

// reject reports a rejection to the Process. If the Process cannot decide at once,
// reject returns the flight that will, or the failure that is remembered.
func (s *Source) reject(ctx context.Context, token string) (verdict protocol.Verdict, decided bool, f *flight, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	verdict, decided = s.process.Reject(token, now)
	s.refresh(now) // it may be withheld
	switch {
	case decided, s.flight != nil:
	case now.Before(s.failure.retryAt()):
		return verdict, false, nil, s.failure.err
	default:
		s.start(ctx, true)
	}
	return verdict, decided, s.flight, nil
}

// conflict is the error of Invalidate, and of the Event, when tokens are rejected
// more often than fetching can fix.
func (s *Source) conflict() error {
	return errors.New("wxtoken: tokens are rejected again and again soon after their issue; " +
		platformOf(s.fetcher).Conflict(s.process.Repeatable))
}

// verdictError is nil if the token is no longer handed out.
func (s *Source) verdictError(v protocol.Verdict) error {
	switch {
	case v.Believed:
		return nil
	case v.Young == 0:
		return fmt.Errorf("wxtoken: the rejected token is handed out as a last resort until the platform issues another; it is asked again after %s", v.Until.UTC().Format(time.RFC3339))
	case v.Early > 0:
		return fmt.Errorf("%w: %w", tooYoung(v), s.conflict())
	}
	return tooYoung(v)
}

func tooYoung(v protocol.Verdict) error {
	return fmt.Errorf("wxtoken: an API rejected the token when it was %s old, which is not believed before it is %s old; report it again then",
		v.Age.Round(time.Millisecond), v.Young)
}

// eventsOf are the events of a decision on a rejected token.
func (s *Source) eventsOf(v protocol.Verdict) []Event {
	var events []Event
	switch {
	case v.Young == 0 && v.Early > 0: // it was the shared token
		err := fmt.Errorf("wxtoken: rejected %s after its issue, and no process with this cache replaced it: another system fetched, or the token was revoked", v.Age.Round(time.Second))
		events = append(events, Event{Kind: EventReject, Age: v.Age, Err: err})
		if v.Early > 3 {
			events = append(events, Event{Kind: EventConflict, Age: v.Age, Err: s.conflict()})
		}
	case v.Young > 0:
		err := s.verdictError(v)
		events = append(events, Event{Kind: EventIgnored, Age: v.Age, Err: err})
		if v.Early > 0 {
			events = append(events, Event{Kind: EventConflict, Age: v.Age, Err: err})
		}
	}
	return events
}
