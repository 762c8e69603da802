package protocol

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// However early a repeatable token is to be replaced, it does not come to that
// callers wait at its expiry.
func TestRefreshAtOfRepeatableTokens(t *testing.T) {
	for _, c := range []struct{ ahead, life, want time.Duration }{
		{5 * time.Minute, 2 * time.Hour, 5 * time.Minute},
		{100 * time.Minute, 2 * time.Hour, 5 * time.Minute},
		{24 * time.Hour, 2 * time.Hour, 5 * time.Minute},
		{90 * time.Minute, 2 * time.Hour, 30 * time.Minute},
		{20 * time.Minute, 20 * time.Minute, 5 * time.Minute}, // repeated with what was left of its life
		{20 * time.Minute, 8 * time.Minute, 2 * time.Minute},
		{20 * time.Minute, 6 * time.Minute, 0},
		{5 * time.Minute, 6 * time.Minute, 0},
	} {
		ru := Rules{Ahead: c.ahead, Repeatable: true}
		r := Record{ExpiresAt: c.life.Milliseconds()}
		assert.Equal(t, c.want, time.UnixMilli(r.ExpiresAt).Sub(ru.refreshAt(r)), "%v", c)
	}
}

// A process whose own last fetch failed leaves the next refresh to the others.
func TestRefreshAfterAFailure(t *testing.T) {
	r := aged("t", 115*time.Minute+30*time.Second)
	owed := r
	owed.Owed = 1
	for _, test := range []struct {
		record  Record
		fetch   time.Duration
		failed  time.Duration // when, before it is asked
		at      time.Duration
		due     bool
		because string
	}{
		{r, 10 * time.Second, -1, 0, true, "it did not fail"},
		{r, 10 * time.Second, time.Hour, 0, false, "the others go first"},
		{r, 7 * time.Minute, 8 * time.Hour, 0, false, "however large its ample is"},
		{r, 10 * time.Second, time.Hour, 3*time.Minute + 20*time.Second, true, "they did not"},
		{r, 10 * time.Second, 0, 0, true, "in this refresh only the cooldown counts"},
		{owed, 7 * time.Minute, 0, 0, false, "unless nobody knows what came of it"},
		{owed, 7 * time.Minute, 0, 3*time.Minute + 20*time.Second, true, "and the token is about to expire"},
	} {
		p := &Process{Rules: usual}
		p.Fetch = test.fetch
		p.view.copy, p.view.copySeen = test.record, clock.Add(-115*time.Minute-30*time.Second)
		now := clock.Add(test.at)
		if test.failed >= 0 {
			p.view.own = &failure{at: now.Add(-test.failed)}
		}
		assert.Equal(t, test.due, p.due(test.record, now), test.because)
	}
}
