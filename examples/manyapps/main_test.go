package main

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/examples/internal/exampletest"
	"github.com/wxtoken/wxtoken/internal/servers"
	"github.com/wxtoken/wxtoken/wxtest"
)

// Two processes start at the same time, over one Redis.
func TestTenThousandAppsAreFetchedOnceEach(t *testing.T) {
	client, err := connect(t.Context(), "redis://"+servers.Redis(t).Addr(), 2*atOnce)
	require.NoError(t, err)
	platform := newFake(apps)
	sources := func() *Sources {
		return NewSources(platform.fetcher, wxtoken.NewRedisCache(client), atOnce)
	}
	one, two := sources(), sources()
	goroutines, bytes := runtime.NumGoroutine(), heap()
	for _, appID := range platform.appIDs {
		_, err := one.Source(appID)
		require.NoError(t, err)
	}
	each := (heap() - bytes) / apps
	t.Logf("%d bytes for each Source, Fetcher and map included", each)
	assert.Less(t, each, int64(4096))

	backwards := slices.Clone(platform.appIDs)
	slices.Reverse(backwards)
	errs := make(chan error, 2)
	go func() { errs <- one.Warm(t.Context(), time.Second, platform.appIDs) }()
	go func() { errs <- two.Warm(t.Context(), time.Second, backwards) }()
	require.NoError(t, errors.Join(<-errs, <-errs))

	assert.LessOrEqual(t, platform.peak.Load(), int64(2*atOnce))
	assert.Equal(t, wxtest.Tally{0: apps}, platform.Stats().Fetches())
	for _, appID := range platform.appIDs {
		token, err := two.Token(t.Context(), appID)
		require.NoError(t, err)
		require.Equal(t, platform.Latest(appID), token.Value) // so each app had one of the fetches
	}
	assert.Eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines+2 }, time.Minute, 10*time.Millisecond,
		"goroutines while idle (2 are this check's)")
	require.NoError(t, client.Close())
	runtime.KeepAlive(one)
}

func TestProgramRuns(t *testing.T) {
	env := exampletest.Env{"REDIS_URL": "redis://" + servers.Redis(t).Addr(), "APPS": "20"}
	out, err := env.Run(t, run)
	require.NoError(t, err)
	assert.Contains(t, out, "20 fetches, at most")
	assert.Contains(t, out, "fetches now: 20\n")

	env["APPS"] = "many"
	_, err = env.Run(t, run)
	assert.ErrorContains(t, err, "set APPS to a number")
	env["REDIS_URL"] = ""
	_, err = env.Run(t, run)
	assert.ErrorContains(t, err, "set REDIS_URL")
}

func TestTheLimitBoundsConcurrentFetches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		platform := newFake(20)
		platform.Inject(wxtest.Latency(time.Second))
		sources := NewSources(platform.fetcher, nil, 5)
		start := time.Now()
		require.NoError(t, sources.Warm(t.Context(), 0, platform.appIDs))
		assert.Equal(t, int64(5), platform.peak.Load())
		assert.Equal(t, 4*time.Second, time.Since(start))

		// Apps that have a token do not wait.
		start = time.Now()
		require.NoError(t, sources.Warm(t.Context(), 0, platform.appIDs))
		assert.Zero(t, time.Since(start))
	})
}

func TestAWarmStartIsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		platform := newFake(20)
		sources := NewSources(platform.fetcher, nil, 5)
		start := time.Now()
		require.NoError(t, sources.Warm(t.Context(), time.Minute, platform.appIDs))
		assert.Equal(t, 57*time.Second, time.Since(start)) // the 20th starts after 19 steps of 3 s
		assert.Equal(t, int64(1), platform.peak.Load())
	})
}

func TestAQueuedCallerRespectsItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		platform := newFake(2)
		platform.Inject(wxtest.Latency(time.Second))
		sources := NewSources(platform.fetcher, nil, 1)
		first := make(chan error)
		go func() {
			_, err := sources.Token(t.Context(), platform.appIDs[0])
			first <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := sources.Token(ctx, platform.appIDs[1])
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 20*time.Millisecond, time.Since(start))
		require.NoError(t, <-first)
	})
}

func TestUnknownAppsAreNotKept(t *testing.T) {
	unknown := errors.New("no such app")
	sources := NewSources(func(string) (wxtoken.Fetcher, error) { return nil, unknown }, nil, 1)
	for range 3 {
		_, err := sources.Token(t.Context(), "made-up")
		require.ErrorIs(t, err, unknown)
	}
	assert.Empty(t, sources.apps)
	assert.ErrorIs(t, sources.Warm(t.Context(), 0, []string{"made-up"}), unknown)
}

func TestAnAppHasOneSourceUntilItIsForgotten(t *testing.T) {
	platform := newFake(1)
	sources := NewSources(platform.fetcher, nil, 1)
	made := make(chan *wxtoken.Source, 100)
	for range cap(made) {
		go func() {
			src, _ := sources.Source(platform.appIDs[0])
			made <- src
		}()
	}
	first := <-made
	for range cap(made) - 1 {
		require.Same(t, first, <-made)
	}
	sources.Forget(platform.appIDs[0])
	again, err := sources.Source(platform.appIDs[0])
	require.NoError(t, err)
	assert.NotSame(t, first, again)
}
