package wxtoken_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

// A token can be reported to a process that has not seen it yet: behind a load
// balancer, say, that sends the report to another instance of a token server.
func TestInvalidateOfATokenThatOnlyOthersHaveSeen(t *testing.T) {
	// behind returns two Sources, of which the second still holds token-1, while the
	// record has had token-2 for a while.
	behind := func(t *testing.T, since time.Duration) (ahead, behind *wxtoken.Source, f *countingFetcher, cache *faultyCache) {
		f, cache = &countingFetcher{}, &faultyCache{Cache: wxtoken.NewMemoryCache()}
		ahead, behind = wxtoken.New(f, cache), wxtoken.New(f, cache, wxtoken.WithLocalAge(10*time.Minute))
		token(t, ahead)
		time.Sleep(50 * time.Second)
		require.Equal(t, "token-1", token(t, behind))
		require.NoError(t, ahead.Invalidate(t.Context(), "token-1"))
		require.Equal(t, "token-2", token(t, ahead))
		time.Sleep(since)
		require.Equal(t, "token-1", token(t, behind))
		return ahead, behind, f, cache
	}
	bubble(t, "it is recorded", func(t *testing.T) {
		ahead, behind, f, _ := behind(t, 3*time.Minute)
		require.NoError(t, behind.Invalidate(t.Context(), "token-2"))
		assert.Equal(t, "token-3", token(t, behind))
		time.Sleep(time.Minute)
		assert.Equal(t, "token-3", token(t, ahead))
		assert.EqualValues(t, 3, f.fetches.Load())
	})
	bubble(t, "it is not believed of a young token", func(t *testing.T) {
		_, behind, f, cache := behind(t, time.Minute)
		assert.ErrorContains(t, behind.Invalidate(t.Context(), "token-2"), "not believed before it is 20s old")
		assert.Equal(t, "token-2", token(t, behind), "but the record was read")
		assert.NotContains(t, recordOf(t, cache), "rejected")
		assert.EqualValues(t, 2, f.fetches.Load())
	})
	bubble(t, "while the cache is down, the copy decides", func(t *testing.T) {
		_, behind, _, cache := behind(t, 3*time.Minute)
		cache.get = func(context.Context) error { return errDown }
		for range 10 {
			assert.NoError(t, behind.Invalidate(t.Context(), "token-2"))
			assert.ErrorIs(t, behind.Invalidate(t.Context(), "token-1"), wxtoken.ErrCacheUnavailable)
			time.Sleep(time.Second)
		}
		cache.get = nil
		time.Sleep(6 * time.Second)
		require.NoError(t, behind.Invalidate(t.Context(), "token-2"))
		assert.Equal(t, "token-3", token(t, behind))
	})
}

func TestReportsOfUnknownValuesCostLittle(t *testing.T) {
	for _, c := range []struct {
		name          string
		value         string
		callers       int
		every         time.Duration
		reads, events int
	}{
		{"one caller", "of another app", 1, 100 * time.Millisecond, 31, 0},
		{"50 callers", "of another app", 50, 100 * time.Millisecond, 31, 0},
		{"seldom", "of another app", 3, 5 * time.Second, 12, 0},
		{"the token before", "token-1", 50, 100 * time.Millisecond, 0, 0},
	} {
		bubble(t, c.name, func(t *testing.T) {
			f, cache, l := &countingFetcher{}, &faultyCache{Cache: wxtoken.NewMemoryCache()}, &log{}
			src := wxtoken.New(f, cache, l.option())
			token(t, src)
			age(t)
			require.NoError(t, src.Invalidate(t.Context(), "token-1"))
			require.Equal(t, "token-2", token(t, src))
			reads, events, until := cache.gets.Load(), len(l.all()), time.Now().Add(time.Minute)
			together(c.callers, func(int) {
				for time.Now().Before(until) {
					assert.NoError(t, src.Invalidate(t.Context(), c.value))
					time.Sleep(c.every)
				}
			})
			assert.LessOrEqual(t, cache.gets.Load()-reads, int64(c.reads))
			assert.LessOrEqual(t, len(l.all())-events, c.events)
			assert.Equal(t, "token-2", token(t, src))
			assert.EqualValues(t, 2, f.fetches.Load())
		})
	}
}
