package sim

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

// The clock of the process that fetched was ahead by more than a token lives, and
// all others live for less than a second: they cannot watch the token for long.
func TestShortLivesAfterAClockThatIsAhead(t *testing.T) {
	t.Skip("fails: 3570 s of 8 h without a token; protocol.judge believes no rejection from before issued_at")
	bubble(t, "", func(t *testing.T) {
		p, c := newPlatform(), wxtoken.NewMemoryCache()
		m := startMortal(plain(p), skewed{c, 3 * time.Hour})
		need(t, m)
		m.die()
		without := time.Duration(0)
		for start := time.Now(); time.Since(start) < 8*time.Hour; time.Sleep(10 * time.Second) {
			job := startMortal(plain(p), c)
			token := need(t, job)
			for range 2 { // as Transport does
				if !p.Honoured(token) {
					time.Sleep(50 * time.Millisecond)
					_ = job.Invalidate(t.Context(), token)
					token = need(t, job)
				}
			}
			if !p.Honoured(token) {
				without += 10 * time.Second
			}
			job.die()
		}
		assert.LessOrEqual(t, without, time.Minute)
	})
}

// One member reports a good token while the token endpoint hangs.
func TestAFalseReportWhileTheEndpointHangs(t *testing.T) {
	t.Skip("fails: 1734 of 1800 calls without a token; protocol.cool has no last resort where a fetch is owed")
	bubble(t, "", func(t *testing.T) {
		p, c := newPlatform(), wxtoken.NewMemoryCache()
		hangs := false
		f := wxtoken.NewFetcher(sampleApp, sampleSecret, through(p, func(next http.RoundTripper) http.RoundTripper {
			return roundTrip(func(req *http.Request) (*http.Response, error) {
				if hangs {
					<-req.Context().Done()
					return nil, req.Context().Err()
				}
				return next.RoundTrip(req)
			})
		}))
		a, b := wxtoken.New(f, c), wxtoken.New(f, c)
		first := need(t, a)
		need(t, b)
		time.Sleep(time.Minute)
		hangs = true
		require.NoError(t, a.Invalidate(t.Context(), first))
		assert.LessOrEqual(t, failing(t, b, time.Second, 30*time.Minute), 120, "of 1800 calls")
		assert.True(t, p.Honoured(first))
	})
}
