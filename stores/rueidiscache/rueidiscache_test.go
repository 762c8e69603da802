package rueidiscache_test

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/servers"
	"github.com/wxtoken/wxtoken/internal/storetest"
	"github.com/wxtoken/wxtoken/stores/rueidiscache"
)

func TestMain(m *testing.M) { storetest.Main(m, open) }

// open makes a cache from addresses; if a master's name precedes them, they are
// sentinels: "name 127.0.0.1:26379,127.0.0.1:26380".
func open(config string) (wxtoken.Cache, error) {
	option := rueidis.ClientOption{Dialer: net.Dialer{Timeout: 10 * time.Second}}
	master, addrs, found := strings.Cut(config, " ")
	if found {
		option.Sentinel.MasterSet = master
	} else {
		addrs = config
	}
	option.InitAddress = strings.Split(addrs, ",")
	client, err := rueidis.NewClient(option)
	if err != nil {
		return nil, err
	}
	return closableCache{rueidiscache.New(client), client}, nil
}

type closableCache struct {
	*rueidiscache.Cache
	client rueidis.Client
}

func (c closableCache) Close() error {
	c.client.Close()
	return nil
}

func TestServers(t *testing.T) {
	for binary, start := range map[string]func(servers.TB, ...string) *servers.Server{
		"redis-server": servers.Redis, "valkey-server": servers.Valkey,
	} {
		t.Run(binary, func(t *testing.T) {
			name := map[string]string{"redis-server": "Redis", "valkey-server": "Valkey"}[binary]
			server := start(t)
			cache, err := open(server.Addr())
			require.NoError(t, err)
			direct := cache.(closableCache).client
			t.Cleanup(direct.Close)
			storetest.Run(t, storetest.Store{
				Name: name + ", rueidiscache", Version: servers.Version(t, binary), Open: open, Config: server.Addr(),
				Evict:   func(key string) { assert.NoError(t, direct.Do(t.Context(), direct.B().Del().Key(key).Build()).Error()) },
				Proxied: func(addr string) string { return addr }, Addr: server.Addr(),
				Outage: func(string) { server.Restart() }, Outages: "restart, nothing on disk",
			})
		})
	}
}

func TestSentinel(t *testing.T) {
	group := servers.Sentinel(t)
	storetest.Run(t, storetest.Store{
		Name: "Redis Sentinel, rueidiscache", Version: servers.Version(t, "redis-server"), Open: open,
		Config: group.MasterName + " " + strings.Join(group.SentinelAddrs(), ","),
		Outage: func(string) { group.KillMaster() }, Outages: "master killed",
	})
}

func TestCluster(t *testing.T) {
	group := servers.Cluster(t)
	storetest.Run(t, storetest.Store{
		Name: "Redis Cluster, rueidiscache", Version: servers.Version(t, "redis-server"), Open: open,
		Config: strings.Join(group.Addrs(), ","),
		Outage: func(key string) { group.KillMasterFor(key) }, Outages: "the key's master killed",
	})
}

func TestNewPanicsOnNil(t *testing.T) {
	assert.PanicsWithValue(t, "wxtoken: rueidiscache.New: the client is nil", func() { rueidiscache.New(nil) })
}

// An unavailable server is an error and not a miss.
func TestServerGone(t *testing.T) {
	server := servers.Redis(t)
	cache, err := open(server.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { _ = cache.(closableCache).Close() })
	server.Kill()
	_, err = cache.CompareAndSwap(t.Context(), "key", nil, []byte("value"), time.Minute)
	assert.Error(t, err)
	assert.False(t, errors.Is(err, wxtoken.ErrCacheMiss))
}
