//go:build !race

package sim

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// Days of virtual time with the library's own fetchers and options, in which the
// fleets of the model do not differ.

// No rejections spend the daily quota, also where each fetch brings the same token,
// and where there is no cache to remember what was rejected.
func TestDaysOfRejections(t *testing.T) {
	for name, test := range map[string]struct {
		value func(n int) string
		down  bool
		every time.Duration
		most  int
	}{
		"of one that is issued again": {func(int) string { return "same" }, false, 5 * time.Second, 400},
		"while the cache is down":     {func(n int) string { return fmt.Sprint("token-", n) }, true, 3 * time.Second, 320},
	} {
		bubble(t, name, func(t *testing.T) {
			n, conflicts := 0, 0
			f := wxtoken.FetcherFunc("stub", func(context.Context) (wxtoken.Token, error) {
				n++
				return wxtoken.Token{Value: test.value(n), ExpiresAt: time.Now().Add(2 * time.Hour)}, nil
			})
			cache := &hooked{Cache: wxtoken.NewMemoryCache()}
			if test.down {
				cache.before = func(context.Context, bool) error { return errNoProcess }
			}
			src := wxtoken.New(wxtoken.Repeatable(f), cache, wxtoken.WithObserver(func(e wxtoken.Event) {
				if e.Kind == wxtoken.EventConflict {
					conflicts++
				}
			}))
			var last error
			for start := time.Now(); time.Since(start) < 24*time.Hour; time.Sleep(test.every) {
				if err := src.Invalidate(t.Context(), need(t, src)); err != nil {
					last = err
				}
			}
			assert.LessOrEqual(t, n, test.most, "fetches a day")
			assert.Positive(t, conflicts)
			assert.ErrorContains(t, last, "tokens are rejected again and again")
		})
	}
}

// A store that loses the record again and again takes no token from anyone. That it is
// reported, and costs no quota in a day: TestAStoreThatKeepsTheRecordForSeconds.
func TestNobodyLacksATokenOnAForgetfulStore(t *testing.T) {
	for _, test := range []struct {
		keeps      time.Duration
		members    int
		repeatable bool
	}{
		{3 * time.Second, 1, false}, {7 * time.Second, 6, false}, {23 * time.Second, 3, false},
		{38 * time.Second, 5, false}, {5 * time.Second, 4, true}, {31 * time.Second, 2, true},
	} {
		bubble(t, fmt.Sprintf("after %s, %d members, repeatable=%v", test.keeps, test.members, test.repeatable), func(t *testing.T) {
			p, c := newPlatform(), shortMemory{wxtoken.NewMemoryCache(), test.keeps}
			p.Inject(wxtest.Latency(150 * time.Millisecond).On(wxtest.TokenCalls))
			var srcs []*wxtoken.Source
			for range test.members {
				srcs = append(srcs, wxtoken.New(maybeRepeatable{plain(p), test.repeatable}, c))
			}
			for start := time.Now(); time.Since(start) < 3*time.Hour; time.Sleep(3 * time.Second) {
				for _, src := range srcs {
					need(t, src)
				}
			}
			assert.LessOrEqual(t, fetches(p), 40, "in an eighth of a day")
		})
	}
}

// Whatever the durations of one process, neither it nor the other waits for a token,
// and the two fetch as often as others do.
func TestOneMemberWithOddOptions(t *testing.T) {
	for name, opts := range map[string][]wxtoken.Option{
		"the longest":         {wxtoken.WithFetchTimeout(math.MaxInt64), wxtoken.WithLocalAge(math.MaxInt64), wxtoken.WithRefreshAhead(math.MaxInt64)},
		"a local age of 10 h": {wxtoken.WithLocalAge(10 * time.Hour)},
		"a local age of 1 ms": {wxtoken.WithLocalAge(time.Millisecond)},
		"1 ns":                {wxtoken.WithLocalAge(1), wxtoken.WithRefreshAhead(1)},
		"a timeout of 1 ms":   {wxtoken.WithFetchTimeout(time.Millisecond)},
		"negative":            {wxtoken.WithFetchTimeout(-1), wxtoken.WithLocalAge(-1), wxtoken.WithRefreshAhead(-1)},
	} {
		bubble(t, name, func(t *testing.T) {
			p, c := newPlatform(), wxtoken.NewMemoryCache()
			srcs := []*wxtoken.Source{wxtoken.New(plain(p), c, opts...), wxtoken.New(plain(p), c)}
			for start := time.Now(); time.Since(start) < 24*time.Hour; time.Sleep(20 * time.Second) {
				for _, src := range srcs {
					before := time.Now()
					need(t, src)
					require.Less(t, time.Since(before), 50*time.Millisecond)
				}
			}
			assert.InDelta(t, 14, fetches(p), 3, "fetches a day")
		})
	}
}

// The platform says of each ticket that its whole life is left. Anyone who gets one
// that is not new, or one in the moment before it expires, must not hold it long.
func TestDaysOfTickets(t *testing.T) {
	for name, test := range map[string]struct {
		opts   []wxtest.Option
		setup  func(p *wxtest.Platform, fetch func())
		step   time.Duration
		others int           // requests of another system, every 7 minutes
		stale  time.Duration // in two days, at most
	}{
		"new":              {step: 20 * time.Second},
		"an hour old":      {setup: func(_ *wxtest.Platform, fetch func()) { fetch(); time.Sleep(time.Hour) }, step: 20 * time.Second, stale: 6 * time.Minute},
		"another system's": {step: 20 * time.Second, others: 1, stale: 24 * 6 * time.Minute},
		"lives longer":     {opts: []wxtest.Option{wxtest.WithTickets(4*time.Hour, 0)}, step: 20 * time.Second, stale: 12 * time.Minute},
		"renewed early":    {opts: []wxtest.Option{wxtest.WithTickets(2*time.Hour, 5*time.Minute)}, step: 20 * time.Second},
		"repeated in the moment before it expires": {setup: func(p *wxtest.Platform, _ func()) {
			p.Inject(wxtest.Latency(2 * time.Second).On(wxtest.TicketPath).Times(1))
		}, step: time.Second, stale: 2 * time.Minute},
	} {
		bubble(t, name, func(t *testing.T) {
			p, cache := newPlatform(test.opts...), wxtoken.NewMemoryCache()
			access := wxtoken.New(wxtoken.NewStableFetcher(sampleApp, sampleSecret, through(p, nil)), cache)
			other := wxtoken.NewTicketFetcher(access, "jsapi", through(p, nil))
			fetch := func() { _, _ = other.Fetch(t.Context()) }
			if test.setup != nil {
				test.setup(p, fetch)
			}
			sources := [3]*wxtoken.Source{}
			for i := range sources {
				sources[i] = wxtoken.New(wxtoken.NewTicketFetcher(access, "jsapi", through(p, nil)), cache)
			}
			before, start, asked := p.Stats().Results[wxtest.TicketPath].Total(), time.Now(), time.Now()
			stale, others, tickets := time.Duration(0), 0, []string{}
			for i := 0; time.Since(start) < 48*time.Hour; i++ {
				if test.others > 0 && time.Since(asked) >= 7*time.Minute {
					fetch()
					asked, others = time.Now(), others+1
				}
				ticket := need(t, sources[i%3])
				if tickets = append(tickets, ticket); !p.TicketHonoured(ticket) {
					stale += test.step
				}
				time.Sleep(test.step)
			}
			assert.LessOrEqual(t, stale, test.stale, "signed with an expired ticket")
			if name == "new" {
				assert.Len(t, slices.Compact(tickets), 24, "a ticket for each two hours")
			}
			fetched := p.Stats().Results[wxtest.TicketPath].Total() - before - others
			assert.LessOrEqual(t, fetched, 48*60, "more than 60 an hour, of WeCom's 100")
			if name != "lives longer" {
				assert.LessOrEqual(t, fetched, 48*12+24)
			}
		})
	}
}

// Two processes with a memory each: with a repeatable fetcher the platform answers both
// with one token, and no call is rejected; with NewFetcher each fetch of one supersedes
// the token of the other.
func TestDaysOfAMemoryEach(t *testing.T) {
	type constructor func(appID, secret string, opts ...wxtoken.FetcherOption) *wxtoken.HTTPFetcher
	for name, test := range map[string]struct {
		fetcher constructor
		shared  bool
	}{
		"stable": {wxtoken.NewStableFetcher, true},
		"plain":  {wxtoken.NewFetcher, false},
	} {
		bubble(t, name, func(t *testing.T) {
			const hours = 48
			p := newPlatform()
			var rejected atomic.Int64
			for process := range 2 {
				src := wxtoken.New(test.fetcher(sampleApp, sampleSecret, through(p, nil)), wxtoken.NewMemoryCache())
				go func() {
					time.Sleep(time.Duration(process) * 7 * time.Minute)
					for range hours * 60 * 2 {
						if !p.Honoured(need(t, src)) {
							rejected.Add(1)
						}
						time.Sleep(30 * time.Second)
					}
				}()
			}
			time.Sleep((hours + 1) * time.Hour)
			assert.Equal(t, test.shared, rejected.Load() == 0)
		})
	}
}
