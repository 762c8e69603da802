package wxtoken_test

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

// neverSwaps says of every write, after 100 µs, that something else was there.
type neverSwaps struct{ wxtoken.Cache }

func (neverSwaps) CompareAndSwap(context.Context, string, []byte, []byte, time.Duration) (bool, error) {
	time.Sleep(100 * time.Microsecond)
	return false, nil
}

func TestStoreThatNeverSwaps(t *testing.T) {
	bubble(t, "is not asked in a tight loop", func(t *testing.T) {
		f, cache, l := &stub{}, &faultyCache{Cache: neverSwaps{wxtoken.NewMemoryCache()}}, &log{}
		_, err := wxtoken.New(f, cache, l.option()).Token(t.Context())
		assert.Error(t, err)
		assert.Equal(t, 1, l.count(wxtoken.EventCacheError), "the operator is told")
		assert.Less(t, cache.gets.Load(), int64(200), "reads in a minute")
		assert.Zero(t, f.fetches.Load())
	})
	bubble(t, "leaves the copy in use", func(t *testing.T) {
		store := newSwappable()
		src := wxtoken.New(&stub{}, store)
		token(t, src)
		store.use(neverSwaps{store.current()})
		for start := time.Now(); time.Since(start) < 2*time.Hour-time.Second; time.Sleep(time.Second) {
			token(t, src)
		}
	})
}

func TestTokenWithoutEnd(t *testing.T) {
	for _, end := range []time.Time{time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), time.UnixMilli(math.MaxInt64)} {
		bubble(t, end.UTC().Format("year 2006"), func(t *testing.T) {
			f, cache := &constant{value: "endless", expires: end}, wxtoken.NewMemoryCache()
			for range 3 {
				assert.Equal(t, "endless", token(t, wxtoken.New(f, cache)))
			}
			assert.Equal(t, "endless", recordOf(t, cache)["token"])
			assert.EqualValues(t, 1, f.fetches.Load())
		})
	}
}

// A constant has one token, as a platform that repeats it until it expires.
type constant struct {
	value   string
	expires time.Time
	fetches atomic.Int64
}

func (c *constant) Key() string      { return "stub" }
func (c *constant) Repeatable() bool { return true }
func (c *constant) Fetch(context.Context) (wxtoken.Token, error) {
	c.fetches.Add(1)
	return wxtoken.Token{Value: c.value, ExpiresAt: c.expires}, nil
}

func TestTokenThatNoRecordCanHold(t *testing.T) {
	soon, never := time.Date(2000, 1, 2, 0, 0, 0, 0, time.UTC), time.Unix(1<<60, 0) // the latter in more than 2^63 ms
	for value, expires := range map[string]time.Time{"from-a-file\n": soon, "a b": soon, "t\xff": soon, "密": soon, "endless": never} {
		bubble(t, value, func(t *testing.T) {
			f, cache := &constant{value: value, expires: expires}, wxtoken.NewMemoryCache()
			src := wxtoken.New(f, cache)
			for start := time.Now(); time.Since(start) < time.Hour; time.Sleep(10 * time.Second) {
				_, err := src.Token(t.Context())
				require.ErrorContains(t, err, "check its Value")
				require.NotContains(t, recordOf(t, cache), "token")
			}
			assert.Less(t, f.fetches.Load(), int64(150), "as many as without an answer")
		})
	}
}

// A repeater returns one token until it expires, as stable_token does.
type repeater struct {
	stub
	end time.Time
}

func (r *repeater) Fetch(ctx context.Context) (wxtoken.Token, error) {
	tok, err := r.stub.Fetch(ctx)
	if time.Now().Before(r.end) {
		tok = wxtoken.Token{Value: "same", ExpiresAt: r.end}
	}
	return tok, err
}

func TestTokenThatIsRepeatedAfterItExpired(t *testing.T) {
	bubble(t, "by the clock of another process, is not fetched in a tight loop", func(t *testing.T) {
		now, cache := time.Now(), wxtoken.NewMemoryCache()
		put(t, cache, fmt.Appendf(nil, `{"v":1,"epoch":"e","seq":1,"token":"same","issued_at":%d,"expires_at":%d}`,
			now.Add(-2*time.Hour).UnixMilli(), now.UnixMilli()))
		f := &repeater{stub{latency: 50 * time.Millisecond, repeatable: true}, now.Add(59 * time.Second)}
		src := wxtoken.New(f, cache)
		token(t, src)
		time.Sleep(time.Minute) // the platform issues another one then
		token(t, src)
		assert.Equal(t, "token-"+fmt.Sprint(f.fetches.Load()), recordOf(t, cache)["token"])
		assert.Less(t, f.fetches.Load(), int64(100), "in a minute")
	})
}

func TestTokenThatComesWithAnError(t *testing.T) {
	bubble(t, "is none", func(t *testing.T) {
		l, fails := &log{}, func(context.Context) (wxtoken.Token, error) {
			return wxtoken.Token{Value: "x", ExpiresAt: time.Now().Add(time.Hour)}, errDown
		}
		_, err := wxtoken.New(wxtoken.FetcherFunc("stub", fails), nil, l.option()).Token(t.Context())
		assert.ErrorIs(t, err, errDown)
		require.Equal(t, 1, l.count(wxtoken.EventFetch))
		assert.Zero(t, l.all()[0].ExpiresAt)
	})
}

func TestLeaseThatTheCacheDidNotConfirm(t *testing.T) {
	bubble(t, "is known again when the cache is back", func(t *testing.T) {
		f, l := &stub{}, &log{}
		cache := &faultyCache{Cache: wxtoken.NewMemoryCache()}
		down := false
		cache.get = func(context.Context) error {
			if down {
				return errDown
			}
			return nil
		}
		cache.after = func(stored bool, err error) (bool, error) {
			if down = cache.swaps.Load() == 1; down {
				return false, errDown
			}
			return stored, err
		}
		src := wxtoken.New(f, cache, l.option())
		_, err := src.Token(t.Context())
		require.ErrorIs(t, err, wxtoken.ErrCacheUnavailable)
		require.Contains(t, recordOf(t, cache.Cache), "lease")
		down = false
		time.Sleep(time.Second)
		start := time.Now()
		token(t, src)
		assert.Less(t, time.Since(start), time.Second)
		assert.Zero(t, l.count(wxtoken.EventTakeover))
		assert.NotContains(t, recordOf(t, cache), "owed")
	})
}

func TestPlatformBusyInTwoWays(t *testing.T) {
	bubble(t, "keeps nobody waiting for long", func(t *testing.T) {
		src := wxtoken.New(&stub{answer: func(n int64) error {
			return &wxtoken.APIError{Code: []int{-1, -1000}[n%2]}
		}}, nil)
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err := src.Token(ctx)
		assert.Error(t, err)
		assert.Less(t, time.Since(start), 5*time.Second)
	})
}

func TestNobodyWaitsWhileATokenIsAtHand(t *testing.T) {
	bubble(t, "for a cache that hangs after the fetch", func(t *testing.T) {
		cache, hangs := &faultyCache{Cache: wxtoken.NewMemoryCache()}, false
		stuck := func(ctx context.Context) error {
			if hangs {
				<-ctx.Done()
			}
			return ctx.Err()
		}
		cache.get, cache.swap = stuck, stuck
		src := wxtoken.New(&stub{answer: func(int64) error { hangs = true; return nil }}, cache)
		start := time.Now()
		token(t, src)
		assert.LessOrEqual(t, time.Since(start), time.Second)
	})
	bubble(t, "for the platform, though they call but once a minute", func(t *testing.T) {
		src := wxtoken.New(&stub{latency: 3 * time.Second}, nil)
		token(t, src)
		for start := time.Now(); time.Since(start) < 24*time.Hour; time.Sleep(time.Minute) {
			before := time.Now()
			token(t, src)
			require.Zero(t, time.Since(before))
		}
	})
}

// An asked counts how often somebody waits for its end.
type asked struct {
	context.Context
	times atomic.Int64
}

func (a *asked) Done() <-chan struct{} { a.times.Add(1); return a.Context.Done() }

func TestWaitersSleepUntilThereIsAToken(t *testing.T) {
	bubble(t, "for the lease of a dead process", func(t *testing.T) {
		cache := wxtoken.NewMemoryCache()
		put(t, cache, []byte(`{"v":1,"epoch":"e","seq":1,"lease":"of a process that died"}`))
		src := wxtoken.New(&stub{}, cache)
		ctx, start := &asked{Context: t.Context()}, time.Now()
		together(1000, func(int) {
			_, err := src.Token(ctx)
			assert.NoError(t, err)
		})
		assert.Greater(t, time.Since(start), 14*time.Second)
		assert.Less(t, ctx.times.Load(), int64(3*1000), "wakeups of a thousand callers")
	})
}

// A caller's httptrace hooks, as tracing libraries put into its ctx, are for the
// caller's own request; by HTTP/2 they are shown the path with the secret.
func TestTraceOfACallerSeesNothingOfTheFetch(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, 2, r.ProtoMajor)
		_, _ = io.WriteString(w, `{"access_token":"token-1","expires_in":7200}`)
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GotConn:          func(httptrace.GotConnInfo) { t.Error("the caller's trace has a connection of the fetch") },
		WroteHeaderField: func(name string, value []string) { t.Error("the caller's trace has", name, value) },
	})
	f := wxtoken.NewFetcher("wx1", "s3cret", wxtoken.WithBaseURL(srv.URL), wxtoken.WithHTTPClient(srv.Client()))
	tok, err := wxtoken.New(f, nil).Token(ctx)
	require.NoError(t, err)
	assert.Equal(t, "token-1", tok.Value)
}

// Whatever stands in the cache, the token is replaced in time, or when it is
// rejected, and the quota is safe.
func TestRecordsThatTheProtocolDidNotWrite(t *testing.T) {
	now := func(d time.Duration) int64 { return time.Now().Add(d).UnixMilli() }
	for name, record := range map[string]func() string{
		"year 9999": func() string { return `{"v":1,"epoch":"e","seq":1,"token":"x","expires_at":253402300799000}` },
		"no end": func() string {
			return `{"v":1,"epoch":"e","seq":1,"token":"x","expires_at":9223372036854775807,"issued_at":-9223372036854775808}`
		},
		"negative": func() string {
			return `{"v":1,"epoch":"e","seq":1,"token":"x","expires_at":-9223372036854775808,"issued_at":9223372036854775807}`
		},
		"early": func() string {
			return fmt.Sprintf(`{"v":1,"epoch":"e","seq":1,"token":"x","expires_at":%d,"early":9223372036854775807}`, now(time.Hour))
		},
		"seq": func() string {
			return fmt.Sprintf(`{"v":1,"epoch":"e","seq":9223372036854775807,"token":"x","expires_at":%d}`, now(time.Hour))
		},
		"cooldown": func() string {
			return `{"v":1,"epoch":"e","seq":1,"cooldown":{"until":9223372036854775807,"code":-1,"step":9223372036854775807}}`
		},
		"cooldown 0": func() string { return `{"v":1,"epoch":"e","seq":1,"cooldown":{}}` },
		"cooldown -": func() string {
			return `{"v":1,"epoch":"e","seq":1,"cooldown":{"until":-9223372036854775808,"code":45009}}`
		},
		"lease": func() string {
			return fmt.Sprintf(`{"v":1,"epoch":"e","seq":1,"token":"x","expires_at":%d,"lease":"other","owed":3}`, now(time.Hour))
		},
		"rejected": func() string {
			return fmt.Sprintf(`{"v":1,"epoch":"e","seq":1,"token":"x","expires_at":%d,"rejected":true}`, now(time.Hour))
		},
	} {
		bubble(t, name, func(t *testing.T) {
			f, cache := &stub{}, wxtoken.NewMemoryCache()
			put(t, cache, []byte(record()))
			src := wxtoken.New(f, cache)
			served := 0
			for start := time.Now(); time.Since(start) < time.Hour-time.Minute; time.Sleep(time.Second) {
				if _, err := src.Token(t.Context()); err == nil {
					served++
				}
			}
			assert.Greater(t, served, 3400, "of 3540 calls")
			for range 20 {
				time.Sleep(11 * time.Minute)
				_ = src.Invalidate(t.Context(), "x")
				_ = src.Invalidate(t.Context(), token(t, src))
			}
			assert.NotEqual(t, "x", token(t, src))
			assert.LessOrEqual(t, f.fetches.Load(), int64(30))
		})
	}
}

func TestOddOptions(t *testing.T) {
	for name, opts := range map[string][]wxtoken.Option{
		"the longest":         {wxtoken.WithFetchTimeout(math.MaxInt64), wxtoken.WithLocalAge(math.MaxInt64), wxtoken.WithRefreshAhead(math.MaxInt64)},
		"a local age of 10 h": {wxtoken.WithLocalAge(10 * time.Hour)},
		"a local age of 1 ms": {wxtoken.WithLocalAge(time.Millisecond)},
		"1 ns":                {wxtoken.WithLocalAge(1), wxtoken.WithRefreshAhead(1)},
		"a timeout of 1 ms":   {wxtoken.WithFetchTimeout(time.Millisecond)},
		"negative":            {wxtoken.WithFetchTimeout(-1), wxtoken.WithLocalAge(-1), wxtoken.WithRefreshAhead(-1)},
	} {
		bubble(t, name, func(t *testing.T) {
			f, cache := &stub{}, wxtoken.NewMemoryCache()
			odd, usual := wxtoken.New(f, cache, opts...), wxtoken.New(f, cache)
			for start := time.Now(); time.Since(start) < 24*time.Hour; time.Sleep(20 * time.Second) {
				before := time.Now()
				token(t, odd)
				token(t, usual)
				require.Less(t, time.Since(before), 50*time.Millisecond)
			}
			assert.InDelta(t, 14, f.fetches.Load(), 3, "fetches a day")
		})
	}
}

func TestTimeoutOfANanosecond(t *testing.T) {
	bubble(t, "ends, and does not spin", func(t *testing.T) {
		start := time.Now()
		_, _ = wxtoken.New(&stub{}, nil, wxtoken.WithFetchTimeout(1)).Token(t.Context())
		assert.Less(t, time.Since(start), time.Second)
	})
}
