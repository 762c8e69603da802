package wxtoken

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// Callers do not lose patience over a pause of the process, in which the flight
// stood still as well. Only from inside can a test make a timer late.
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
