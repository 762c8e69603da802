package linearize

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/servers"
)

// go-redis with its retries on. A swap from nothing that is resent could happen
// before an eviction and again after it, so nothing is evicted. For other clients,
// see internal/storetest.
func TestResentCommands(t *testing.T) {
	w := Workload{}
	proxy := servers.Proxy(t, servers.Redis(t).Addr())
	for range 6 {
		retrying := redis.NewClient(&redis.Options{Addr: proxy.Addr(), MinRetryBackoff: time.Millisecond, MaxRetryBackoff: 3 * time.Millisecond})
		t.Cleanup(func() { require.NoError(t, retrying.Close()) })
		w.Caches = append(w.Caches, wxtoken.NewRedisCache(retrying))
	}
	proxy.DropRepliesRandomly(0.05, 1)
	w.Check(t, 20)
	assert.Positive(t, proxy.Dropped())
}

func TestMemoryCacheIsLinearizable(t *testing.T) {
	cache := wxtoken.NewMemoryCache()
	Workload{Caches: slices.Repeat([]wxtoken.Cache{cache}, 6), FalseIsNo: true}.Check(t, 20)
}

// The search must be able to find violations.
func TestBrokenCachesAreNotLinearizable(t *testing.T) {
	for name, breakIt := range map[string]func(c wxtoken.Cache, ctx context.Context, key string, old, new []byte) (bool, error){
		"compares, then stores": func(c wxtoken.Cache, ctx context.Context, key string, old, new []byte) (bool, error) {
			there, err := c.Get(ctx, key)
			if (err != nil) != (old == nil) || string(there) != string(old) {
				return false, nil
			}
			time.Sleep(50 * time.Microsecond)
			there, _ = c.Get(ctx, key)
			return c.CompareAndSwap(ctx, key, there, new, time.Minute)
		},
		"stores and reports false": func(c wxtoken.Cache, ctx context.Context, key string, old, new []byte) (bool, error) {
			stored, err := c.CompareAndSwap(ctx, key, old, new, time.Minute)
			return stored && rand.N(10) > 0, err
		},
		"reports true and stores nothing": func(c wxtoken.Cache, ctx context.Context, key string, old, new []byte) (bool, error) {
			if rand.N(10) == 0 {
				return true, nil
			}
			return c.CompareAndSwap(ctx, key, old, new, time.Minute)
		},
	} {
		t.Run(name, func(t *testing.T) {
			cache := brokenCache{wxtoken.NewMemoryCache(), breakIt}
			w := Workload{Caches: slices.Repeat([]wxtoken.Cache{cache}, 6), FalseIsNo: true}
			assert.NotEmpty(t, w.unexplained(t, 100), "not noticed")
		})
	}
}

type brokenCache struct {
	wxtoken.Cache
	swap func(c wxtoken.Cache, ctx context.Context, key string, old, new []byte) (bool, error)
}

func (b brokenCache) CompareAndSwap(ctx context.Context, key string, old, new []byte, _ time.Duration) (bool, error) {
	return b.swap(b.Cache, ctx, key, old, new)
}
