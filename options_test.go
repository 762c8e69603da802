package wxtoken_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/protocol"
)

func TestOptions(t *testing.T) {
	bubble(t, "the durations scale the protocol", func(t *testing.T) {
		f := &countingFetcher{lifetime: 10 * time.Minute}
		cache := &faultyCache{Cache: wxtoken.NewMemoryCache()}
		src := wxtoken.New(f, cache, wxtoken.WithLocalAge(4500*time.Millisecond), wxtoken.WithRefreshAhead(time.Minute))
		token(t, src)
		cache.gets.Store(0)
		use(t, 500*time.Second, time.Second, src)
		assert.InDelta(t, 500/3, cache.gets.Load(), 50, "read again every 3 s")
		assert.EqualValues(t, 1, f.fetches.Load())
		use(t, time.Minute, time.Second, src)
		assert.EqualValues(t, 2, f.fetches.Load())
	})
	bubble(t, "zero and less are the defaults", func(t *testing.T) {
		f := &countingFetcher{}
		src := wxtoken.New(f, nil, wxtoken.WithLocalAge(time.Second), wxtoken.WithRefreshAhead(time.Hour), wxtoken.WithFetchTimeout(1),
			wxtoken.WithLocalAge(0), wxtoken.WithRefreshAhead(-1), wxtoken.WithFetchTimeout(0),
			wxtoken.WithObserver(nil), wxtoken.WithLogger(nil), wxtoken.WithEncryption())
		use(t, 6890*time.Second, 10*time.Second, src)
		assert.EqualValues(t, 1, f.fetches.Load())
		f.block = make(chan struct{})
		require.NoError(t, src.Invalidate(t.Context(), "token-1"))
		before := time.Now()
		_, err := src.Token(t.Context())
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 10*time.Second, time.Since(before))
		close(f.block)
	})
	bubble(t, "refresh-ahead is never more than a quarter of the lifetime", func(t *testing.T) {
		f := &countingFetcher{lifetime: time.Minute}
		src := wxtoken.New(f, nil)
		use(t, 44*time.Second, time.Second, src)
		assert.EqualValues(t, 1, f.fetches.Load())
		use(t, time.Hour, time.Second, src)
		assert.LessOrEqual(t, f.fetches.Load(), int64(3600/30))
	})
	bubble(t, "the prefix keeps applications apart", func(t *testing.T) {
		f, cache := &countingFetcher{}, wxtoken.NewMemoryCache()
		token(t, wxtoken.New(f, cache, wxtoken.WithKeyPrefix("a:")))
		assert.Equal(t, "token-2", token(t, wxtoken.New(f, cache, wxtoken.WithKeyPrefix("b:"))))
	})
	bubble(t, "a bad key is a clear error", func(t *testing.T) {
		f := &countingFetcher{}
		_, err := wxtoken.New(f, nil, wxtoken.WithKeyPrefix("my app:")).Token(t.Context())
		assert.ErrorContains(t, err, "has a space or control byte at offset 2; change WithKeyPrefix")
		assert.Zero(t, f.fetches.Load())
	})
}

func TestOptionsOfAlmostNothingDoNotSpin(t *testing.T) {
	bubble(t, "a fetch timeout of 1 ns ends", func(t *testing.T) {
		start := time.Now()
		_, _ = wxtoken.New(&countingFetcher{}, nil, wxtoken.WithFetchTimeout(1)).Token(t.Context())
		assert.Less(t, time.Since(start), time.Second)
	})
	for _, age := range []time.Duration{1, time.Millisecond} {
		bubble(t, "a local age of "+age.String(), func(t *testing.T) {
			cache := &faultyCache{Cache: wxtoken.NewMemoryCache()}
			src := wxtoken.New(&countingFetcher{}, cache, wxtoken.WithLocalAge(age))
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			assert.ErrorIs(t, src.Run(ctx), context.DeadlineExceeded)
			assert.Less(t, cache.gets.Load(), int64(500), "reads in 2 s")
		})
	}
}

func TestEncryption(t *testing.T) {
	k1, k2 := [32]byte{1}, [32]byte{2}
	type keys = [][32]byte
	for name, test := range map[string]struct {
		first, then keys
		want        string // part of the second process's error; "": it reads the record
	}{
		"the same key":              {keys{k1}, keys{k1}, ""},
		"a key more":                {keys{k1}, keys{k1, k2}, ""},
		"rotated":                   {keys{k1, k2}, keys{k2, k1}, ""},
		"another key":               {keys{k1}, keys{k2}, "give WithEncryption the key that sealed it"},
		"no key":                    {keys{k1}, nil, "give WithEncryption the key that sealed it"},
		"a plain record, and a key": {nil, keys{k1}, "WithPlainRecords"},
	} {
		bubble(t, name, func(t *testing.T) {
			f, cache := &countingFetcher{repeatable: true}, wxtoken.NewMemoryCache()
			token(t, wxtoken.New(f, cache, wxtoken.WithEncryption(test.first...)))
			before := stored(t, cache)
			assert.Equal(t, test.first == nil, strings.Contains(before, "token-1"))
			assert.Equal(t, test.first != nil, strings.Contains(before, `{"v":1,"sealed":"`))
			tok, err := wxtoken.New(f, cache, wxtoken.WithEncryption(test.then...)).Token(t.Context())
			if test.want == "" {
				require.NoError(t, err)
				assert.Equal(t, "token-1", tok.Value)
			} else {
				assert.ErrorContains(t, err, test.want)
			}
			assert.EqualValues(t, 1, f.fetches.Load())
			assert.Equal(t, before, stored(t, cache))
		})
	}
	bubble(t, "WithPlainRecords reads a plain record, and seals it", func(t *testing.T) {
		f, cache := &countingFetcher{}, wxtoken.NewMemoryCache()
		token(t, wxtoken.New(f, cache))
		src := wxtoken.New(f, cache, wxtoken.WithEncryption(k1), wxtoken.WithPlainRecords())
		assert.Equal(t, "token-1", token(t, src))
		age(t)
		require.NoError(t, src.Invalidate(t.Context(), "token-1"))
		assert.Equal(t, "token-2", token(t, src))
		assert.NotContains(t, stored(t, cache), "token-2")
	})
	bubble(t, "a record copied from another app does not open", func(t *testing.T) {
		cache := wxtoken.NewMemoryCache()
		token(t, wxtoken.New(&countingFetcher{key: "-other"}, cache, wxtoken.WithEncryption(k1)))
		other, err := cache.Get(t.Context(), "wxtoken:stub-other")
		require.NoError(t, err)
		put(t, cache, string(other))
		_, err = wxtoken.New(&countingFetcher{}, cache, wxtoken.WithEncryption(k1)).Token(t.Context())
		assert.ErrorContains(t, err, "no key of this process opens it")
	})
}

// One process may have the wrong key, or the wrong version: once the store has lost a
// record that it cannot read, it leaves it to the others to make the next one.
func TestARecordOfOthersThatTheStoreLost(t *testing.T) {
	const waits = 2 * time.Minute
	for name, test := range map[string]struct{ record, want string }{
		"another key":     {`{"v":1,"sealed":"` + strings.Repeat("AAAA", 20) + `"}`, "give WithEncryption the key that sealed it"},
		"a newer version": {`{"v":2,"value":{}}`, "written by a newer wxtoken"},
	} {
		bubble(t, name, func(t *testing.T) {
			f, store := &countingFetcher{}, newSwappable()
			src := wxtoken.New(f, store)
			put(t, store, test.record)
			_, err := src.Token(t.Context())
			require.ErrorContains(t, err, test.want)
			store.lose()
			time.Sleep(waits - time.Second)
			_, err = src.Token(t.Context())
			assert.ErrorContains(t, err, test.want)
			assert.Zero(t, f.fetches.Load())
			_, err = store.Get(t.Context(), "wxtoken:stub")
			assert.ErrorIs(t, err, wxtoken.ErrCacheMiss)
			time.Sleep(5 * time.Second) // the failure is remembered for a moment
			assert.Equal(t, "token-1", token(t, src))
			assert.Equal(t, "token-1", recordOf(t, store)["token"])
		})
	}
}

// tooYoung is a Source whose token is too young to be believed bad, for a while,
// as others were rejected before it.
func tooYoung(t *testing.T, opts ...wxtoken.Option) *wxtoken.Source {
	cache, now := wxtoken.NewMemoryCache(), time.Now()
	put(t, cache, recordWith("x", now, now.Add(time.Hour), `"early":5,`))
	src := wxtoken.New(&countingFetcher{}, cache, opts...)
	token(t, src)
	return src
}

// However often a rejection is reported that is not believed, an Event of each
// kind comes at most once a minute, and says for how many it stands.
func TestIgnoredAndConflictOnceAMinute(t *testing.T) {
	for _, test := range []struct {
		callers, perSecond int
	}{{1, 1}, {5, 50}} {
		bubble(t, fmt.Sprint(test.perSecond, " calls a second"), func(t *testing.T) {
			l := &log{}
			src := tooYoung(t, l.option())
			start := time.Now()
			together(test.callers, func(int) {
				for time.Since(start) < 190*time.Second {
					assert.ErrorContains(t, src.Invalidate(t.Context(), "x"), "another system probably fetches")
					time.Sleep(time.Second * time.Duration(test.callers) / time.Duration(test.perSecond))
				}
			})
			for _, kind := range []wxtoken.EventKind{wxtoken.EventIgnored, wxtoken.EventConflict} {
				n, stands := 0, 0
				for _, e := range l.all() {
					if e.Kind == kind {
						n++
						stands += e.Count
						assert.ErrorContains(t, e.Err, "not believed before it is 5m0s old")
						assert.GreaterOrEqual(t, e.Count, 1)
					}
				}
				assert.Equal(t, 4, n, "%s at 0, 60, 120 and 180 s", kind)
				assert.InDelta(t, 180*test.perSecond, stands, float64(10*test.perSecond), kind)
			}
		})
	}
}

// Each kind has a level, and the protocol calls them by the same names.
func TestEventLevels(t *testing.T) {
	for kind, want := range map[wxtoken.EventKind]slog.Level{
		protocol.Adopt: slog.LevelDebug, wxtoken.EventFetch: slog.LevelInfo,
		protocol.Reject: slog.LevelWarn, wxtoken.EventIgnored: slog.LevelWarn, protocol.Takeover: slog.LevelWarn,
		protocol.LeaseLost: slog.LevelWarn, protocol.Restore: slog.LevelWarn,
		wxtoken.EventConflict: slog.LevelError, wxtoken.EventCacheError: slog.LevelError,
	} {
		assert.Equal(t, want, wxtoken.Event{Kind: kind}.Level(), kind)
	}
	assert.Equal(t, slog.LevelError, wxtoken.Event{Kind: wxtoken.EventFetch, Err: errDown}.Level())
}

// logged is a logger of JSON lines without times, and the lines.
func logged() (wxtoken.Option, func() []string) {
	var out bytes.Buffer
	handler := slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == "time" {
			return slog.Attr{}
		}
		return a
	}})
	return wxtoken.WithLogger(slog.New(handler)), func() []string {
		synctest.Wait()
		return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	}
}

func TestLogLines(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		option, lines := logged()
		f := &countingFetcher{latency: 1234567 * time.Microsecond, lifetime: time.Hour}
		cache := wxtoken.NewMemoryCache()
		src := wxtoken.New(f, cache, option)
		token(t, src)
		require.NoError(t, src.Wait(t.Context()), "Events come when the token has been handed out")
		other := wxtoken.New(f, cache, option)
		token(t, other)
		require.NoError(t, other.Wait(t.Context()))
		f.answer = func(int64) error { return errDown }
		_, err := wxtoken.New(f, nil, option).Token(t.Context())
		require.ErrorIs(t, err, errDown)
		assert.Equal(t, []string{
			`{"level":"INFO","msg":"wxtoken: fetch","key":"wxtoken:stub","duration_ms":1234,"expires_at":"2000-01-01T01:00:00Z"}`,
			`{"level":"DEBUG","msg":"wxtoken: adopt","key":"wxtoken:stub","expires_at":"2000-01-01T01:00:00Z"}`,
			`{"level":"ERROR","msg":"wxtoken: fetch","key":"wxtoken:stub","duration_ms":1234,"error":"connection refused"}`,
		}, lines())
	})
	bubble(t, "a rejection says how old the token was", func(t *testing.T) {
		option, lines := logged()
		src := wxtoken.New(&countingFetcher{}, nil, option)
		token(t, src)
		time.Sleep(1500 * time.Millisecond)
		require.NoError(t, src.Invalidate(t.Context(), "token-1"))
		token(t, src)
		text := strings.Join(lines(), "\n")
		assert.Contains(t, text, `{"level":"WARN","msg":"wxtoken: reject","key":"wxtoken:stub","age_ms":1500,"error":"wxtoken: rejected 2s after its issue`)
		assert.NotContains(t, text, `"count"`)
	})
	bubble(t, "an Event for many says so", func(t *testing.T) {
		option, lines := logged()
		src := tooYoung(t, option)
		for range 5 {
			_ = src.Invalidate(t.Context(), "x")
		}
		time.Sleep(time.Minute)
		_ = src.Invalidate(t.Context(), "x")
		assert.Contains(t, strings.Join(lines(), "\n"), `{"level":"WARN","msg":"wxtoken: ignored","key":"wxtoken:stub","age_ms":60000,"count":5,"error":"wxtoken: an API rejected the token when it was 1m0s old`)
	})
}

// An outage of the cache is one line in the log, however long it lasts, and the
// observer sees each failure.
func TestAnOutageIsLoggedOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		option, lines := logged()
		l := &log{}
		cache, down := breakable(wxtoken.NewMemoryCache())
		src := wxtoken.New(&countingFetcher{}, cache, option, l.option())
		outages := func(d time.Duration) int {
			for start := time.Now(); time.Since(start) < d; time.Sleep(2 * time.Second) {
				_, _ = src.Token(context.Background())
			}
			return strings.Count(strings.Join(lines(), "\n"), "wxtoken: cache_error")
		}
		assert.Equal(t, 0, outages(time.Minute))
		down.Store(true)
		assert.Equal(t, 1, outages(20*time.Minute))
		assert.Greater(t, l.count(wxtoken.EventCacheError), 100)
		down.Store(false)
		assert.Equal(t, 1, outages(time.Minute))
		down.Store(true)
		assert.Equal(t, 2, outages(2*time.Hour), "the token expires in it")
	})
}

func TestAgesOfEvents(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &log{}
		src := wxtoken.New(&countingFetcher{}, nil, l.option())
		token(t, src)
		time.Sleep(700 * time.Millisecond)
		require.Error(t, src.Invalidate(t.Context(), "token-1"))
		time.Sleep(59 * time.Second)
		require.NoError(t, src.Invalidate(t.Context(), "token-1"))
		ages := map[wxtoken.EventKind]time.Duration{}
		for _, e := range l.all() {
			ages[e.Kind] = e.Age
		}
		assert.Equal(t, map[wxtoken.EventKind]time.Duration{
			wxtoken.EventFetch: 0, wxtoken.EventIgnored: 700 * time.Millisecond, wxtoken.EventReject: 59700 * time.Millisecond,
		}, ages)
	})
}

func TestCountBeginsAnew(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &log{}
		src := tooYoung(t, l.option())
		counts := func(n int, after time.Duration) (counts []int) {
			for range n {
				_ = src.Invalidate(t.Context(), "x")
			}
			time.Sleep(after)
			for _, e := range l.all() {
				if e.Kind == wxtoken.EventIgnored {
					counts = append(counts, e.Count)
				}
			}
			return counts
		}
		assert.Equal(t, []int{1}, counts(7, time.Minute))
		assert.Equal(t, []int{1, 7}, counts(3, time.Minute))
		assert.Equal(t, []int{1, 7, 3}, counts(1, 0))
		for _, e := range l.all() {
			if e.Kind != wxtoken.EventIgnored && e.Kind != wxtoken.EventConflict {
				assert.Equal(t, 1, e.Count)
			}
		}
	})
}
