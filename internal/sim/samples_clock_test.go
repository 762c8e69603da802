package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// skewed is the cache as a process sees it whose clock is ahead by off.
type skewed struct {
	wxtoken.Cache
	off time.Duration
}

func (s skewed) Get(ctx context.Context, key string) ([]byte, error) {
	raw, err := s.Cache.Get(ctx, key)
	return shift(raw, -s.off), err
}

func (s skewed) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	return s.Cache.CompareAndSwap(ctx, key, shift(old, s.off), shift(new, s.off), ttl)
}

// fleetWith is three good members beside one with a clock that is off, which asks
// every period as long as it lives.
func fleetWith(t *testing.T, off, lives, period, length time.Duration, sick func(m *program), good func(token string)) (fetched int) {
	p, c := newPlatform(), wxtoken.NewMemoryCache()
	m := startProgram(plain(p), skewed{c, off})
	need(t, m)
	var srcs []*wxtoken.Source
	for range 3 {
		srcs = append(srcs, wxtoken.New(plain(p), c))
	}
	for begin := time.Now(); time.Since(begin) < length; time.Sleep(period) {
		if time.Since(begin) < lives {
			sick(m)
		} else {
			m.die()
		}
		for _, src := range srcs {
			if token := need(t, src); !p.Honoured(token) {
				good(token)
			}
		}
	}
	return fetches(p)
}

// A token whose issuer's clock was ahead is replaced in time all the same, by
// those who have seen it for as long as it lives: nobody has to run into an error.
func TestAClockThatIsAheadGivesNoLongerLife(t *testing.T) {
	for _, off := range few([]time.Duration{3 * time.Hour, time.Hour, 17 * time.Minute, -3 * time.Hour}) {
		for _, lives := range []time.Duration{time.Minute, 12 * time.Hour} {
			bubble(t, off.String()+", lives "+lives.String(), func(t *testing.T) {
				expired := 0
				n := fleetWith(t, off, lives, rare(5*time.Second), 12*time.Hour,
					func(m *program) { need(t, m) }, func(string) { expired++ })
				assert.Zero(t, expired, "calls with a token that has expired")
				assert.LessOrEqual(t, n, 9)
			})
		}
	}
}

// By a clock that is off, every token is old enough for a rejection, or has lived
// its life: the quota is safe from a member that reports each one, whatever the
// periods and the number of members, and whichever fetches after a rejection.
func TestAnyClockThatReportsEveryToken(t *testing.T) {
	for _, m := range []struct {
		sick, good time.Duration
		n          int
	}{{time.Second, time.Second, 3}, {6 * time.Second, 7 * time.Second, 3}, {20 * time.Second, 41 * time.Second, 1}, {time.Minute, 7 * time.Second, 5}} {
		for _, hours := range few([]float64{-12, -3, -2.1, -1, 0, 0.3, 1.97, 2.1, 3, 12}) {
			off := time.Duration(hours * float64(time.Hour))
			bubble(t, fmt.Sprintf("%s, %d good ones, off by %s", m.sick, m.n, off), func(t *testing.T) {
				p, c := newPlatform(wxtest.WithQuota(0, 0)), wxtoken.NewMemoryCache()
				over, stop := context.WithCancel(context.Background())
				defer stop()
				r := rand.New(rand.NewPCG(uint64(m.n), uint64(off)))
				member := func(c wxtoken.Cache, period time.Duration, reports bool) {
					src, first := wxtoken.New(plain(p), c), time.Duration(r.Int64N(int64(period)))
					go func() {
						for time.Sleep(first); over.Err() == nil; time.Sleep(rare(period)) {
							ctx, cancel := context.WithTimeout(over, tolerated)
							if tok, err := src.Token(ctx); err == nil && reports {
								_ = src.Invalidate(ctx, tok.Value)
							}
							cancel()
						}
					}()
				}
				member(skewed{c, off}, m.sick, true)
				for range m.n {
					member(c, m.good, false)
				}
				time.Sleep(day / 3)
				most := 107 // 320 a day
				if day < 24*time.Hour {
					most = 35
				}
				assert.LessOrEqual(t, fetches(p), most, "fetches in %s", day/3)
			})
		}
	}
}

// One member's clock is ahead; all others live for less than a second.
func TestShortLivesAfterAClockThatIsAhead(t *testing.T) {
	for _, off := range few([]time.Duration{3 * time.Minute, 30 * time.Minute, 3 * time.Hour, 26 * time.Hour}) {
		bubble(t, off.String(), func(t *testing.T) {
			p, c := newPlatform(), wxtoken.NewMemoryCache()
			m := startProgram(plain(p), skewed{c, off})
			need(t, m)
			m.die()
			without, start := 0, time.Now()
			for ; time.Since(start) < 8*time.Hour; time.Sleep(10 * time.Second) {
				job := startProgram(plain(p), c)
				token := need(t, job)
				for range 2 { // as Transport does: report, and once more
					if p.Honoured(token) {
						break
					}
					time.Sleep(50 * time.Millisecond)
					_ = job.Invalidate(t.Context(), token)
					token = need(t, job)
				}
				if !p.Honoured(token) {
					without += 10
				}
				job.die()
			}
			assert.LessOrEqual(t, without, 60, "seconds without a good token")
			assert.LessOrEqual(t, fetches(p), 12)
		})
	}
}

// By a clock that is ahead, each token is old enough for a rejection, and a process that
// lives for seconds knows of none before. One that reports each token, as it sends them
// to the wrong API, does not spend the quota.
func TestShortLivesThatReportEveryToken(t *testing.T) {
	for _, v := range few([]struct{ off, every time.Duration }{
		{time.Hour, 10 * time.Second}, {10 * time.Minute, 10 * time.Second}, {100 * time.Minute, time.Minute},
		{0, 10 * time.Second}, {-time.Hour, 10 * time.Second}, {3 * time.Hour, 30 * time.Second},
	}) {
		bubble(t, fmt.Sprintf("off by %s, every %s", v.off, v.every), func(t *testing.T) {
			p, c := newPlatform(wxtest.WithQuota(0, 0)), wxtoken.NewMemoryCache()
			defer repeated(v.every, func(int) {
				m := startProgram(plain(p), skewed{c, v.off})
				defer m.die()
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if tok, err := m.Token(ctx); err == nil {
					_ = m.Invalidate(ctx, tok.Value)
					_, _ = m.Token(ctx)
				}
			})()
			srcs := []*wxtoken.Source{wxtoken.New(plain(p), c), wxtoken.New(plain(p), c)}
			assert.LessOrEqual(t, longest(rare(5*time.Second)/2, 6*time.Hour, func(i int) bool {
				return accepted(t, p, srcs[i%2], tolerated)
			}), 10*time.Second, "the others without a good token")
			assert.LessOrEqual(t, 4*fetches(p), 320, "fetches a day")
		})
	}
}

// In a conflict, the clock of the member that fetched last was ahead, and all others
// live for seconds: no process sees the token get old.
func TestShortLivesInAConflictAfterAClockThatWasAhead(t *testing.T) {
	for _, off := range few([]time.Duration{time.Hour, 0, 10 * time.Minute, 3 * time.Hour}) {
		bubble(t, off.String(), func(t *testing.T) {
			p, c := newPlatform(), wxtoken.NewMemoryCache()
			first := startProgram(plain(p), c)
			token := need(t, first)
			first.die()
			supersede := func() { // by another system
				time.Sleep(10 * time.Minute)
				p.Issue(sampleApp)
				p.Issue(sampleApp)
			}
			supersede()
			m := startProgram(plain(p), skewed{c, off})
			assert.NoError(t, m.Invalidate(t.Context(), token))
			need(t, m)
			m.die()
			supersede()
			assert.LessOrEqual(t, longest(10*time.Second, 3*time.Hour, func(int) bool {
				m := startProgram(plain(p), c)
				defer m.die()
				defer time.Sleep(3 * time.Second)
				return accepted(t, p, m.Source, patience)
			}), 6*time.Minute, "without a good token")
		})
	}
}

// A member whose clock is ahead is denied a token. The others live for seconds: each of
// them takes the time in the record for longer than it is.
func TestShortLivesAfterACooldownByAClockThatIsAhead(t *testing.T) {
	for _, v := range few([]struct {
		off  time.Duration
		code int
	}{{3 * time.Hour, 45011}, {time.Hour, 45011}, {0, 45011}, {-time.Hour, 45011}, {0, 45009}, {time.Hour, -1}, {26 * time.Hour, 40013}, {time.Hour, 45009}}) {
		bubble(t, fmt.Sprintf("%d, off by %s", v.code, v.off), func(t *testing.T) {
			p, c := newPlatform(), wxtoken.NewMemoryCache()
			lift := p.Inject(wxtest.Denial(v.code).On(wxtest.TokenCalls))
			assert.Error(t, job(t, "first", plain(p), skewed{c, v.off}))
			lift()
			assert.LessOrEqual(t, longest(10*time.Second, time.Hour, func(int) bool {
				return job(t, "good", plain(p), c) == nil
			}), time.Minute, "without a token")
		})
	}
}

// Nobody knows when a ticket expires that was not new when it was first fetched, and no
// API reports it, so that it is asked for again every 5 minutes: by processes that live
// for seconds, too.
func TestTicketsOfShortLives(t *testing.T) {
	for _, v := range few([]struct {
		old   time.Duration // the ticket, when it is first fetched
		every time.Duration
		short bool
		off   time.Duration // the clock of the member that fetches it first, and is gone
	}{
		{time.Hour, 10 * time.Second, true, 0}, {100 * time.Minute, 4 * time.Second, true, 0}, {time.Hour, 10 * time.Second, false, 0},
		{90 * time.Minute, 30 * time.Second, false, time.Hour}, {time.Hour, 10 * time.Second, false, -time.Hour}, {time.Hour, 10 * time.Second, false, 3 * time.Hour},
	}) {
		bubble(t, fmt.Sprintf("%s old, every %s, short lives %t, off by %s", v.old, v.every, v.short, v.off), func(t *testing.T) {
			p := newPlatform()
			tickets := func(c wxtoken.Cache) *program {
				return startProgram(wxtoken.NewTicketFetcher(wxtoken.New(plain(p), c), "jsapi", through(p, nil)), c)
			}
			need(t, tickets(wxtoken.NewMemoryCache())) // by another system, or before the store lost everything
			time.Sleep(v.old)
			c := wxtoken.NewMemoryCache()
			if v.off != 0 {
				m := tickets(skewed{c, v.off})
				need(t, m)
				m.die()
			}
			m := tickets(c)
			assert.LessOrEqual(t, longest(v.every, 5*time.Hour, func(int) bool {
				if v.short {
					m.die()
					m = tickets(c)
					defer time.Sleep(3 * time.Second)
				}
				return p.TicketHonoured(need(t, m))
			}), 6*time.Minute, "with an expired ticket")
			assert.LessOrEqual(t, p.Stats().Results[wxtest.TicketPath].Total(), 80)
		})
	}
}
