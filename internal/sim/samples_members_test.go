package sim

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// Samples of members that took a usable token from the others, each with other
// numbers as well. The fleets are the same kind, at length.

func TestALeaseOfADeadProcessInAnEmptyStore(t *testing.T) {
	for _, lives := range []time.Duration{10 * time.Second, 4 * time.Second, 14 * time.Second, time.Hour} {
		for _, record := range []string{
			`{"v":1,"epoch":"e","seq":0,"lease":"of a process that died"}`,
			`{"v":1,"epoch":"f","seq":41,"lease":"x","owed":2}`,
		} {
			bubble(t, fmt.Sprint(lives, record), func(t *testing.T) {
				p, c := newPlatform(), wxtoken.NewMemoryCache()
				put(t, c, []byte(record))
				begin := time.Now()
				for ok := false; !ok; {
					require.Less(t, time.Since(begin), 40*time.Second, "without a token")
					m := startProgram(plain(p), c)
					ctx, cancel := context.WithTimeout(t.Context(), lives)
					_, err := m.Token(ctx)
					ok = err == nil
					cancel()
					m.die()
				}
				assert.LessOrEqual(t, fetches(p), 2)
			})
		}
	}
}

func TestACronJob(t *testing.T) {
	for _, job := range few([]struct{ every, patience, works, latency time.Duration }{
		{10 * time.Second, 5 * time.Second, 100 * time.Millisecond, 400 * time.Millisecond},
		{7 * time.Second, 3 * time.Second, 0, 900 * time.Millisecond},
		{time.Minute, 2 * time.Second, time.Second, 1500 * time.Millisecond},
		{25 * time.Minute, 20 * time.Second, 50 * time.Millisecond, 4 * time.Second},
		{10 * time.Second, 9 * time.Second, 0, 3 * time.Second}, // it has the token, and returns at once
		{13 * time.Second, 9 * time.Second, 0, 1050 * time.Millisecond},
	}) {
		bubble(t, fmt.Sprint(job), func(t *testing.T) {
			p, c := newPlatform(), &hooked{Cache: wxtoken.NewMemoryCache()}
			c.before = func(context.Context, bool) error { time.Sleep(5 * time.Millisecond); return nil }
			p.Inject(wxtest.Latency(job.latency).On(wxtest.TokenCalls))
			failed := 0
			const lifetimes = 5
			for begin := time.Now(); time.Since(begin) < lifetimes*2*time.Hour; time.Sleep(job.every) {
				m := startProgram(plain(p), c)
				ctx, cancel := context.WithTimeout(t.Context(), job.patience)
				if _, err := m.Token(ctx); err != nil {
					failed++
				}
				cancel()
				time.Sleep(job.works)
				m.die()
			}
			assert.LessOrEqual(t, failed, 3*lifetimes, "jobs without a token")
			assert.LessOrEqual(t, fetches(p), 3*lifetimes)
		})
	}
}

// withoutQuery is a proxy that loses what it does not know.
func withoutQuery(next http.RoundTripper) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		req = req.Clone(req.Context())
		req.URL.RawQuery = ""
		return next.RoundTrip(req)
	})
}

func badGateway(http.RoundTripper) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusBadGateway, Body: io.NopCloser(bytes.NewReader([]byte("<html>502</html>"))), Request: req}, nil
	})
}

func TestOneMemberBehindABadProxy(t *testing.T) {
	for _, c := range few([]struct {
		name       string
		way        func(http.RoundTripper) http.RoundTripper
		n          int
		good, sick time.Duration
		most       int // good calls without a token
	}{
		{"without the query", withoutQuery, 4, time.Second, time.Second, 0},
		{"without the query", withoutQuery, 3, 20 * time.Second, 300 * time.Millisecond, 0},
		{"502", badGateway, 4, 55 * time.Second, 50 * time.Millisecond, 1},
		{"502", badGateway, 5, 7 * time.Second, time.Second, 3},
	}) {
		bubble(t, fmt.Sprintf("%s, %d good ones called every %s, it every %s", c.name, c.n, c.good, c.sick), func(t *testing.T) {
			p, cache := newPlatform(), wxtoken.NewMemoryCache()
			sick := wxtoken.New(wxtoken.NewFetcher(sampleApp, sampleSecret, through(p, c.way)), cache)
			const length = 6 * time.Hour
			results := make(chan int, c.n)
			for i := range c.n {
				src := wxtoken.New(plain(p), cache)
				need(t, src)
				go func() {
					time.Sleep(c.good * time.Duration(i) / time.Duration(c.n))
					results <- failing(t, src, rare(c.good), length)
				}()
			}
			failing(t, sick, rare(c.sick), length)
			for range c.n {
				assert.LessOrEqual(t, <-results, c.most, "calls without a token")
			}
			assert.LessOrEqual(t, fetches(p), 80)
		})
	}
}

// A sick member can be one process after the other: a cron job behind a bad proxy, or a
// crash loop. To the others each process is a new one, and some have a new name, too, as
// pods have.
func TestASickMemberThatLivesForSeconds(t *testing.T) {
	const cron, long, renamed, expires = 1, 2, 3, 4
	for _, v := range few([]struct {
		name       string
		way        func(http.RoundTripper) http.RoundTripper
		good, sick time.Duration
		kind       int
	}{
		{"without the query", withoutQuery, 10 * time.Second, time.Second, renamed},
		{"without the query", withoutQuery, 30 * time.Second, time.Second, cron},
		{"without the query", withoutQuery, time.Minute, 5 * time.Second, cron},
		{"502", badGateway, 30 * time.Second, time.Second, cron},
		{"502", badGateway, 10 * time.Second, 2 * time.Second, cron},
		{"without the query", withoutQuery, 10 * time.Second, time.Second, long},
		{"502", badGateway, 30 * time.Second, 300 * time.Millisecond, long},
		{"502", badGateway, 30 * time.Second, 300 * time.Millisecond, renamed},
		{"502", badGateway, 10 * time.Second, time.Second, renamed},
		{"without the query", withoutQuery, 30 * time.Second, 300 * time.Millisecond, expires},
		{"without the query", withoutQuery, time.Minute, 5 * time.Second, expires},
		{"without the query", withoutQuery, 3 * time.Second, 500 * time.Millisecond, expires},
		{"without the query", withoutQuery, 10 * time.Second, time.Second, expires},
	}) {
		kind := [...]string{cron: "cron jobs", long: "long lives", renamed: "long lives, a new name each time", expires: "a token that is replaced when it expires"}[v.kind]
		bubble(t, fmt.Sprintf("%s, good ones every %s, sick every %s, %s", v.name, v.good, v.sick, kind), func(t *testing.T) {
			p, c := newPlatform(), wxtoken.NewMemoryCache()
			p.AddCorp("ww1", sampleSecret)
			fetcher := func(way func(http.RoundTripper) http.RoundTripper) wxtoken.Fetcher {
				if v.kind == expires {
					return wxtoken.NewWeComFetcher("ww1", sampleSecret, through(p, way))
				}
				return wxtoken.NewFetcher(sampleApp, sampleSecret, through(p, way))
			}
			var srcs []*program
			for i := range 3 {
				m := startProgram(fetcher(nil), c)
				m.name = fmt.Sprint("good ", i)
				if srcs = append(srcs, m); v.kind == expires {
					need(t, m)
				}
			}
			sick := fetcher(v.way)
			defer repeated(rare(v.sick), func(i int) {
				name := "sick"
				if v.kind == renamed {
					name = fmt.Sprint("sick ", i)
				}
				_ = job(t, name, sick, c)
			})()
			time.Sleep(time.Minute)
			if v.kind == renamed { // after 5 minutes a process is sure that it is not such a member itself
				longest(v.good/3, 5*time.Minute, func(i int) bool { return got(t, srcs[i%3], patience) })
			}
			period, most := v.good/3, time.Minute
			if v.kind == cron {
				period, most = v.good, time.Minute+v.good // a token within a minute is for the job after that
			}
			assert.LessOrEqual(t, longest(period, 150*time.Minute, func(i int) bool {
				if v.kind == cron {
					return job(t, "good", fetcher(nil), c) == nil
				}
				return got(t, srcs[i%3], patience)
			}), most, "without a token")
			assert.LessOrEqual(t, fetches(p), 20)
		})
	}
}

func TestAValueThatIsRenewed(t *testing.T) {
	for _, life := range few([]time.Duration{time.Hour, 20 * time.Minute, 2 * time.Hour}) {
		for _, repeatable := range []bool{false, true} {
			bubble(t, fmt.Sprint(life, repeatable), func(t *testing.T) {
				n := 0
				f := maybeRepeatable{wxtoken.FetcherFunc("renewed", func(context.Context) (wxtoken.Token, error) {
					n++
					return wxtoken.Token{Value: "always-the-same", ExpiresAt: time.Now().Add(life)}, nil
				}), repeatable}
				src := wxtoken.New(f, nil)
				assert.Zero(t, failing(t, src, rare(time.Second), day))
				assert.LessOrEqual(t, n, int(day/(life*3/4))+2)
			})
		}
	}
}

type maybeRepeatable struct {
	wxtoken.Fetcher
	repeatable bool
}

func (f maybeRepeatable) Repeatable() bool { return f.repeatable }

// The clock of the process that fetched first was off, and it is gone.
func TestAClockThatWasOffAtTheFirstFetch(t *testing.T) {
	for _, off := range few([]time.Duration{-time.Hour, -3 * time.Hour, -20 * time.Minute, time.Hour, 3 * time.Hour}) {
		bubble(t, off.String(), func(t *testing.T) {
			p, c := newPlatform(), wxtoken.NewMemoryCache()
			f := wxtoken.NewStableFetcher(sampleApp, sampleSecret, through(p, nil))
			first := startProgram(f, c, wxtoken.WithKeyPrefix("wxtoken:token:wx1#")) // under a key of its own, to be moved
			need(t, first)
			first.die()
			moved, err := c.Get(t.Context(), "wxtoken:token:wx1#"+f.Key())
			require.NoError(t, err)
			put(t, c, shift(moved, off))
			src := wxtoken.New(sampleKeyed{f}, c, wxtoken.WithKeyPrefix(""))
			assert.LessOrEqual(t, failing(t, src, time.Second, 6*time.Hour), 1)
			assert.LessOrEqual(t, fetches(p), 6)
		})
	}
}

// sampleKeyed is a fetcher under the key of the samples.
type sampleKeyed struct{ *wxtoken.HTTPFetcher }

func (sampleKeyed) Key() string { return sampleKey }

func TestOptionsThatDiffer(t *testing.T) {
	for _, c := range few([]struct{ short, long, latency time.Duration }{
		{time.Second, 10 * time.Second, 2 * time.Second},
		{3 * time.Second, 20 * time.Second, 5 * time.Second},
		{500 * time.Millisecond, 5 * time.Second, time.Second},
	}) {
		bubble(t, fmt.Sprint(c), func(t *testing.T) {
			p, cache := newPlatform(), wxtoken.NewMemoryCache()
			p.Inject(wxtest.Latency(c.latency).On(wxtest.TokenCalls))
			results := make(chan int, 4)
			for i := range 4 {
				timeout := []time.Duration{c.short, c.long}[i%2]
				src := wxtoken.New(plain(p), cache, wxtoken.WithFetchTimeout(timeout))
				go func() {
					time.Sleep(c.latency * time.Duration(i))
					results <- failing(t, src, rare(time.Second), day)
				}()
			}
			for range 4 {
				assert.LessOrEqual(t, <-results, int(c.long/time.Second), "the first seconds, and no more")
			}
			assert.LessOrEqual(t, fetches(p), 40, "in a day")
		})
	}
}

// A short fetch timeout gives the reports of one member no more weight: it cannot make
// all spend the quota.
func TestAShortTimeoutAndReportsOfValidTokens(t *testing.T) {
	for _, timeout := range few([]time.Duration{time.Second, 500 * time.Millisecond, 3 * time.Second, 100 * time.Millisecond, time.Minute}) {
		for _, short := range []bool{false, true} {
			bubble(t, fmt.Sprint(timeout, short), func(t *testing.T) {
				p, c := newPlatform(wxtest.WithQuota(0, 0)), wxtoken.NewMemoryCache()
				var m *program
				good := wxtoken.New(plain(p), c)
				assert.Zero(t, longest(rare(5*time.Second), 8*time.Hour, func(i int) bool {
					if m == nil || short {
						m = startProgram(plain(p), c, wxtoken.WithFetchTimeout(timeout))
					}
					if tok, err := m.Token(t.Context()); err == nil {
						_ = m.Invalidate(t.Context(), tok.Value)
						got(t, m, tolerated)
					}
					return accepted(t, p, good, tolerated)
				}), "without a token")
				assert.LessOrEqual(t, 3*fetches(p), 340, "fetches a day, of which some 20 are the first few")
			})
		}
	}
}

// A fetcher that hides its secret's fingerprint stands for one process only.
func TestAWrappedFetcherWithTheOldSecret(t *testing.T) {
	for _, others := range []int{1, 4} {
		bubble(t, fmt.Sprint(others), func(t *testing.T) {
			p, c := newPlatform(), wxtoken.NewMemoryCache()
			old := wxtoken.NewFetcher(sampleApp, "fedcba9876543210", through(p, nil))
			for range others {
				_, err := wxtoken.New(struct{ wxtoken.Fetcher }{old}, c).Token(t.Context())
				require.ErrorContains(t, err, "40125")
			}
			fresh := wxtoken.New(plain(p), c)
			begin := time.Now()
			for {
				if _, err := fresh.Token(t.Context()); err == nil {
					break
				}
				time.Sleep(100 * time.Millisecond)
				require.Less(t, time.Since(begin), 4*time.Second, "blocked by the one with the old secret")
			}
		})
	}
}

func TestAnErrorOfAFetcherFuncWithoutMeasure(t *testing.T) {
	for name, refusal := range map[string]wxtoken.APIError{
		"2 MB":               {Code: 40013, Message: string(bytes.Repeat([]byte("errmsg "), 300_000))},
		"64 KB, unknown":     {Code: 99999, Message: string(bytes.Repeat([]byte("é"), 32_000))},
		"control characters": {Code: 45009, Message: "\x1b[2J\u202e\u2028\x00"},
		"code 0":             {Message: "ok"}, // no denial: a token may have been issued
	} {
		bubble(t, name, func(t *testing.T) {
			c := wxtoken.NewMemoryCache()
			var n atomic.Int64
			f := wxtoken.FetcherFunc("token:"+sampleApp, func(context.Context) (wxtoken.Token, error) {
				n.Add(1)
				return wxtoken.Token{}, &refusal
			})
			a, b := wxtoken.New(f, c), wxtoken.New(f, c)
			for range 600 {
				for _, src := range []*wxtoken.Source{a, b} {
					_, err := src.Token(t.Context())
					require.Error(t, err)
				}
				time.Sleep(time.Second)
			}
			raw, err := c.Get(t.Context(), sampleKey)
			require.NoError(t, err)
			assert.Less(t, len(raw), 4<<10, "bytes of the record")
			assert.Equal(t, refusal.Code == 0, fields(t, c)["owed"] != nil, "fetches owed")
			assert.Less(t, n.Load(), int64(50), "fetches in 10 minutes")
			_, err = b.Token(t.Context())
			assert.Less(t, len(err.Error()), 4<<10)
			for _, c := range err.Error() {
				assert.True(t, c >= ' ' && c != 0x202e && c != 0x2028 || c == '\n', "%q in the error", c)
			}
		})
	}
}

// A member whose fetches failed, and then one did not, starts over: what a process
// remembers of those before does not add to the next that dies.
func TestADeathAfterASuccess(t *testing.T) {
	for _, row := range []int{9, 4, 6} {
		bubble(t, fmt.Sprint(row), func(t *testing.T) {
			c, life := wxtoken.NewMemoryCache(), time.Minute
			put(t, c, fmt.Appendf(nil, `{"v":1,"epoch":"e","seq":1,"cooldown":{"until":%d,"code":0,"by":"x","member":"jobs","row":%d}}`,
				time.Now().Add(-20*time.Minute).UnixMilli(), row))
			n := 0
			m := startProgram(wxtoken.FetcherFunc("token:"+sampleApp, func(context.Context) (wxtoken.Token, error) {
				n++
				return wxtoken.Token{Value: fmt.Sprint("token-", n), ExpiresAt: time.Now().Add(life)}, nil
			}), c)
			m.name = "jobs"
			need(t, m)
			time.Sleep(life + time.Second)
			put(t, c, []byte(`{"v":1,"epoch":"f","seq":5,"lease":"dead.x.jobs","lease_for":12000}`))
			require.False(t, got(t, m, time.Second), "while another fetches")
			put(t, c, nil)
			assert.Less(t, longest(time.Second, time.Minute, func(int) bool { return got(t, m, time.Second) }), 4*time.Second)
		})
	}
}
