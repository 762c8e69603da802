package wxtoken_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/bridge"
	"github.com/wxtoken/wxtoken/internal/endpoint"
	"github.com/wxtoken/wxtoken/wxtest"
)

// A panicsIfNil error panics when it is looked at and is nil.
type panicsIfNil struct{ text string }

func (f *panicsIfNil) Error() string { return f.text }

func TestErrorsThatPanic(t *testing.T) {
	for name, err := range map[string]error{
		"a nil *APIError":               (*wxtoken.APIError)(nil),
		"a nil *APIError, wrapped":      fmt.Errorf("fetching: %w", (*wxtoken.APIError)(nil)),
		"a nil pointer of another type": (*panicsIfNil)(nil),
	} {
		bubble(t, name, func(t *testing.T) {
			f := wxtoken.FetcherFunc("stub", func(context.Context) (wxtoken.Token, error) {
				return wxtoken.Token{Value: "x", ExpiresAt: time.Now().Add(time.Hour)}, err
			})
			src := wxtoken.New(f, nil, wxtoken.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
			for range 3 {
				_, err := src.Token(t.Context())
				var cool *wxtoken.CooldownError
				require.ErrorAs(t, err, &cool)
				assert.ErrorContains(t, err, "Fetcher")
				time.Sleep(time.Minute)
			}
		})
	}
}

// fetchesIn has src asked every two seconds for d, and counts the fetches of f.
func fetchesIn(t *testing.T, src *wxtoken.Source, f *countingFetcher, d time.Duration) int64 {
	t.Helper()
	before := f.fetches.Load()
	for start := time.Now(); time.Since(start) < d; time.Sleep(2 * time.Second) {
		_, _ = src.Token(t.Context())
	}
	return f.fetches.Load() - before
}

func TestCooldowns(t *testing.T) {
	const everyone, oneself = true, false
	tests := []struct {
		name   string
		err    error
		shared bool
		first  time.Duration // a second fetch comes after this
		hour   [2]int64      // fetches in the first hour, least and most
	}{
		{"wrong secret, by a Fetcher that does not tell which", &wxtoken.APIError{Code: 40125}, oneself, time.Minute, [2]int64{9, 10}},
		{"wrong secret, as documented", &wxtoken.APIError{Code: 40001}, oneself, time.Minute, [2]int64{9, 10}},
		{"bad AppID", &wxtoken.APIError{Code: 40013}, everyone, 10 * time.Minute, [2]int64{6, 6}},
		{"frozen", &wxtoken.APIError{Code: 40243}, everyone, 10 * time.Minute, [2]int64{6, 6}},
		{"not whitelisted", &wxtoken.APIError{Code: 40164}, oneself, time.Minute, [2]int64{13, 15}},
		{"denied for an hour", &wxtoken.APIError{Code: 89507}, oneself, 10 * time.Minute, [2]int64{6, 6}},
		{"daily quota", &wxtoken.APIError{Code: 45009}, everyone, 15 * time.Minute, [2]int64{3, 3}},
		{"minute quota", &wxtoken.APIError{Code: 45011}, everyone, time.Minute, [2]int64{58, 61}},
		{"an errcode nobody knows", &wxtoken.APIError{Code: 99999}, everyone, 5 * time.Second, [2]int64{10, 14}},
		{"no answer", errors.New("EOF"), everyone, 1250 * time.Millisecond, [2]int64{12, 16}},
	}
	for _, test := range tests {
		bubbles(t, test.name, func(t *testing.T) {
			f := &countingFetcher{answer: failBetween(1, ever, test.err)}
			cache := wxtoken.NewMemoryCache()
			src, other := wxtoken.New(f, cache), wxtoken.New(f, cache)

			_, err := src.Token(t.Context())
			assert.ErrorIs(t, err, test.err)
			var cool *wxtoken.CooldownError
			require.ErrorAs(t, err, &cool)
			assert.InDelta(t, test.first, time.Until(cool.Until), float64(10*time.Millisecond))

			time.Sleep(100 * time.Millisecond)
			before := f.fetches.Load()
			_, err = other.Token(t.Context())
			assert.Error(t, err)
			assert.Equal(t, test.shared, f.fetches.Load() == before, "does another process wait as well?")

			n := fetchesIn(t, src, f, time.Hour) + 1
			assert.GreaterOrEqual(t, n, test.hour[0])
			assert.LessOrEqual(t, n, test.hour[1])
		})
	}
}

func TestBusyPlatformIsWaitedOut(t *testing.T) {
	busy := &wxtoken.APIError{Code: -1, Message: "system error"}
	for name, test := range map[string]struct {
		answer      func(int64) error
		patience    time.Duration // of the caller
		least, most time.Duration // that Token takes
		want        string
	}{
		"by a caller with time":       {failBetween(1, 2, busy), time.Hour, 2900 * time.Millisecond, 3100 * time.Millisecond, "token-3"},
		"not by a caller without":     {failBetween(1, ever, busy), 500 * time.Millisecond, 0, 0, ""},
		"not for long":                {failBetween(1, ever, busy), time.Hour, 0, 5 * time.Second, ""},
		"not for long, in either way": {func(n int64) error { return &wxtoken.APIError{Code: []int{-1, -1000}[n%2]} }, time.Hour, 0, 5 * time.Second, ""},
	} {
		bubble(t, name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), test.patience)
			defer cancel()
			start := time.Now()
			tok, err := wxtoken.New(&countingFetcher{answer: test.answer}, nil).Token(ctx)
			assert.Equal(t, test.want, tok.Value)
			var denial *wxtoken.APIError
			assert.Equal(t, test.want == "", errors.As(err, &denial) && denial.Temporary(), "%v", err)
			assert.GreaterOrEqual(t, time.Since(start), test.least)
			assert.LessOrEqual(t, time.Since(start), test.most)
		})
	}
	bubble(t, "a fault of seconds is over in seconds", func(t *testing.T) {
		start := time.Now()
		src := wxtoken.New(&countingFetcher{answer: func(int64) error {
			if time.Since(start) < 4*time.Second {
				return errors.New("HTTP status 503")
			}
			return nil
		}}, nil)
		for _, err := src.Token(t.Context()); err != nil; _, err = src.Token(t.Context()) {
			time.Sleep(100 * time.Millisecond)
		}
		assert.Less(t, time.Since(start), 9*time.Second)
	})
	bubble(t, "and is no error while there is a token", func(t *testing.T) {
		f := &countingFetcher{answer: failBetween(2, ever, busy)}
		src := wxtoken.New(f, nil)
		use(t, 2*time.Hour-time.Second, time.Second, src)
		assert.Greater(t, f.fetches.Load(), int64(5))
	})
}

func TestWrongSecret(t *testing.T) {
	bubble(t, "callers at once make one request, and each learns why it was denied", func(t *testing.T) {
		p := wxtest.NewPlatform(wxtest.WithApp("wx1", "right"))
		src := wxtoken.New(wxtoken.NewFetcher("wx1", "wrong", wxtoken.WithHTTPClient(p.Client())), nil)
		together(50, func(i int) {
			time.Sleep(time.Duration(i/25) * 20 * time.Second)
			_, err := src.Token(t.Context())
			var cool *wxtoken.CooldownError
			var denial *wxtoken.APIError
			assert.True(t, errors.As(err, &cool) && errors.As(err, &denial) && denial.Code == 40125, err)
			assert.ErrorContains(t, err, "invalid appsecret rid: ")
		})
		assert.Equal(t, 1, p.Stats().Fetches().Total())
	})
	// The record holds a fingerprint of the wrong secret, by which each process knows
	// whether the cooldown concerns it.
	for _, kind := range []string{"token", "stable", "QQ", "endpoint, POST", "repeatable"} {
		bubble(t, "a process with the corrected secret is not blocked, "+kind, func(t *testing.T) {
			p, cache, scopes := wxtest.NewPlatform(wxtest.WithApp("wx1", "right")), wxtoken.NewMemoryCache(), map[string]bool{}
			for _, prefix := range []string{"a:", "b:"} {
				before := p.Stats().Fetches().Total()
				source := func(secret string) *wxtoken.Source {
					kinds := fetcherKinds(secret, wxtoken.WithHTTPClient(p.Client()))
					f := wxtoken.Fetcher(kinds[kind])
					if kind == "repeatable" {
						f = wxtoken.Repeatable(struct{ *wxtoken.HTTPFetcher }{kinds["token"]})
					}
					return wxtoken.New(f, cache, wxtoken.WithKeyPrefix(prefix))
				}
				for range 3 {
					_, err := source("wrong").Token(t.Context())
					assert.ErrorContains(t, err, "errcode 40")
				}
				assert.Equal(t, before+1, p.Stats().Fetches().Total(), "three processes with the same wrong secret")
				key := regexp.MustCompile(`\((.*)\)`).FindStringSubmatch(fmt.Sprint(source("right")))[1]
				raw, err := cache.Get(t.Context(), key)
				require.NoError(t, err)
				scopes[regexp.MustCompile(`"scope":"[0-9a-f]{16}"`).FindString(string(raw))] = true
				token(t, source("right"))
				assert.Equal(t, before+2, p.Stats().Fetches().Total())
				token(t, source("wrong")) // the shared token serves it
			}
			assert.Len(t, scopes, 2, "one fingerprint for each key")
			assert.NotContains(t, scopes, "", "no fingerprint")
		})
	}
}

func TestSecretsMissing(t *testing.T) {
	for missing, f := range map[string]wxtoken.Fetcher{
		"appID":  wxtoken.NewFetcher("", "secret"),
		"secret": wxtoken.NewStableFetcher("wx1", ""),
	} {
		bubble(t, missing, func(t *testing.T) {
			cache := &faultyCache{Cache: wxtoken.NewMemoryCache()}
			src := wxtoken.New(f, cache)
			start := time.Now()
			for range 100 {
				_, err := src.Token(t.Context())
				require.ErrorContains(t, err, missing)
			}
			assert.Zero(t, time.Since(start), "no caller blocks on what waiting does not fix")
			assert.LessOrEqual(t, cache.gets.Load()+cache.swaps.Load(), int64(6))
		})
	}
}

// The clock of the process that was denied does not decide for the others.
func TestCooldownOfAProcessWithAnotherClock(t *testing.T) {
	bubble(t, "ahead", func(t *testing.T) {
		f, cache := &countingFetcher{}, wxtoken.NewMemoryCache()
		put(t, cache, fmt.Sprintf(`{"v":1,"epoch":"e","seq":0,"cooldown":{"until":%d,"code":45011}}`, time.Now().Add(time.Hour).UnixMilli()))
		src := wxtoken.New(f, cache)
		assert.EqualValues(t, 0, fetchesIn(t, src, f, 57*time.Second))
		assert.EqualValues(t, 1, fetchesIn(t, src, f, 5*time.Second))
	})
}

// Whatever a Fetcher puts into an APIError, records, logs and errors stay small
// and printable.
func TestDenialsOfAnyShape(t *testing.T) {
	bubble(t, "a message of 3 MB with control characters", func(t *testing.T) {
		cache, l := wxtoken.NewMemoryCache(), &log{}
		long := "\x1b[31mquota\n\u202e" + strings.Repeat("密", 1<<20)
		f := &countingFetcher{answer: failBetween(1, ever, &wxtoken.APIError{Code: 45009, Message: long})}
		src, other := wxtoken.New(f, cache, l.option()), wxtoken.New(f, cache)
		for _, s := range []*wxtoken.Source{src, other} {
			_, err := s.Token(t.Context())
			require.ErrorContains(t, err, " [31mquota 密")
			assert.Less(t, len(err.Error()), 2200)
			assert.NotContains(t, err.Error(), "\x1b")
			assert.NotContains(t, err.Error(), "\u202e")
		}
		assert.Less(t, len(stored(t, cache)), 2400)
		for _, e := range l.all() {
			assert.Less(t, len(e.Err.Error()), 2200)
		}
		assert.EqualValues(t, 1, f.fetches.Load())
	})
	long := strings.Repeat("a\n", 1<<20)
	for name, err := range map[string]error{
		"wrapped":   fmt.Errorf("mine: %w", &wxtoken.APIError{Code: 40013, Message: long}),
		"errcode 0": &wxtoken.APIError{Code: 0, Message: long},
	} {
		bubble(t, name, func(t *testing.T) {
			cache := wxtoken.NewMemoryCache()
			_, got := wxtoken.New(&countingFetcher{answer: failBetween(1, ever, err)}, cache).Token(t.Context())
			require.Error(t, got)
			assert.Less(t, len(got.Error()), 1000)
			if name == "errcode 0" { // is no denial: a token may have been issued
				assert.EqualValues(t, 2, recordOf(t, cache)["owed"])
			} else {
				assert.NotContains(t, recordOf(t, cache), "owed")
			}
		})
	}
}

// A caller without a token waits for another process's fetch, whatever its own
// process or the record has failed at.
func TestCooldownWaitsForAnothersFetch(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		cache := wxtoken.NewMemoryCache()
		f := &countingFetcher{answer: failBetween(1, ever, &wxtoken.APIError{Code: 89507})}
		denied := wxtoken.New(f, cache)
		_, err := denied.Token(t.Context())
		require.Error(t, err)
		go wxtoken.New(&countingFetcher{latency: 4 * time.Second}, cache).Token(t.Context())
		time.Sleep(3 * time.Second)
		start := time.Now()
		assert.Equal(t, "token-1", token(t, denied))
		assert.InDelta(t, time.Second, time.Since(start), float64(30*time.Millisecond))
		assert.EqualValues(t, 1, f.fetches.Load())
	})
}

// During the last refresh-ahead of a token the platform is asked again within a
// quarter of that: there is no time to lose.
func TestCooldownNearExpiry(t *testing.T) {
	for _, err := range []error{&wxtoken.APIError{Code: 45009}, &wxtoken.APIError{Code: 89507}, &wxtoken.APIError{Code: 40013}, errors.New("EOF")} {
		bubble(t, err.Error(), func(t *testing.T) {
			f := &countingFetcher{lifetime: time.Hour}
			src := wxtoken.New(f, nil, wxtoken.WithRefreshAhead(8*time.Minute))
			f.answer = failBetween(2, 3, err)
			use(t, time.Hour, time.Second, src) // the failures are over before it expires
			most := int64(4)
			if err.Error() == "EOF" {
				most++ // it settles which token is the latest, unless the token expires first
			}
			assert.GreaterOrEqual(t, f.fetches.Load(), int64(4))
			assert.LessOrEqual(t, f.fetches.Load(), most)
		})
	}
}

// A gated Fetcher has a gate that the test moves.
type gated struct {
	countingFetcher
	revision atomic.Uint64
	closed   atomic.Pointer[error]
	looks    atomic.Int64 // calls of Gate
}

func (g *gated) Gate() (bridge.Revision, error) {
	g.looks.Add(1)
	if err := g.closed.Load(); err != nil {
		return bridge.Revision(g.revision.Load()), *err
	}
	return bridge.Revision(g.revision.Load()), nil
}

func TestANewRevisionEndsThisProcessesCooldown(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		lacking := &endpoint.Unsent{Err: errors.New("wxtoken: something is missing")}
		f := &gated{countingFetcher: countingFetcher{answer: failBetween(1, ever, lacking)}}
		src := wxtoken.New(f, nil)
		for range 10 { // the wait grows
			_, err := src.Token(t.Context())
			require.ErrorIs(t, err, lacking)
			time.Sleep(30 * time.Second)
		}
		_, err := src.Token(t.Context())
		require.Error(t, err)
		f.answer = nil
		_, err = src.Token(t.Context())
		require.Error(t, err, "nothing has said that it may be asked again")
		f.revision.Add(1)
		assert.NotEmpty(t, token(t, src))
	})
}

func TestAClosedGateStopsTheToken(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		f := &gated{}
		src := wxtoken.New(f, nil)
		first := token(t, src)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- src.Run(ctx) }()

		why := errors.New("revoked")
		f.closed.Store(&why)
		time.Sleep(45 * time.Second)
		_, err := src.Token(t.Context())
		assert.ErrorIs(t, err, why)
		_, ok := src.Peek()
		assert.False(t, ok)
		time.Sleep(3 * time.Hour)
		assert.EqualValues(t, 1, f.fetches.Load(), "Run fetches nothing either")

		f.closed.Store(nil)
		assert.NotEqual(t, first, token(t, src))
		cancel()
		assert.ErrorIs(t, <-ended, context.Canceled)
	})
}

// A wrong secret of which no fingerprint is known blocks its own process only.
func TestSecretThatCannotBeTold(t *testing.T) {
	plain := func(f wxtoken.Fetcher) wxtoken.Fetcher { return f }
	for name, wrap := range map[string]func(wxtoken.Fetcher) wxtoken.Fetcher{
		"hidden":                func(f wxtoken.Fetcher) wxtoken.Fetcher { return struct{ wxtoken.Fetcher }{f} },
		"hidden and repeatable": func(f wxtoken.Fetcher) wxtoken.Fetcher { return wxtoken.Repeatable(struct{ wxtoken.Fetcher }{f}) },
	} {
		bubble(t, name, func(t *testing.T) {
			p, cache := wxtest.NewPlatform(wxtest.WithApp("wx1", "new")), wxtoken.NewMemoryCache()
			source := func(secret string, wrap func(wxtoken.Fetcher) wxtoken.Fetcher) *wxtoken.Source {
				return wxtoken.New(wrap(wxtoken.NewFetcher("wx1", secret, wxtoken.WithHTTPClient(p.Client()))), cache)
			}
			old := source("old", wrap)
			for range 3 {
				_, err := old.Token(t.Context())
				require.Error(t, err)
				time.Sleep(15 * time.Second)
			}
			assert.Equal(t, 1, p.Stats().Fetches().Total())
			_, err := source("older", plain).Token(t.Context()) // has a fingerprint
			require.Error(t, err)
			_, err = source("third", wrap).Token(t.Context())
			require.Error(t, err)
			assert.Equal(t, 3, p.Stats().Fetches().Total(), "the fingerprint of another blocks nobody")
			_, err = source("older", plain).Token(t.Context())
			require.Error(t, err)
			assert.Equal(t, 3, p.Stats().Fetches().Total(), "and stays in the record")
			token(t, source("new", plain))
			token(t, old)
			assert.Equal(t, 4, p.Stats().Fetches().Total())
		})
	}
}
