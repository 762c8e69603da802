package sim

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// Samples of stores, rejections and Sources, each with other numbers as well.

// A process that knows that a token was rejected never hands it out again,
// whatever the store falls back to.
func TestTheStoreFallsBackBehindARejection(t *testing.T) {
	for _, writes := range []int{1, 2, 3} {
		for _, doubt := range []bool{false, true} {
			bubble(t, fmt.Sprint(writes, " writes lost, another notes a doubt ", doubt), func(t *testing.T) {
				p, c := newPlatform(), &hooked{Cache: wxtoken.NewMemoryCache()}
				a := wxtoken.New(plain(p), c)
				first := need(t, a)
				time.Sleep(time.Minute)
				p.Revoke(first)
				require.NoError(t, a.Invalidate(t.Context(), first))
				lift := p.Inject(wxtest.Latency(4 * time.Second).On(wxtest.TokenCalls))
				go a.Token(context.Background())
				time.Sleep(2 * time.Second) // a fetches
				c.rewind(t, min(writes, 2))
				if doubt {
					change(t, c, func(r map[string]any) { r["seq"], r["owed"] = r["seq"].(float64)+1, 2 })
				}
				lift()
				for begin := time.Now(); time.Since(begin) < 5*time.Minute; time.Sleep(time.Second) {
					ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
					if tok, err := a.Token(ctx); err == nil {
						require.NotEqual(t, first, tok.Value, "%s after the store fell back", time.Since(begin))
					}
					cancel()
				}
				assert.Equal(t, p.Latest(sampleApp), need(t, a))
				assert.LessOrEqual(t, fetches(p), 5)
			})
		}
	}
}

// The record of a second ago comes back, and another process notes a doubt on
// it: the token that was fetched since is the latest, and must not be forgotten.
func TestTheRecordOfASecondAgo(t *testing.T) {
	for _, bump := range []float64{1, 2, 5} {
		bubble(t, fmt.Sprint("seq ", bump, " more"), func(t *testing.T) {
			p, c := newPlatform(), &hooked{Cache: wxtoken.NewMemoryCache()}
			a := wxtoken.New(plain(p), c)
			first := need(t, a)
			time.Sleep(2*time.Hour - 239*time.Second)
			need(t, a) // refreshes in the background
			time.Sleep(time.Second)
			second := need(t, a)
			require.NotEqual(t, first, second)
			c.rewind(t, 2) // the lease, and the second token
			change(t, c, func(r map[string]any) { r["seq"], r["owed"] = r["seq"].(float64)+bump, 2 })
			for range 40 {
				time.Sleep(time.Second)
				need(t, a)
			}
			assert.NotEqual(t, first, need(t, a), "the record's token is superseded, and a knows the one since")
			time.Sleep(3 * time.Minute)
			need(t, a)
			time.Sleep(time.Second)
			assert.Equal(t, p.Latest(sampleApp), fields(t, c)["token"])
		})
	}
}

// Nor does a short local age, or timeout, make a store that loses the record cost more.
func TestAStoreThatKeepsTheRecordForSeconds(t *testing.T) {
	for _, v := range few([]struct{ keeps, age, timeout time.Duration }{
		{5 * time.Second, 0, 0}, {13 * time.Second, 0, 0}, {40 * time.Second, 0, 0},
		{40 * time.Second, 5 * time.Second, 0}, {20 * time.Second, time.Second, 0}, {13 * time.Second, time.Second, time.Second},
	}) {
		bubble(t, fmt.Sprint(v), func(t *testing.T) {
			p := newPlatform(wxtest.WithQuota(0, 0))
			c := shortMemory{wxtoken.NewMemoryCache(), v.keeps}
			var reported atomic.Int64
			src := wxtoken.New(plain(p), c, wxtoken.WithLocalAge(v.age), wxtoken.WithFetchTimeout(v.timeout), wxtoken.WithObserver(func(e wxtoken.Event) {
				if e.Kind == wxtoken.EventCacheError {
					reported.Add(1)
				}
			}))
			failing(t, src, rare(time.Second), day)
			assert.LessOrEqual(t, fetches(p), 320)
			assert.Positive(t, reported.Load(), "events")
		})
	}
}

// A shortMemory keeps nothing for longer.
type shortMemory struct {
	wxtoken.Cache
	keeps time.Duration
}

func (s shortMemory) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	return s.Cache.CompareAndSwap(ctx, key, old, new, min(ttl, s.keeps))
}

func TestATestAccountsQuota(t *testing.T) {
	for _, c := range few([]struct {
		name string
		is   wxtest.Fault
	}{{"truncated", wxtest.Truncated()}, {"a portal", wxtest.CaptivePortal()}, {"502, issued", wxtest.ServerError(502).Applied()}}) {
		for _, outage := range few([]time.Duration{2 * time.Hour, 5 * time.Hour}) {
			bubble(t, fmt.Sprint(c.name, " for ", outage), func(t *testing.T) {
				p := newPlatform(wxtest.WithQuota(200, 0))
				src := wxtoken.New(plain(p), wxtoken.NewMemoryCache())
				time.Sleep(2 * time.Hour) // the day of the bubble began at 8 in Beijing
				lift := p.Inject(c.is.On(wxtest.TokenCalls))
				failing(t, src, rare(time.Second), outage)
				assert.LessOrEqual(t, fetches(p), 100)
				lift()
				assert.LessOrEqual(t, failing(t, src, time.Second, 20*time.Minute), 11*60, "seconds without a token after the repair")
			})
		}
	}
}

func TestReportsOfATokenThatIsTooYoung(t *testing.T) {
	for _, c := range few([]struct {
		callers int
		every   time.Duration
		early   int
	}{{100, 100 * time.Millisecond, 5}, {30, 10 * time.Millisecond, 4}, {1, time.Second, 5}}) {
		bubble(t, fmt.Sprint(c), func(t *testing.T) {
			p, cache := newPlatform(), &hooked{Cache: wxtoken.NewMemoryCache()}
			var events atomic.Int64
			src := wxtoken.New(plain(p), cache, wxtoken.WithObserver(func(wxtoken.Event) { events.Add(1) }))
			tok := need(t, src)
			change(t, cache, func(r map[string]any) { r["early"], r["seq"] = c.early, r["seq"].(float64)+1 })
			time.Sleep(31 * time.Second)
			need(t, src)
			time.Sleep(time.Second)
			cache.reads.Store(0)
			events.Store(0)
			const minutes = 2
			begin := time.Now()
			for range c.callers {
				go func() {
					for time.Since(begin) < minutes*time.Minute {
						time.Sleep(rare(c.every))
						_ = src.Invalidate(context.Background(), tok)
					}
				}()
			}
			time.Sleep(minutes * time.Minute)
			assert.LessOrEqual(t, cache.reads.Load(), int64(60*minutes), "reads")
			assert.LessOrEqual(t, events.Load(), int64(3*minutes), "events")
			assert.Equal(t, tok, need(t, src))
		})
	}
}

func TestATokenRevokedRightAfterItsIssue(t *testing.T) {
	for _, age := range []time.Duration{1100 * time.Millisecond, 3 * time.Second, 9 * time.Second} {
		bubble(t, age.String(), func(t *testing.T) {
			p, c := newPlatform(), wxtoken.NewMemoryCache()
			src, other := wxtoken.New(plain(p), c), wxtoken.New(plain(p), c)
			tok := need(t, src)
			need(t, other)
			time.Sleep(age)
			p.Revoke(tok)
			require.NoError(t, other.Invalidate(t.Context(), tok))
			assert.True(t, p.Honoured(need(t, other)))
			require.NoError(t, src.Invalidate(t.Context(), tok))
			assert.True(t, p.Honoured(need(t, src)))
			assert.Equal(t, 2, fetches(p))
		})
	}
}

// What Invalidate returned nil for is not handed out again, even if the token
// that took its place could not be published: another process takes over, and
// that is when the first one sees the record again.
func TestTheTokenBeforeOneThatWasLost(t *testing.T) {
	for _, latency := range []time.Duration{3 * time.Second, 8 * time.Second} {
		bubble(t, latency.String(), func(t *testing.T) {
			p, c := newPlatform(), &hooked{Cache: wxtoken.NewMemoryCache()}
			var cut atomic.Bool
			lame := &hooked{Cache: c, before: func(context.Context, bool) error {
				if cut.Load() {
					return errors.New("connection refused")
				}
				return nil
			}}
			a, b := wxtoken.New(plain(p), lame), wxtoken.New(plain(p), c)
			first := need(t, a)
			change(t, c, func(r map[string]any) { r["seq"], r["owed"] = r["seq"].(float64)+1, 1 })
			p.Inject(wxtest.Latency(latency).On(wxtest.TokenCalls))
			leases := 0
			c.after = func(new []byte) { // a has the lease: now its cache is down, until b has it
				if decode(new).Lease != "" {
					leases++
					cut.Store(leases == 1)
				}
			}
			for begin := time.Now(); time.Since(begin) < 10*time.Minute; time.Sleep(time.Second) {
				tok := need(t, a)
				if tok != first && cut.Load() {
					require.NoError(t, a.Invalidate(t.Context(), first))
					break
				}
			}
			for i := range 300 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				_, _ = b.Token(ctx)
				tok, err := a.Token(ctx)
				cancel()
				if err == nil {
					require.NotEqual(t, first, tok.Value, "after %d s", i)
				}
				time.Sleep(time.Second)
			}
			assert.Equal(t, p.Latest(sampleApp), need(t, a))
		})
	}
}

// Without the cache a repeatable fetcher replaces a rejected token.
func TestARepeatableTokenRejectedOffline(t *testing.T) {
	for _, age := range []time.Duration{time.Minute, time.Hour} {
		bubble(t, age.String(), func(t *testing.T) {
			p, c := newPlatform(), &hooked{Cache: wxtoken.NewMemoryCache()}
			src := wxtoken.New(wxtoken.NewStableFetcher(sampleApp, sampleSecret, through(p, nil)), c)
			tok := need(t, src)
			time.Sleep(age)
			c.before = func(context.Context, bool) error { return errors.New("connection refused") }
			p.Revoke(tok)
			for begin := time.Now(); ; time.Sleep(time.Second) {
				require.Less(t, time.Since(begin), 10*time.Second, "still the rejected token")
				_ = src.Invalidate(t.Context(), tok)
				if now, err := src.Token(t.Context()); err == nil && p.Honoured(now.Value) {
					break
				}
			}
		})
	}
}

// A cache may take its time: what it is asked for is still better than a copy
// that is old.
func TestAnOldCopyAndASlowCache(t *testing.T) {
	for _, slow := range []time.Duration{1100 * time.Millisecond, 1900 * time.Millisecond, 200 * time.Millisecond} {
		for _, idle := range []time.Duration{time.Hour, 20 * time.Minute} {
			bubble(t, fmt.Sprint(slow, idle), func(t *testing.T) {
				p, c := newPlatform(), wxtoken.NewMemoryCache()
				late := &hooked{Cache: c}
				a, b := wxtoken.New(plain(p), late), wxtoken.New(plain(p), c)
				first := need(t, a)
				need(t, b)
				time.Sleep(time.Minute)
				p.Revoke(first)
				require.NoError(t, b.Invalidate(t.Context(), first))
				need(t, b)
				time.Sleep(idle)
				late.before = func(context.Context, bool) error { time.Sleep(slow); return nil }
				assert.True(t, p.Honoured(need(t, a)))
			})
		}
	}
}

// Sources that were used and dropped are garbage.
func TestSourcesThatWereDropped(t *testing.T) {
	for name, opts := range map[string][]wxtoken.Option{"defaults": nil, "a local age of 24 h": {wxtoken.WithLocalAge(24 * time.Hour)}} {
		t.Run(name, func(t *testing.T) {
			const n = 500
			var kept []weak.Pointer[wxtoken.Source]
			for range n {
				src := wxtoken.New(plain(newPlatform()), nil, opts...)
				need(t, src)
				need(t, src)
				require.NoError(t, src.Wait(t.Context())) // what is under way keeps it, and reads what play seeds
				kept = append(kept, weak.Make(src))
			}
			alive := n
			for start := time.Now(); alive > n/100 && time.Since(start) < 10*time.Second; time.Sleep(20 * time.Millisecond) {
				runtime.GC()
				alive = 0
				for _, p := range kept {
					if p.Value() != nil {
						alive++
					}
				}
			}
			assert.LessOrEqual(t, alive, n/100, "Sources of %d that something keeps", n)
		})
	}
}

// A good token is withheld once in an outage of the cache, whatever is reported.
func TestAGoodTokenReportedOffline(t *testing.T) {
	for _, every := range few([]time.Duration{time.Second, 3 * time.Second, 10 * time.Second}) {
		for _, others := range []int{0, 3} {
			bubble(t, fmt.Sprint(every, others), func(t *testing.T) {
				p, c := newPlatform(), &hooked{Cache: wxtoken.NewMemoryCache()}
				src := wxtoken.New(plain(p), c)
				tok := need(t, src)
				time.Sleep(time.Minute)
				c.before = func(context.Context, bool) error { return errors.New("connection refused") }
				begin, withheld := time.Now(), 0
				go func() {
					for i := 0; time.Since(begin) < 10*time.Minute; i++ {
						time.Sleep(every)
						_ = src.Invalidate(context.Background(), tok)
						for j := range others {
							_ = src.Invalidate(context.Background(), fmt.Sprint("another ", i, j))
						}
					}
				}()
				for time.Since(begin) < 10*time.Minute {
					if _, err := src.Token(t.Context()); err != nil {
						withheld++
					}
					time.Sleep(100 * time.Millisecond)
				}
				assert.LessOrEqual(t, withheld, 30, "of 6000 calls")
				synctest.Wait()
			})
		}
	}
}

// The platform is busy or no secret is there for minutes; then some answers are lost.
// The wait after a failure of another kind starts at a minute at most.
func TestLostAnswersAfterAnOutage(t *testing.T) {
	const busy, sealed = "busy", "no secret"
	for _, v := range few([]struct {
		outage string
		first  time.Duration
		then   wxtest.Fault
		n      int // members
	}{
		{busy, 5 * time.Minute, wxtest.LostReply(), 1}, {busy, 15 * time.Minute, wxtest.Truncated(), 3}, {"", 0, wxtest.ServerError(502), 1},
		{sealed, 5 * time.Minute, wxtest.ServerError(502), 1}, {sealed, 8 * time.Minute, wxtest.ServerError(502), 3},
	}) {
		bubble(t, fmt.Sprintf("%s for %s, %d members", v.outage, v.first, v.n), func(t *testing.T) {
			p, c := newPlatform(), wxtoken.NewMemoryCache()
			over := time.Now().Add(v.first)
			secret := wxtoken.WithSecretFunc(func(context.Context) (string, error) {
				if v.outage == sealed && time.Now().Before(over) { // nothing is sent
					return "", errors.New("the vault is sealed")
				}
				return sampleSecret, nil
			})
			var srcs []*wxtoken.Source
			for range v.n {
				srcs = append(srcs, wxtoken.New(wxtoken.NewFetcher(sampleApp, "", through(p, nil), secret), c))
			}
			any := func(int) bool {
				return slices.ContainsFunc(srcs, func(src *wxtoken.Source) bool { return got(t, src, patience) })
			}
			lift := func() {}
			if v.outage == busy {
				lift = p.Inject(wxtest.Busy().On(wxtest.TokenCalls))
			}
			longest(time.Second, v.first, any)
			lift()
			p.Inject(v.then.On(wxtest.TokenCalls).Times(v.n))
			assert.LessOrEqual(t, longest(time.Second, 20*time.Minute, any), 2*time.Minute, "without a token after that")
		})
	}
}
