package wxtoken_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/bridge"
	"github.com/wxtoken/wxtoken/internal/endpoint"
	"github.com/wxtoken/wxtoken/wxtest"
)

// With the 8 bytes of the allocator's own, that is its size class of 896 bytes; the next
// is 1,024.
func TestSizeOfASource(t *testing.T) {
	assert.LessOrEqual(t, reflect.TypeFor[wxtoken.Source]().Size(), uintptr(888))
}

func TestThousandColdCallersMakeOneFetch(t *testing.T) {
	for _, latency := range []time.Duration{80 * time.Millisecond, 3 * time.Second} {
		bubble(t, latency.String(), func(t *testing.T) {
			f := &countingFetcher{latency: latency}
			srcs := processes(4, f, wxtoken.NewMemoryCache())
			start := time.Now()
			var worst atomic.Int64
			together(1000, func(i int) {
				tok, err := srcs[i%4].Token(t.Context())
				assert.NoError(t, err)
				assert.Equal(t, "token-1", tok.Value)
				worst.Store(max(worst.Load(), int64(time.Since(start))))
			})
			assert.EqualValues(t, 1, f.fetches.Load())
			assert.LessOrEqual(t, time.Duration(worst.Load()), f.latency+20*time.Millisecond, "the other processes look that often")
		})
	}
}

func TestWaiterLeavesAtItsDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &countingFetcher{latency: time.Second}
		src := wxtoken.New(f, nil)
		go src.Token(context.Background())
		synctest.Wait()

		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := src.Token(ctx)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 20*time.Millisecond, time.Since(start))
	})
}

func TestOthersGoOnWhenTheFirstCallerIsCancelled(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &countingFetcher{latency: time.Second}
		src := wxtoken.New(f, nil)
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error)
		go func() {
			_, err := src.Token(ctx)
			first <- err
		}()
		synctest.Wait()
		cancel()
		assert.ErrorIs(t, <-first, context.Canceled)
		assert.Equal(t, "token-1", token(t, src))
		assert.EqualValues(t, 1, f.fetches.Load())
	})
}

func TestEndedContextStillGetsTheCopy(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &countingFetcher{}
		src := wxtoken.New(f, nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := src.Token(ctx)
		assert.ErrorIs(t, err, context.Canceled)
		synctest.Wait()
		assert.Zero(t, f.fetches.Load(), "a caller whose ctx has ended starts no fetch")

		token(t, src)
		tok, err := src.Token(ctx)
		assert.NoError(t, err)
		assert.Equal(t, "token-1", tok.Value)
	})
}

func TestRefreshIsSeamless(t *testing.T) {
	for latency, every := range map[time.Duration]time.Duration{300 * time.Millisecond: time.Second, 3 * time.Second: time.Minute} {
		bubble(t, fmt.Sprintf("fetches take %s, a call every %s", latency, every), func(t *testing.T) {
			f := &countingFetcher{latency: latency}
			src := wxtoken.New(f, nil)
			token(t, src)
			assert.Zero(t, use(t, 20*time.Hour, every, src), "callers who waited")
			assert.InDelta(t, 10.4, f.fetches.Load()-1, 0.5, "12.5 fetches a day")
		})
	}
}

func TestSteadyStateReadsTheCacheTwiceAMinute(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cache := &faultyCache{Cache: wxtoken.NewMemoryCache()}
		src := wxtoken.New(&countingFetcher{}, cache)
		token(t, src)
		cache.gets.Store(0)
		cache.swaps.Store(0)
		use(t, time.Hour, time.Second, src)
		assert.LessOrEqual(t, cache.gets.Load()+cache.swaps.Load(), int64(60*5/2))
	})
}

func TestOtherProcessesAdoptARefreshWithinTheLocalAge(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f, cache := &countingFetcher{}, wxtoken.NewMemoryCache()
		a, b := wxtoken.New(f, cache), wxtoken.New(f, cache)
		token(t, a)
		time.Sleep(time.Minute)
		use(t, 110*time.Minute, time.Minute, b)
		require.Equal(t, "token-1", token(t, b))
		time.Sleep(46 * time.Second)
		require.NoError(t, a.Invalidate(t.Context(), "token-1"))
		require.Equal(t, "token-2", token(t, a))
		time.Sleep(46 * time.Second)
		assert.Equal(t, "token-2", token(t, b))
		assert.EqualValues(t, 2, f.fetches.Load())
	})
}

func TestRunKeepsTheTokenFresh(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := &countingFetcher{latency: 50 * time.Millisecond, answer: failBetween(3, 3, &wxtoken.APIError{Code: -1})}
		src := wxtoken.New(f, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- src.Run(ctx) }()
		time.Sleep(30 * time.Minute)
		assert.Zero(t, use(t, 24*time.Hour, 30*time.Minute, src), "callers who waited")
		assert.InDelta(t, 13, f.fetches.Load(), 1)
		cancel()
		assert.ErrorIs(t, <-ended, context.Canceled)
	})
}

// A panicsIfNil error panics when it is looked at and is nil.
type panicsIfNil struct{ text string }

func (f *panicsIfNil) Error() string { return f.text }

func TestAFetcherOrCacheThatMisbehavesBlocksNobody(t *testing.T) {
	var release chan struct{}
	for name, misbehave := range map[string]func() error{
		"panics":                          func() error { panic("secret") },
		"panics by the runtime":           func() error { var list []int; list[len(list)]++; return nil },
		"ends its goroutine":              func() error { runtime.Goexit(); return nil },
		"never returns":                   func() error { <-release; return nil },
		"has an error that panics":        func() error { return (*panicsIfNil)(nil) },
		"has a nil *APIError as error":    func() error { return (*wxtoken.APIError)(nil) },
		"has a nil *APIError in an error": func() error { return fmt.Errorf("fetching: %w", (*wxtoken.APIError)(nil)) },
	} {
		// tries checks what ten callers get from src in ten seconds.
		tries := func(t *testing.T, src *wxtoken.Source, want string) {
			start := time.Now()
			together(10, func(int) {
				_, err := src.Token(t.Context())
				assert.ErrorContains(t, err, want)
				assert.NotContains(t, err.Error(), "secret")
				assert.Equal(t, name == "never returns", errors.Is(err, context.DeadlineExceeded))
			})
			assert.LessOrEqual(t, time.Since(start), 10*time.Second)
			close(release)
		}
		bubble(t, "the fetcher "+name, func(t *testing.T) {
			release = make(chan struct{})
			f := &countingFetcher{answer: func(n int64) error {
				if n == 1 {
					return misbehave()
				}
				return nil
			}}
			src := wxtoken.New(f, nil, wxtoken.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
			tries(t, src, "Fetcher")
			time.Sleep(10 * time.Second) // the cooldown of a fetch without an answer
			assert.Equal(t, "token-2", token(t, src))
		})
		bubble(t, "the cache "+name, func(t *testing.T) {
			release = make(chan struct{})
			var repaired atomic.Bool
			cache := &faultyCache{Cache: wxtoken.NewMemoryCache(), get: func(context.Context) error {
				if !repaired.Load() {
					return misbehave()
				}
				return nil
			}}
			src := wxtoken.New(&countingFetcher{}, cache)
			tries(t, src, wxtoken.ErrCacheUnavailable.Error())
			repaired.Store(true)
			time.Sleep(time.Second)
			token(t, src)
		})
	}
}

func TestWait(t *testing.T) {
	bubble(t, "a program that ends soon publishes what it fetched", func(t *testing.T) {
		f, cache := &countingFetcher{latency: 3 * time.Second}, wxtoken.NewMemoryCache()
		src := wxtoken.New(f, slow(cache, 3*time.Millisecond))
		for start := time.Now(); f.fetches.Load() < 2; time.Sleep(time.Second) {
			require.Less(t, time.Since(start), 2*time.Hour)
			require.Equal(t, "token-1", token(t, src))
		}
		require.Equal(t, "token-1", token(t, src), "it is replaced in the background")
		require.Contains(t, recordOf(t, cache), "lease")
		require.NoError(t, src.Wait(t.Context()))
		assert.Equal(t, "token-2", recordOf(t, cache)["token"])
		assert.NotContains(t, recordOf(t, cache), "lease")
	})
	for _, latency := range []time.Duration{0, 1500 * time.Millisecond, 4 * time.Second} {
		bubble(t, fmt.Sprint("also without Wait, a caller has no token before the others, after ", latency), func(t *testing.T) {
			cache := wxtoken.NewMemoryCache()
			src := wxtoken.New(&countingFetcher{latency: latency}, slow(cache, 3*time.Millisecond))
			require.Equal(t, "token-1", token(t, src))
			assert.Equal(t, "token-1", recordOf(t, cache)["token"])
		})
	}
	bubble(t, "an idle Source returns at once, whatever ctx says, and starts nothing", func(t *testing.T) {
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		f, cache := &countingFetcher{}, &faultyCache{Cache: wxtoken.NewMemoryCache()}
		src := wxtoken.New(f, cache)
		assert.NoError(t, src.Wait(ended))
		assert.Zero(t, cache.gets.Load()+f.fetches.Load())
		token(t, src)
		require.NoError(t, src.Wait(t.Context()))
		time.Sleep(3 * time.Hour)
		gets := cache.gets.Load()
		assert.NoError(t, src.Wait(ended))
		assert.Equal(t, gets, cache.gets.Load())
		assert.EqualValues(t, 1, f.fetches.Load())
	})
	bubble(t, "it ends with ctx, and what is under way goes on", func(t *testing.T) {
		f, cache := &countingFetcher{latency: 3 * time.Second}, wxtoken.NewMemoryCache()
		src := wxtoken.New(f, cache)
		go src.Token(context.Background())
		synctest.Wait()
		cause := errors.New("the machine shuts down")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, cause)
		defer cancel()
		start := time.Now()
		assert.ErrorIs(t, src.Wait(ctx), cause)
		assert.Equal(t, 2*time.Second, time.Since(start))
		assert.NoError(t, src.Wait(t.Context()))
		assert.Equal(t, 3*time.Second, time.Since(start))
		assert.Equal(t, "token-1", recordOf(t, cache)["token"])
	})
	bubble(t, "the Events are delivered, also while another flight is under way", func(t *testing.T) {
		var delivered atomic.Int64
		f := &countingFetcher{latency: 50 * time.Millisecond}
		src := wxtoken.New(f, nil, wxtoken.WithObserver(func(wxtoken.Event) {
			time.Sleep(5 * time.Second)
			delivered.Add(1)
		}))
		token(t, src)
		require.NoError(t, src.Wait(t.Context()))
		assert.EqualValues(t, 1, delivered.Load())
		require.NoError(t, src.Invalidate(t.Context(), "token-1"))
		token(t, src)
		start := time.Now()
		require.NoError(t, src.Wait(t.Context()))
		assert.EqualValues(t, 3, delivered.Load(), "of the rejection and of the fetch")
		assert.Less(t, time.Since(start), 6*time.Second)
	})
	bubble(t, "an observer may ask for the token, and may end its goroutine, as a test's FailNow does", func(t *testing.T) {
		var src *wxtoken.Source
		var seen string
		src = wxtoken.New(&countingFetcher{}, nil, wxtoken.WithObserver(func(wxtoken.Event) {
			seen = token(t, src)
			runtime.Goexit()
		}))
		token(t, src)
		require.NoError(t, src.Wait(t.Context()))
		assert.Equal(t, "token-1", seen)
	})
	bubble(t, "a caller of Invalidate leaves with its ctx, and the rejection reaches the record", func(t *testing.T) {
		cache := wxtoken.NewMemoryCache()
		src := wxtoken.New(&countingFetcher{}, slow(cache, 70*time.Millisecond))
		token(t, src)
		age(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		start := time.Now()
		require.ErrorIs(t, src.Invalidate(ctx, "token-1"), context.DeadlineExceeded)
		require.Equal(t, time.Millisecond, time.Since(start))
		require.NoError(t, src.Wait(t.Context()))
		assert.Equal(t, true, recordOf(t, cache)["rejected"])
	})
}

// What must not be nil or empty says so where it is made.
func TestConstructorsPanic(t *testing.T) {
	var unset *redis.Client // a global that main was to set
	for want, call := range map[string]func(){
		"New: nil Fetcher; pass NewFetcher(appID, secret)":                                        func() { wxtoken.New(nil, nil) },
		"FetcherFunc with a nil function":                                                         func() { wxtoken.FetcherFunc("mine", nil) },
		"Repeatable with a nil Fetcher":                                                           func() { wxtoken.Repeatable(nil) },
		"NewTicketFetcher: nil Source; pass the one that keeps the app's access token":            func() { wxtoken.NewTicketFetcher(nil, "jsapi") },
		"NewMemcachedCache: the client is nil":                                                    func() { wxtoken.NewMemcachedCache(nil) },
		"NewRedisCache: the client is nil":                                                        func() { wxtoken.NewRedisCache(unset) },
		"NewFileCache: dir is empty; pass a directory that stays, such as /var/lib/myapp/wxtoken": func() { wxtoken.NewFileCache("") },
	} {
		assert.PanicsWithValue(t, "wxtoken: "+want, call)
	}
}

// Peek must say what a call of Token at the same moment does, whatever happened
// before, and must leave no trace.
func TestPeekAgreesWithToken(t *testing.T) {
	for seed := range uint64(6) {
		bubbles(t, fmt.Sprint("seed ", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			var busy atomic.Bool
			var latency atomic.Int64
			latency.Store(int64(5 * time.Millisecond))
			f := &countingFetcher{latency: 40 * time.Millisecond, lifetime: 20 * time.Minute, repeatable: seed%2 == 1}
			f.answer = func(int64) error {
				if busy.Load() {
					return &wxtoken.APIError{Code: 45009}
				}
				return nil
			}
			cache, down := breakable(wxtoken.NewMemoryCache())
			fails := cache.get
			cache.get = func(ctx context.Context) error {
				select {
				case <-time.After(time.Duration(latency.Load())):
					return fails(ctx)
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			cache.swap = cache.get
			src := wxtoken.New(f, cache)
			did := func() int64 { return cache.gets.Load() + cache.swaps.Load() + f.fetches.Load() }
			last, agreed := "", map[bool]int{}
			for range 1500 {
				switch random.IntN(12) {
				case 0:
					down.Store(!down.Load())
				case 1:
					busy.Store(!busy.Load())
				case 2:
					latency.Store(int64([]time.Duration{time.Millisecond, 1100 * time.Millisecond, 3 * time.Second}[random.IntN(3)]))
				case 3:
					go src.Invalidate(context.Background(), last)
				case 4:
					go src.Token(context.Background())
				}
				time.Sleep([]time.Duration{0, 7 * time.Millisecond, 1500 * time.Millisecond, 33 * time.Second, 4 * time.Minute}[random.IntN(5)])
				synctest.Wait()
				before := did()
				peeked, ok := src.Peek()
				synctest.Wait()
				require.Equal(t, before, did(), "Peek started something")

				start := time.Now()
				tok, err := src.Token(t.Context())
				require.Equal(t, err == nil && time.Since(start) == 0, ok, "Token took %s, %v", time.Since(start), err)
				require.True(t, !ok || tok == peeked)
				last = tok.Value
				agreed[ok]++
			}
			assert.Greater(t, agreed[true], 100)
			assert.Greater(t, agreed[false], 100)
		})
	}
}

// With -race: all that can be called at once is, while the secret changes.
func TestEverythingAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := wxtest.NewPlatform(wxtest.WithApp("wx1", "right"), wxtest.WithLifetime(time.Minute))
		var right atomic.Bool
		f := wxtoken.NewFetcher("wx1", "", wxtoken.WithHTTPClient(p.Client()),
			wxtoken.WithSecretFunc(func(context.Context) (string, error) {
				if right.Load() {
					return "right", nil
				}
				return "wrong", nil
			}))
		cache, ready := &faultyCache{Cache: wxtoken.NewMemoryCache()}, make(chan struct{})
		cache.get = func(context.Context) error {
			time.Sleep(time.Millisecond)
			if cache.gets.Load()%7 == 0 {
				return errDown
			}
			return nil
		}
		var src *wxtoken.Source
		src = wxtoken.New(f, cache, wxtoken.WithLocalAge(time.Second), wxtoken.WithObserver(func(wxtoken.Event) {
			<-ready
			src.Peek()
			_ = src.Invalidate(t.Context(), "unknown")
		}))
		close(ready)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		go func() { _ = src.Run(ctx) }()
		together(6, func(i int) {
			for n := 0; ctx.Err() == nil; n++ {
				right.Store(n%300 > 100)
				short, cancel := context.WithTimeout(ctx, time.Duration(i)*10*time.Millisecond)
				tok, _ := src.Token(short)
				_ = src.Invalidate(short, []string{tok.Value, fmt.Sprint("unknown", n), ""}[n%3])
				_ = src.Wait(short)
				cancel()
				time.Sleep(time.Duration(i+1) * 70 * time.Millisecond)
			}
		})
	})
}

// A Source that was used and dropped is garbage at once, whatever its timer still
// has to do: an application may make one for each of very many apps.
func TestDroppedSourcesAreCollected(t *testing.T) {
	var sources [3000]weak.Pointer[wxtoken.Source] // so many that what else the heap has does not count
	before := heap()
	for i := range sources {
		s := wxtoken.New(fixed(fmt.Sprint("app", i), "t"), nil, wxtoken.WithLocalAge(24*time.Hour))
		token(t, s)
		require.NoError(t, s.Wait(t.Context()))
		sources[i] = weak.Make(s)
	}
	alive := func(s weak.Pointer[wxtoken.Source]) bool { return s.Value() != nil }
	require.Eventually(t, func() bool {
		runtime.GC()
		return !slices.ContainsFunc(sources[:], alive)
	}, 20*time.Second, 10*time.Millisecond)
	left := (heap() - before) / int64(len(sources))
	assert.Less(t, left, int64(1024), "bytes that are left of each, until its timer fires")
}

// A copy of an hour ago is not handed out because the cache is slow to answer: it
// may have been superseded long since. One of a moment ago is.
func TestOldCopyAndASlowCache(t *testing.T) {
	for age, stale := range map[time.Duration]bool{70 * time.Minute: false, 4 * time.Minute: false, 3 * time.Minute: true} {
		bubble(t, age.String(), func(t *testing.T) {
			f, store := &countingFetcher{}, wxtoken.NewMemoryCache()
			latency := time.Millisecond
			cache := &faultyCache{Cache: store, get: func(context.Context) error { time.Sleep(latency); return nil }}
			src, other := wxtoken.New(f, cache), wxtoken.New(f, store)
			token(t, src)
			time.Sleep(11 * time.Second)
			require.NoError(t, other.Invalidate(t.Context(), "token-1"))
			require.Equal(t, "token-2", token(t, other))
			time.Sleep(age - 11*time.Second)
			latency = 1700 * time.Millisecond
			before := time.Now()
			if stale {
				assert.Equal(t, "token-1", token(t, src), "superseded tokens live for five minutes")
				assert.Equal(t, time.Second, time.Since(before))
				return
			}
			assert.Equal(t, "token-2", token(t, src))
			assert.Equal(t, latency, time.Since(before))
		})
	}
	bubble(t, "if the cache fails, an old copy is all there is", func(t *testing.T) {
		cache, down := breakable(wxtoken.NewMemoryCache())
		src := wxtoken.New(&countingFetcher{}, cache)
		token(t, src)
		time.Sleep(110 * time.Minute)
		down.Store(true)
		assert.Equal(t, "token-1", token(t, src))
		cache.get = hang
		time.Sleep(5 * time.Minute)
		before := time.Now()
		assert.Equal(t, "token-1", token(t, src))
		assert.LessOrEqual(t, time.Since(before), 2*time.Second)
	})
}

// A countsWaits context counts how often somebody waits for its end.
type countsWaits struct {
	context.Context
	times atomic.Int64
}

func (a *countsWaits) Done() <-chan struct{} { a.times.Add(1); return a.Context.Done() }

func TestWaitersSleepUntilThereIsAToken(t *testing.T) {
	bubble(t, "for the lease of a dead process", func(t *testing.T) {
		cache := wxtoken.NewMemoryCache()
		put(t, cache, `{"v":1,"epoch":"e","seq":1,"lease":"of a process that died"}`)
		src := wxtoken.New(&countingFetcher{}, cache)
		ctx, start := &countsWaits{Context: t.Context()}, time.Now()
		together(1000, func(int) {
			_, err := src.Token(ctx)
			assert.NoError(t, err)
		})
		assert.Greater(t, time.Since(start), 11*time.Second)
		assert.Less(t, ctx.times.Load(), int64(3*1000), "wakeups of a thousand callers")
	})
}

// A caller who comes while the first token is being published waits for that as
// well: a program that ends with an unpublished token leaves the others without.
func TestCallersDuringThePublication(t *testing.T) {
	for _, latency := range []time.Duration{50 * time.Millisecond, 1900 * time.Millisecond, 3 * time.Second} {
		for _, swap := range []time.Duration{3 * time.Millisecond, 300 * time.Millisecond} {
			bubble(t, fmt.Sprint(latency, " for the fetch, ", swap, " for a swap"), func(t *testing.T) {
				cache := wxtoken.NewMemoryCache()
				src := wxtoken.New(&countingFetcher{latency: latency}, slow(cache, swap))
				published := func() any { return recordOf(t, cache)["token"] }
				together(300, func(i int) {
					time.Sleep(time.Duration(i) * 20 * time.Millisecond)
					if i == 0 {
						token(t, src)
						return
					}
					if tok, ok := src.Peek(); ok {
						assert.Equal(t, tok.Value, published(), "Peek")
					}
					tok, err := src.Token(t.Context())
					assert.NoError(t, err)
					assert.Equal(t, tok.Value, published())
				})
			})
		}
	}
}

// A server that starts shortly before the token expires takes no lease yet, and
// must not sleep beyond the expiry: it would be without a token until called.
func TestRunStartsBeforeTheExpiry(t *testing.T) {
	for _, left := range []time.Duration{3 * time.Second, 10 * time.Second, 20 * time.Second, 28 * time.Second} {
		bubble(t, left.String(), func(t *testing.T) {
			f, cache := &countingFetcher{latency: 500 * time.Millisecond}, wxtoken.NewMemoryCache()
			token(t, wxtoken.New(f, cache))
			time.Sleep(2*time.Hour - left)
			src := wxtoken.New(f, cache)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go src.Run(ctx)
			without := 0
			for range 2400 {
				time.Sleep(50 * time.Millisecond)
				if _, ok := src.Peek(); !ok {
					without++
				}
			}
			require.EqualValues(t, 2, f.fetches.Load())
			assert.LessOrEqual(t, time.Duration(without)*50*time.Millisecond, time.Second, "without a token")
		})
	}
}

// The fast path of Token looks at nothing but an atomic pointer. It ends after five
// minutes, so that what is left of a dropped Source is soon gone, and 10 ms before
// the token expires, as the timer that ends it may be late.
func TestFastPathEndsInTime(t *testing.T) {
	for name, test := range map[string]struct {
		lifetime, ahead time.Duration
		fast, slow      time.Duration // after a look at the record: still fast, no longer
	}{
		"after five minutes": {2 * time.Hour, 5 * time.Minute, 5*time.Minute - time.Second, 5 * time.Minute},
		"before the expiry":  {time.Minute, time.Nanosecond, time.Minute - 20*time.Millisecond, time.Minute - 5*time.Millisecond},
	} {
		bubble(t, name, func(t *testing.T) {
			f := &gated{countingFetcher: countingFetcher{lifetime: test.lifetime}}
			src := wxtoken.New(f, nil, wxtoken.WithLocalAge(24*time.Hour), wxtoken.WithRefreshAhead(test.ahead))
			fast := func() bool { // the gate is looked at on every other path
				before := f.looks.Load()
				token(t, src)
				return f.looks.Load() == before
			}
			require.False(t, fast())
			require.NoError(t, src.Wait(t.Context()))
			time.Sleep(test.fast)
			assert.True(t, fast())
			time.Sleep(test.slow - test.fast)
			synctest.Wait()
			assert.False(t, fast())
		})
	}
}

// A gated Fetcher has a gate that the test moves.
type gated struct {
	countingFetcher
	revision atomic.Uint64
	closed   atomic.Pointer[error]
	looks    atomic.Int64 // calls of Gate
	hold     func()       // if not nil, called by each; the lock of the Source is held
}

func (g *gated) Gate() (bridge.Revision, error) {
	g.looks.Add(1)
	if g.hold != nil {
		g.hold()
	}
	if err := g.closed.Load(); err != nil {
		return bridge.Revision(g.revision.Load()), *err
	}
	return bridge.Revision(g.revision.Load()), nil
}

func TestANewRevisionEndsThisProcessesCooldown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
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
	inBubble(t, func(t *testing.T) {
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

func TestFastPathTakesNoLock(t *testing.T) {
	f, held, release := &gated{}, make(chan struct{}), make(chan struct{})
	src := wxtoken.New(f, nil)
	want := token(t, src)
	require.NoError(t, src.Wait(t.Context()))
	f.hold = sync.OnceFunc(func() { close(held); <-release })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- src.Run(ctx) }()
	<-held
	got := make(chan [2]string, 1)
	go func() {
		peeked, _ := src.Peek()
		tok, _ := src.Token(context.Background())
		got <- [2]string{peeked.Value, tok.Value}
	}()
	select {
	case values := <-got:
		assert.Equal(t, [2]string{want, want}, values)
	case <-time.After(10 * time.Second):
		t.Error("Peek or Token waits for the lock")
	}
	cancel()
	close(release)
	<-ended
}

// A token at hand costs no allocation, and less than it costs to read the clock.
// On an idle machine it is a tenth to a quarter of that; a read of the clock on the
// way would make it more than the whole. Both sides are measured here, in turn, and
// the best of many short rounds counts, so that neither another machine nor a busy
// one matters.
func TestGuardHotPath(t *testing.T) {
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("the race detector makes it meaningless: make test runs it without, too")
	}
	ctx := context.Background()
	src := wxtoken.New(&countingFetcher{}, nil)
	token := func() {
		if tok, err := src.Token(ctx); err != nil || tok.Value == "" {
			panic("no token")
		}
	}
	token()
	assert.Zero(t, testing.AllocsPerRun(1000, token), "allocations of Token with a token at hand")

	if runtime.GOOS == "windows" {
		t.Skip("the clock is a load from memory here, and no measure for anything")
	}

	var held atomic.Pointer[wxtoken.Token]
	held.Store(&wxtoken.Token{Value: "token", ExpiresAt: time.Now().Add(time.Hour)})
	clock := func() {
		if !held.Load().Valid() {
			panic("not valid")
		}
	}
	for _, goroutines := range []int{1, runtime.GOMAXPROCS(0)} {
		ours, floor := math.Inf(1), math.Inf(1)
		for round := 0; round < 20 || ours > 0.7*floor && round < 400; round++ {
			ours = min(ours, timePerCall(goroutines, token))
			floor = min(floor, timePerCall(goroutines, clock))
		}
		t.Logf("%d goroutines: %.1f ns, a load and a look at the clock %.1f ns, ratio %.2f", goroutines, ours, floor, ours/floor)
		require.LessOrEqual(t, ours, 0.7*floor, "Token on %d goroutines, beside a load and a look at the clock: see bench/", goroutines)
	}
}

// timePerCall has each goroutine call fn 5,000 times, and returns ns per call.
func timePerCall(goroutines int, fn func()) float64 {
	const calls = 5000
	start := time.Now()
	together(goroutines, func(int) {
		for range calls {
			fn()
		}
	})
	return float64(time.Since(start)) / float64(calls*goroutines)
}

// Callers do not lose patience over a pause of the process, in which the flight stood
// still as well: they wait for the record, and do not get an old copy. The process that
// stands still is another run of this test, and says when it reads the record. It also
// says when a busy machine stopped it too late, or gave it no time afterwards: then
// patience was lost without a pause, and it is run again.
func TestPatienceOutlastsAPause(t *testing.T) {
	const paused, tooLate = "WXTOKEN_TEST_PAUSED", "too late"
	if os.Getenv(paused) == "" {
		t.Parallel()
		stop, err := exec.LookPath("kill")
		if err != nil {
			t.Skip(err)
		}
		said := tooLate
		for try := 0; strings.Contains(said, tooLate); try++ {
			require.Less(t, try, 20, "the machine is too busy each time")
			cmd := exec.Command(os.Args[0], "-test.run=^TestPatienceOutlastsAPause$")
			cmd.Env = append(os.Environ(), paused+"=1")
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			_, err = io.ReadFull(out, make([]byte, len("reading")))
			require.NoError(t, err)
			require.NoError(t, exec.Command(stop, "-STOP", fmt.Sprint(cmd.Process.Pid)).Run())
			time.Sleep(1500 * time.Millisecond)
			require.NoError(t, exec.Command(stop, "-CONT", fmt.Sprint(cmd.Process.Pid)).Run())
			all, err := io.ReadAll(out)
			require.NoError(t, err)
			said = string(all)
			require.NoError(t, cmd.Wait(), said)
		}
		return
	}
	const patience = 500 * time.Millisecond
	var stopped, resumed time.Time
	var armed atomic.Bool
	over := make(chan struct{})
	f, store := &countingFetcher{}, wxtoken.NewMemoryCache()
	cache := &faultyCache{Cache: store, get: func(context.Context) error {
		if armed.Swap(false) {
			fmt.Print("reading")
			for stopped, resumed = time.Now(), time.Now(); resumed.Sub(stopped) < time.Second; resumed = time.Now() {
				stopped = resumed // the last look at the clock before the next
				time.Sleep(time.Millisecond)
			}
			close(over)
		}
		time.Sleep(30 * time.Millisecond) // the timer of patience goes first, now that it is late
		return nil
	}}
	src := wxtoken.New(f, cache, wxtoken.WithLocalAge(time.Millisecond), wxtoken.WithFetchTimeout(10*patience))
	other := wxtoken.New(f, store, wxtoken.WithFetchTimeout(10*patience))
	require.Equal(t, "token-1", token(t, src))
	time.Sleep(patience + 100*time.Millisecond)
	require.NoError(t, other.Invalidate(t.Context(), "token-1"))
	require.Equal(t, "token-2", token(t, other))
	require.NoError(t, src.Wait(t.Context()))
	armed.Store(true)
	start := time.Now()
	got := token(t, src)
	returned := time.Now()
	<-over
	if stopped.Sub(start) > patience/2 || returned.Sub(resumed) > patience/2 {
		fmt.Print(tooLate)
		return
	}
	assert.Equal(t, "token-2", got)
}

// The zero Source says what is wrong with it, and blames neither cache nor platform.
func TestZeroSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const want = "this Source comes from no constructor; make it with New"
		began := time.Now()
		var src wxtoken.Source
		_, err := src.Token(t.Context())
		assert.EqualError(t, err, "wxtoken: "+want)
		assert.EqualError(t, src.Invalidate(t.Context(), "a token"), "wxtoken: "+want)
		assert.EqualError(t, src.Run(t.Context()), "wxtoken: "+want)
		_, ok := src.Peek()
		assert.False(t, ok)
		assert.NoError(t, src.Wait(t.Context()))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://api.weixin.qq.com/cgi-bin/get_api_domain_ip", nil)
		assert.NoError(t, err)
		_, err = (&wxtoken.Transport{Source: &src}).RoundTrip(req)
		assert.ErrorContains(t, err, want)
		assert.PanicsWithValue(t, "wxtoken: "+want, func() { wxtoken.NewTicketFetcher(&src, "jsapi") })
		assert.Zero(t, time.Since(began))
	})
}

// What a failed fetch leaves in the record names the member, without what its
// arguments and proxy hold: the name depends on the secret, and is no plain hash.
func TestTheNameOfAMemberIsKeyedByTheSecret(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://user:hunter2@proxy.example:3128")
	name := func(t *testing.T, secret string) string {
		platform := wxtest.NewPlatform(wxtest.WithApp("wx1", secret))
		platform.Inject(wxtest.Busy().On(wxtest.TokenCalls))
		cache := wxtoken.NewMemoryCache()
		src := wxtoken.New(wxtoken.NewFetcher("wx1", secret, wxtoken.WithHTTPClient(platform.Client())), cache)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := src.Token(ctx)
		require.Error(t, err)
		require.NoError(t, src.Wait(t.Context()))
		raw, err := cache.Get(t.Context(), "wxtoken:token:"+"wx1")
		require.NoError(t, err)
		require.NotContains(t, string(raw), "hunter2")
		var r struct{ Cooldown struct{ Member string } }
		require.NoError(t, json.Unmarshal(raw, &r))
		require.NotEmpty(t, r.Cooldown.Member, string(raw))
		return r.Cooldown.Member
	}
	inBubble(t, func(t *testing.T) {
		a := name(t, "0123456789abcdef0123456789abcdef")
		assert.Equal(t, a, name(t, "0123456789abcdef0123456789abcdef"), "the next process of the member has the same")
		assert.NotEqual(t, a, name(t, "fedcba9876543210fedcba9876543210"))
	})
}
