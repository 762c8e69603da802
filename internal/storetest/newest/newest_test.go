// Package newest tests RedisCache with the newest go-redis; the root module's tests
// use the oldest that it allows.
package newest

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/cachetest"
	"github.com/wxtoken/wxtoken/internal/servers"
	"github.com/wxtoken/wxtoken/internal/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m, open) }

// open makes a cache of one server, or of sentinels after the master's name.
func open(config string) (wxtoken.Cache, error) {
	master, addrs, found := strings.Cut(config, " ")
	client := redis.NewClient(&redis.Options{Addr: config, ContextTimeoutEnabled: true, MaxRetries: -1})
	if found {
		client = redis.NewFailoverClient(&redis.FailoverOptions{
			MasterName: master, SentinelAddrs: strings.Split(addrs, ","), ContextTimeoutEnabled: true,
		})
	}
	return closableCache{wxtoken.NewRedisCache(client), client}, nil
}

type closableCache struct {
	wxtoken.Cache
	client *redis.Client
}

func (c closableCache) Close() error { return c.client.Close() }

func TestServers(t *testing.T) {
	for name, test := range map[string]struct {
		binary string
		start  func(servers.TB, ...string) *servers.Server
	}{
		"Redis":  {"redis-server", servers.Redis},
		"Valkey": {"valkey-server", servers.Valkey},
	} {
		t.Run(name, func(t *testing.T) {
			server := test.start(t)
			storetest.Run(t, storetest.Store{
				Name: name + ", go-redis " + redis.Version(), Version: servers.Version(t, test.binary), Open: open, Config: server.Addr(),
				Proxied: func(addr string) string { return addr }, Addr: server.Addr(),
				Outage: func(string) { server.Restart() }, Outages: "restart, nothing on disk",
			})
		})
	}
}

func TestSentinel(t *testing.T) {
	group := servers.Sentinel(t)
	addrs := strings.Join(group.SentinelAddrs(), ",")
	storetest.Run(t, storetest.Store{
		Name: "Redis Sentinel, go-redis " + redis.Version(), Version: servers.Version(t, "redis-server"), Open: open, Retries: true,
		Config: group.MasterName + " " + addrs,
		Outage: func(string) { group.KillMaster() }, Outages: "master killed",
	})

	t.Run("unknown master", func(t *testing.T) {
		cache, err := open("another-name " + addrs)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, cache.(closableCache).Close()) })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err = cache.Get(ctx, "key")
		assert.ErrorIs(t, err, redis.Nil, "otherwise this test proves nothing")
		assert.NotErrorIs(t, err, wxtoken.ErrCacheMiss)
		assert.ErrorContains(t, err, "(check the addresses of the sentinels and the name of the master)")
	})
}

// A ticking cache moves the clock of miniredis, which stands still, to now before each
// call, as docs/stores.md says. What a goroutine of its own moved on a busy machine
// would shorten the lives of what is stored meanwhile.
type ticking struct {
	wxtoken.Cache
	server *miniredis.Miniredis
	mu     sync.Mutex
	last   time.Time
}

func (c *ticking) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.server.FastForward(now.Sub(c.last))
	c.last = now
}

func (c *ticking) Get(ctx context.Context, key string) ([]byte, error) {
	c.tick()
	return c.Cache.Get(ctx, key)
}

func (c *ticking) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	c.tick()
	return c.Cache.CompareAndSwap(ctx, key, old, new, ttl)
}

func TestMiniredis(t *testing.T) {
	server := miniredis.RunT(t)
	cache, err := open(server.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cache.(closableCache).Close()) })
	clocked := &ticking{Cache: cache, server: server, last: time.Now()}
	cachetest.Run(t, func(*testing.T) wxtoken.Cache { return clocked })
}
