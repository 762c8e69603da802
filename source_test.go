package wxtoken_test

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

func TestThousandColdCallersMakeOneFetch(t *testing.T) {
	for _, latency := range []time.Duration{80 * time.Millisecond, 3 * time.Second} {
		bubble(t, latency.String(), func(t *testing.T) {
			f := &stub{latency: latency}
			cache := wxtoken.NewMemoryCache()
			// Four Sources stand for four processes.
			var srcs []*wxtoken.Source
			for range 4 {
				srcs = append(srcs, wxtoken.New(f, cache))
			}
			start := time.Now()
			var worst atomic.Int64
			together(1000, func(i int) {
				tok, err := srcs[i%4].Token(t.Context())
				assert.NoError(t, err)
				assert.Equal(t, "token-1", tok.Value)
				worst.Store(max(worst.Load(), int64(time.Since(start))))
			})
			assert.EqualValues(t, 1, f.fetches.Load())
			took := time.Duration(worst.Load())
			assert.LessOrEqual(t, took, f.latency+20*time.Millisecond, "the other processes look that often")
			t.Logf("last caller served %s after the platform's answer", took-f.latency)
		})
	}
}

func TestWaiterLeavesAtItsDeadline(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		f := &stub{latency: time.Second}
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
	bubble(t, "", func(t *testing.T) {
		f := &stub{latency: time.Second}
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
	bubble(t, "", func(t *testing.T) {
		f := &stub{}
		src := wxtoken.New(f, nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := src.Token(ctx)
		assert.ErrorIs(t, err, context.Canceled)
		assert.Zero(t, f.fetches.Load(), "a caller whose ctx has ended starts no fetch")

		token(t, src)
		tok, err := src.Token(ctx)
		assert.NoError(t, err)
		assert.Equal(t, "token-1", tok.Value)
	})
}

func TestRefreshIsSeamless(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		f := &stub{latency: 300 * time.Millisecond}
		src := wxtoken.New(f, nil)
		token(t, src)
		const lifetimes = 10
		start := time.Now()
		for time.Since(start) < lifetimes*2*time.Hour {
			time.Sleep(time.Second)
			before := time.Now()
			token(t, src)
			require.Zero(t, time.Since(before), "a caller waited")
		}
		perDay := float64(f.fetches.Load()-1) / time.Since(start).Hours() * 24
		assert.InDelta(t, 12.5, perDay, 0.5)
		t.Logf("%.1f fetches a day", perDay)
	})
}

func TestSteadyStateReadsTheCacheTwiceAMinute(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		cache := &faultyCache{Cache: wxtoken.NewMemoryCache()}
		src := wxtoken.New(&stub{}, cache)
		token(t, src)
		cache.gets.Store(0)
		for range 60 * 60 {
			time.Sleep(time.Second)
			token(t, src)
		}
		perMinute := float64(cache.gets.Load()+cache.swaps.Load()) / 60
		assert.LessOrEqual(t, perMinute, 2.5)
		t.Logf("%.2f cache commands a minute", perMinute)
	})
}

func TestOtherProcessesAdoptARefreshWithinTheLocalAge(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		f, cache := &stub{}, wxtoken.NewMemoryCache()
		a, b := wxtoken.New(f, cache), wxtoken.New(f, cache)
		token(t, a)
		time.Sleep(time.Minute)
		for range 110 {
			token(t, b)
			time.Sleep(time.Minute)
		}
		require.Equal(t, "token-1", token(t, b))
		time.Sleep(46 * time.Second)
		require.EqualValues(t, 1, f.fetches.Load())
		require.NoError(t, a.Invalidate(t.Context(), "token-1"))
		require.Equal(t, "token-2", token(t, a))
		time.Sleep(46 * time.Second)
		assert.Equal(t, "token-2", token(t, b))
		assert.EqualValues(t, 2, f.fetches.Load())
	})
}

func TestRunKeepsTheTokenFresh(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		f := &stub{latency: 50 * time.Millisecond, answer: func(n int64) error {
			if n == 3 {
				return &wxtoken.APIError{Code: -1, Message: "system error"}
			}
			return nil
		}}
		src := wxtoken.New(f, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- src.Run(ctx) }()
		for range 48 {
			time.Sleep(30 * time.Minute)
			before := time.Now()
			token(t, src)
			require.Zero(t, time.Since(before))
		}
		assert.InDelta(t, 13, f.fetches.Load(), 1)
		cancel()
		assert.ErrorIs(t, <-ended, context.Canceled)
	})
}

func TestAFetcherOrCacheThatMisbehavesBlocksNobody(t *testing.T) {
	for name, misbehave := range map[string]func(){
		"panic":         func() { panic("secret") },
		"runtime panic": func() { var list []int; list[len(list)]++ },
		"Goexit":        runtime.Goexit,
	} {
		bubble(t, name+" in Fetch", func(t *testing.T) {
			f := &stub{answer: func(n int64) error {
				if n == 1 {
					misbehave()
				}
				return nil
			}}
			src := wxtoken.New(f, nil)
			together(10, func(int) {
				_, err := src.Token(t.Context())
				assert.ErrorContains(t, err, "Fetcher.Fetch")
				assert.NotContains(t, err.Error(), "secret")
			})
			time.Sleep(10 * time.Second) // the cooldown of a fetch without an answer
			assert.Equal(t, "token-2", token(t, src))
		})
		bubble(t, name+" in the cache", func(t *testing.T) {
			bad := true
			cache := &faultyCache{Cache: wxtoken.NewMemoryCache()}
			cache.get = func(context.Context) error {
				if bad {
					misbehave()
				}
				return nil
			}
			src := wxtoken.New(&stub{}, cache)
			together(10, func(int) {
				_, err := src.Token(t.Context())
				assert.ErrorIs(t, err, wxtoken.ErrCacheUnavailable)
				assert.NotContains(t, err.Error(), "secret")
			})
			bad = false
			time.Sleep(time.Second)
			token(t, src)
		})
	}
	bubble(t, "Fetch never returns", func(t *testing.T) {
		f := &stub{block: make(chan struct{})}
		src := wxtoken.New(f, nil)
		start := time.Now()
		_, err := src.Token(t.Context())
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 10*time.Second, time.Since(start))
		close(f.block)
		time.Sleep(10 * time.Second)
		token(t, src)
	})
	bubble(t, "the cache never answers", func(t *testing.T) {
		block := make(chan struct{})
		cache := &faultyCache{Cache: wxtoken.NewMemoryCache(), get: func(context.Context) error { <-block; return nil }}
		src := wxtoken.New(&stub{}, cache)
		_, err := src.Token(t.Context())
		assert.ErrorIs(t, err, wxtoken.ErrCacheUnavailable)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		close(block)
		time.Sleep(time.Second)
		token(t, src)
	})
}

func TestNewPanicsWithoutAFetcher(t *testing.T) {
	assert.PanicsWithValue(t, "wxtoken: New: nil Fetcher; pass NewFetcher(appID, secret)", func() { wxtoken.New(nil, nil) })
}
