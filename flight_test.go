package wxtoken

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/endpoint"
	"github.com/wxtoken/wxtoken/internal/protocol"
)

// Callers do not lose patience over a pause of the process, in which the flight
// stood still as well.
func TestPatienceOutlastsAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(FetcherFunc("app", func(ctx context.Context) (Token, error) {
			<-ctx.Done()
			return Token{}, ctx.Err()
		}), nil)
		s.mu.Lock()
		s.start(t.Context(), false)
		f := s.flight
		f.since = f.since.Add(-10 * time.Minute)
		s.mu.Unlock()
		overdue := func(after time.Duration) bool {
			time.Sleep(after)
			synctest.Wait()
			s.mu.Lock()
			defer s.mu.Unlock()
			return f.overdue
		}
		assert.False(t, overdue(time.Second), "the timer came ten minutes late")
		assert.True(t, overdue(time.Second))

		s.mu.Lock()
		assert.True(t, f.offers(time.Now()))
		f.since = f.since.Add(-10 * time.Minute)
		assert.False(t, f.offers(time.Now()), "a later pause counts as well")
		s.mu.Unlock()

		<-f.done
		f.losePatience() // had the timer fired just before
		assert.False(t, f.patience.Stop(), "no timer outlives the flight")
	})
}

func TestEventsOfTheProtocol(t *testing.T) {
	for name, kind := range map[string]EventKind{
		protocol.Adopt: EventAdopt, protocol.Takeover: EventTakeover, protocol.LeaseLost: EventLeaseLost, protocol.Restore: EventRestore, protocol.Reject: EventReject,
	} {
		assert.Equal(t, name, string(kind))
	}
}

// The timer that ends the fast path may be late, so the last moments of a token
// are left to the path that looks at the clock.
func TestFastPathEndsBeforeTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := time.Now().Add(time.Minute)
		s := New(FetcherFunc("app", func(context.Context) (Token, error) {
			return Token{Value: "token-1", ExpiresAt: end}, nil
		}), nil, WithLocalAge(time.Hour), WithRefreshAhead(time.Nanosecond))
		fast := func(left time.Duration) bool {
			time.Sleep(time.Until(end) - left)
			_, err := s.Token(t.Context())
			require.NoError(t, err)
			synctest.Wait()
			return s.fresh.Load() != nil
		}
		assert.True(t, fast(20*time.Millisecond))
		assert.False(t, fast(5*time.Millisecond))
	})
}

// An application's APIError may hold anything; none of it floods a log.
func TestMessagesOfDenialsAreCut(t *testing.T) {
	for _, code := range []int{0, 40013} {
		denial := &APIError{code, strings.Repeat("a\n", 1<<20)}
		for outcome, err := range map[protocol.Outcome]error{
			protocol.Unsent: &endpoint.Unsent{Err: denial}, protocol.Unknown: denial, protocol.Denied: fmt.Errorf("mine: %w", denial),
		} {
			r := resultOf(Token{}, time.Now(), err)
			if outcome == protocol.Unsent {
				assert.Equal(t, outcome, r.Outcome)
				continue
			}
			assert.Equal(t, code == 0, r.Outcome == protocol.Unknown)
			assert.Equal(t, code != 0, r.Outcome == protocol.Denied)
			assert.Less(t, len(r.Err.Error()), 1000)
		}
	}
}
