package wxtoken_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// calls has src asked every second for d, and counts the fetches of f.
func calls(t *testing.T, src *wxtoken.Source, f *stub, d time.Duration) int64 {
	t.Helper()
	before := f.fetches.Load()
	for start := time.Now(); time.Since(start) < d; time.Sleep(time.Second) {
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
		{"minute quota", &wxtoken.APIError{Code: 45011}, everyone, time.Minute, [2]int64{59, 61}},
		{"an errcode nobody knows", &wxtoken.APIError{Code: 99999}, everyone, 5 * time.Second, [2]int64{10, 14}},
		{"no answer", errors.New("EOF"), everyone, 1250 * time.Millisecond, [2]int64{12, 16}},
	}
	for _, test := range tests {
		bubble(t, test.name, func(t *testing.T) {
			f := &stub{answer: func(int64) error { return test.err }}
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

			start := f.fetches.Load()
			calls(t, src, f, time.Hour)
			n := f.fetches.Load() - start + 1
			assert.GreaterOrEqual(t, n, test.hour[0])
			assert.LessOrEqual(t, n, test.hour[1])
		})
	}
}

func TestBusyPlatformIsWaitedOut(t *testing.T) {
	busy := &wxtoken.APIError{Code: -1, Message: "system error"}
	bubble(t, "by a caller with time", func(t *testing.T) {
		f := &stub{answer: func(n int64) error {
			if n <= 2 {
				return busy
			}
			return nil
		}}
		start := time.Now()
		assert.Equal(t, "token-3", token(t, wxtoken.New(f, nil)))
		assert.InDelta(t, 3*time.Second, time.Since(start), float64(50*time.Millisecond))
	})
	bubble(t, "not by a caller without", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := wxtoken.New(&stub{answer: func(int64) error { return busy }}, nil).Token(ctx)
		assert.ErrorIs(t, err, busy)
		assert.Zero(t, time.Since(start))
	})
	bubble(t, "not for long", func(t *testing.T) {
		start := time.Now()
		_, err := wxtoken.New(&stub{answer: func(int64) error { return busy }}, nil).Token(t.Context())
		assert.ErrorIs(t, err, busy)
		assert.Less(t, time.Since(start), 5*time.Second)
	})
	bubble(t, "and is no error while there is a token", func(t *testing.T) {
		f := &stub{answer: func(n int64) error {
			if n > 1 {
				return busy
			}
			return nil
		}}
		src := wxtoken.New(f, nil)
		token(t, src)
		for range 2*60*60 - 2 {
			time.Sleep(time.Second)
			require.Equal(t, "token-1", token(t, src))
		}
		assert.Greater(t, f.fetches.Load(), int64(5))
	})
}

func TestWrongSecret(t *testing.T) {
	bubble(t, "100 calls make at most 2 requests", func(t *testing.T) {
		p := wxtest.NewPlatform(wxtest.WithApp("wx1", "right"))
		src := wxtoken.New(wxtoken.NewFetcher("wx1", "wrong", wxtoken.WithHTTPClient(p.Client())), nil)
		together(50, func(int) {
			_, err := src.Token(t.Context())
			var denial *wxtoken.APIError
			assert.ErrorAs(t, err, &denial)
			assert.Equal(t, 40125, denial.Code)
		})
		for range 50 {
			_, err := src.Token(t.Context())
			var cool *wxtoken.CooldownError
			var denial *wxtoken.APIError
			require.ErrorAs(t, err, &cool)
			require.ErrorAs(t, err, &denial)
			require.Equal(t, 40125, denial.Code)
			require.Contains(t, denial.Message, "invalid appsecret rid: ")
			time.Sleep(time.Second / 2)
		}
		assert.LessOrEqual(t, p.Stats().Fetches().Total(), 2)
	})
	bubble(t, "a process with the corrected secret is not blocked", func(t *testing.T) {
		p := wxtest.NewPlatform(wxtest.WithApp("wx1", "right"))
		cache := wxtoken.NewMemoryCache()
		source := func(secret string) *wxtoken.Source {
			return wxtoken.New(wxtoken.NewFetcher("wx1", secret, wxtoken.WithHTTPClient(p.Client())), cache)
		}
		for range 3 {
			_, err := source("wrong").Token(t.Context())
			assert.Error(t, err)
		}
		assert.Equal(t, 1, p.Stats().Fetches().Total(), "three processes with the same wrong secret")
		assert.Equal(t, p.Latest("wx1"), "")
		token(t, source("right"))
		assert.Equal(t, 2, p.Stats().Fetches().Total())
		token(t, source("wrong")) // the shared token serves it
	})
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
			assert.Zero(t, time.Since(start), "nobody waits for what waiting does not fix")
			assert.LessOrEqual(t, cache.gets.Load()+cache.swaps.Load(), int64(6))
		})
	}
}

// The clock of the process that was denied does not decide for the others.
func TestCooldownOfAProcessWithAnotherClock(t *testing.T) {
	bubble(t, "ahead", func(t *testing.T) {
		f, cache := &stub{}, wxtoken.NewMemoryCache()
		put(t, cache, []byte(fmt.Sprintf(`{"v":1,"epoch":"e","seq":0,"cooldown":{"until":%d,"code":45011}}`, time.Now().Add(time.Hour).UnixMilli())))
		src := wxtoken.New(f, cache)
		assert.EqualValues(t, 0, calls(t, src, f, 57*time.Second))
		assert.EqualValues(t, 1, calls(t, src, f, 5*time.Second))
	})
}

// A member is a process of a fleet that asks for the token every so often.
type member struct {
	fetcher wxtoken.Fetcher
	every   time.Duration
	ahead   time.Duration // refresh-ahead: the longer it is, the earlier it tries
}

// without lets a fleet live for d, and returns for how long each member, asking
// as often as it does, had no token.
func without(t *testing.T, cache wxtoken.Cache, d time.Duration, members ...member) []time.Duration {
	lack := make([]time.Duration, len(members))
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	together(len(members), func(i int) {
		m := members[i]
		src := wxtoken.New(m.fetcher, slow(cache, time.Millisecond), wxtoken.WithRefreshAhead(m.ahead))
		time.Sleep(time.Duration(i) * 313 * time.Millisecond)
		for ctx.Err() == nil {
			before := time.Now()
			if _, err := src.Token(t.Context()); err != nil {
				lack[i] += m.every
			}
			time.Sleep(m.every - time.Since(before))
		}
	})
	return lack
}

// One member is sick: its proxy spoils its requests, or its answers. It tries
// first each time, and the others have a token all day.
func TestSickMember(t *testing.T) {
	for name, test := range map[string]struct {
		sick  error
		every time.Duration
		most  time.Duration // that each of the others may be without a token
	}{
		"its proxy drops part of the query":    {&wxtoken.APIError{Code: 41004, Message: "appsecret missing"}, 100 * time.Millisecond, 0},
		"its proxy rewrites the AppID":         {&wxtoken.APIError{Code: 40013, Message: "invalid appid"}, 2 * time.Second, 0},
		"it uses the wrong method":             {&wxtoken.APIError{Code: 43002}, 7 * time.Second, 0},
		"it gets an errcode that nobody knows": {&wxtoken.APIError{Code: 12345}, 300 * time.Millisecond, 0},
		"it has the wrong secret":              {&wxtoken.APIError{Code: 40125}, 100 * time.Millisecond, 0},
		"its address is not on the whitelist":  {&wxtoken.APIError{Code: 40164}, time.Second, 0},
		"its proxy answers 504":                {errors.New("HTTP status 504"), 50 * time.Millisecond, time.Minute},
		"its answers are truncated":            {errors.New("unexpected EOF"), 11 * time.Second, time.Minute},
	} {
		bubble(t, name, func(t *testing.T) {
			good, sick := &stub{latency: 200 * time.Millisecond}, &stub{latency: 30 * time.Millisecond, answer: func(int64) error { return test.sick }}
			var members []member
			for _, every := range []time.Duration{40 * time.Second, 41 * time.Second, 55 * time.Second, 3 * time.Second} {
				members = append(members, member{good, every, 0})
			}
			members = append(members, member{sick, test.every, 8 * time.Minute})
			lack := without(t, wxtoken.NewMemoryCache(), 12*time.Hour, members...)
			for i, d := range lack[:4] {
				assert.LessOrEqual(t, d, test.most/2, "member %d", i)
			}
			assert.Greater(t, sick.fetches.Load(), int64(5), "it tries first")
			assert.LessOrEqual(t, good.fetches.Load()+sick.fetches.Load(), int64(160), "fetches in half a day")
			t.Logf("without a token: %v; %d fetches, %d of the sick one", lack, good.fetches.Load(), sick.fetches.Load())
		})
	}
}

// An hour-long fault of the platform costs few requests, and is soon over.
func TestUnreadableAnswersForHours(t *testing.T) {
	for _, fleet := range []int{1, 4} {
		bubble(t, fmt.Sprint(fleet, " processes"), func(t *testing.T) {
			var repaired atomic.Bool
			f := &stub{latency: 50 * time.Millisecond, answer: func(int64) error {
				if repaired.Load() {
					return nil
				}
				return errors.New("unexpected EOF")
			}}
			cache := wxtoken.NewMemoryCache()
			var srcs []*wxtoken.Source
			for range fleet {
				srcs = append(srcs, wxtoken.New(f, cache))
			}
			ask := func() (ok bool) {
				for _, src := range srcs {
					_, err := src.Token(t.Context())
					ok = ok || err == nil
				}
				time.Sleep(time.Second)
				return ok
			}
			start := time.Now()
			for time.Since(start) < 5*time.Hour {
				require.False(t, ask())
			}
			assert.LessOrEqual(t, f.fetches.Load(), int64(50), "a test account has 200 a day")
			t.Logf("%d fetches in 5 h", f.fetches.Load())
			repaired.Store(true)
			for start = time.Now(); !ask(); {
				require.Less(t, time.Since(start), 11*time.Minute)
			}
		})
	}
	bubble(t, "a fault of seconds is over in seconds", func(t *testing.T) {
		start := time.Now()
		src := wxtoken.New(&stub{answer: func(int64) error {
			if time.Since(start) < 4*time.Second {
				return errors.New("HTTP status 503")
			}
			return nil
		}}, nil)
		for {
			if _, err := src.Token(t.Context()); err == nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		assert.Less(t, time.Since(start), 9*time.Second)
	})
}

// Whatever a Fetcher puts into an APIError, records, logs and errors stay small
// and printable.
func TestDenialsOfAnyShape(t *testing.T) {
	bubble(t, "a message of 3 MB with control characters", func(t *testing.T) {
		cache, l := wxtoken.NewMemoryCache(), &log{}
		f := &stub{answer: func(int64) error {
			return &wxtoken.APIError{Code: 45009, Message: "\x1b[31mquota\n\u202e" + strings.Repeat("密", 1<<20)}
		}}
		src, other := wxtoken.New(f, cache, l.option()), wxtoken.New(f, cache)
		for _, s := range []*wxtoken.Source{src, other} {
			_, err := s.Token(t.Context())
			require.ErrorContains(t, err, " [31mquota 密")
			assert.Less(t, len(err.Error()), 2200)
			assert.NotContains(t, err.Error(), "\x1b")
			assert.NotContains(t, err.Error(), "\u202e")
		}
		raw, err := cache.Get(t.Context(), "wxtoken:stub")
		require.NoError(t, err)
		assert.Less(t, len(raw), 2400)
		for _, e := range l.all() {
			assert.Less(t, len(e.Err.Error()), 2200)
		}
		assert.EqualValues(t, 1, f.fetches.Load())
	})
	bubble(t, "errcode 0 is no denial: a token may have been issued", func(t *testing.T) {
		cache := wxtoken.NewMemoryCache()
		_, err := wxtoken.New(&stub{answer: func(int64) error { return &wxtoken.APIError{Code: 0, Message: "ok"} }}, cache).Token(t.Context())
		assert.Error(t, err)
		assert.EqualValues(t, 2, recordOf(t, cache)["owed"])
	})
}

// A Fetcher that hides which secret it has blocks only its own process.
func TestSecretThatCannotBeTold(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		p := wxtest.NewPlatform(wxtest.WithApp("wx1", "new"))
		cache := wxtoken.NewMemoryCache()
		old := wxtoken.New(struct{ wxtoken.Fetcher }{wxtoken.NewFetcher("wx1", "old", wxtoken.WithHTTPClient(p.Client()))}, cache)
		for range 3 {
			_, err := old.Token(t.Context())
			require.Error(t, err)
			time.Sleep(20 * time.Second)
		}
		token(t, wxtoken.New(wxtoken.NewFetcher("wx1", "new", wxtoken.WithHTTPClient(p.Client())), cache))
		token(t, old)
		assert.Equal(t, 2, p.Stats().Fetches().Total())
	})
}

// A caller without a token waits for another process's fetch, whatever its own
// process or the record has failed at.
func TestCooldownWaitsForAnothersFetch(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		cache := wxtoken.NewMemoryCache()
		f := &stub{answer: func(int64) error { return &wxtoken.APIError{Code: 89507} }}
		denied := wxtoken.New(f, cache)
		_, err := denied.Token(t.Context())
		require.Error(t, err)
		go wxtoken.New(&stub{latency: 4 * time.Second}, cache).Token(t.Context())
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
			f := &stub{lifetime: time.Hour}
			src := wxtoken.New(f, nil, wxtoken.WithRefreshAhead(8*time.Minute))
			token(t, src)
			f.answer = func(n int64) error {
				if n < 4 {
					return err
				}
				return nil
			}
			for start := time.Now(); time.Since(start) < time.Hour; time.Sleep(time.Second) {
				token(t, src) // three failures are over before it expires
			}
			most := int64(4)
			if err.Error() == "EOF" {
				most++ // it settles which token is the latest, unless the token expires first
			}
			assert.GreaterOrEqual(t, f.fetches.Load(), int64(4))
			assert.LessOrEqual(t, f.fetches.Load(), most)
		})
	}
}
