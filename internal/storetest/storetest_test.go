package storetest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/servers"
)

func TestMain(m *testing.M) { Main(m, open) }

// open makes a cache from its kind and addresses: "redis 127.0.0.1:6379".
func open(config string) (wxtoken.Cache, error) {
	kind, at, _ := strings.Cut(config, " ")
	addrs := strings.Split(at, ",")
	switch kind {
	case "memory":
		return wxtoken.NewMemoryCache(), nil
	case "file":
		return wxtoken.NewFileCache(at), nil
	case "redis":
		return closing(redis.NewClient(&redis.Options{Addr: at, ContextTimeoutEnabled: true, MaxRetries: -1,
			DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience}))
	case "sentinel":
		return closing(redis.NewFailoverClient(&redis.FailoverOptions{
			MasterName: servers.MasterName, SentinelAddrs: addrs, ContextTimeoutEnabled: true,
		}))
	case "cluster":
		return closing(redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, ContextTimeoutEnabled: true}))
	case "memcached":
		client := memcache.New(addrs...)
		client.Timeout = patience
		return wxtoken.NewMemcachedCache(client), nil
	}
	return nil, fmt.Errorf("no store %q", config)
}

// closing is a RedisCache that closes its client.
func closing(client interface {
	wxtoken.RedisClient
	Close() error
}) (wxtoken.Cache, error) {
	return struct {
		wxtoken.Cache
		closer
	}{wxtoken.NewRedisCache(client), client}, nil
}

type closer interface{ Close() error }

func TestMemory(t *testing.T) {
	Run(t, Store{Name: "memory, of one process", Version: runtime.Version(), Open: open, Config: "memory", Local: true})
}

func TestFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "when used")
	Run(t, Store{Name: "file", Version: runtime.GOOS, Open: open, Config: "file " + dir})
}

func TestRedis(t *testing.T) {
	server := servers.Redis(t)
	direct := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer direct.Close()
	Run(t, Store{
		Name: "Redis, go-redis", Version: servers.Version(t, "redis-server"), Open: open, Config: "redis " + server.Addr(),
		Evict:   func(key string) { assert.NoError(t, direct.Del(t.Context(), key).Err()) },
		Proxied: func(addr string) string { return "redis " + addr }, Addr: server.Addr(),
		Outage: func(string) { server.Restart() }, Outages: "restart, nothing on disk",
	})
}

func TestRedisSentinel(t *testing.T) {
	group := servers.Sentinel(t)
	Run(t, Store{
		Name: "Redis Sentinel, go-redis", Version: servers.Version(t, "redis-server"), Open: open, Retries: true,
		Config: "sentinel " + strings.Join(group.SentinelAddrs(), ","),
		Outage: func(string) { group.KillMaster() }, Outages: "master killed",
	})
}

func TestRedisCluster(t *testing.T) {
	group := servers.Cluster(t)
	Run(t, Store{
		Name: "Redis Cluster, go-redis", Version: servers.Version(t, "redis-server"), Open: open, Retries: true,
		Config: "cluster " + strings.Join(group.Addrs(), ","),
		Outage: func(key string) { group.KillMasterFor(key) }, Outages: "the key's master killed",
	})
}

func TestMemcached(t *testing.T) {
	server := servers.Memcached(t)
	direct := memcache.New(server.Addr())
	defer direct.Close()
	Run(t, Store{
		Name: "Memcached", Version: servers.Version(t, "memcached"), Open: open, Config: "memcached " + server.Addr(),
		Evict:   func(key string) { _ = direct.Delete(key) }, // a miss is as good
		Proxied: func(addr string) string { return "memcached " + addr }, Addr: server.Addr(),
		Outage: func(string) { server.Restart() }, Outages: "restart",
	})
}

func TestTable(t *testing.T) {
	rows := []row{
		{"A", "1.0", 30, 5250 * time.Microsecond, "restart", 100 * time.Millisecond, true},
		{"memory, of one process", "go1", 10, 0, "", 0, false},
	}
	page := filepath.Join(t.TempDir(), "page.md")
	for range 2 { // an earlier table is replaced
		if _, err := os.Stat(page); err != nil {
			require.NoError(t, os.WriteFile(page, []byte("before\n"+begin+"old\n"+end+"after\n"), 0o600))
		}
		require.NoError(t, write(page, "On %s, %s, %s/%s, %d cores:", chinese, rows, words.Replace))
	}
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	assert.Regexp(t, "(?s)^before\n"+begin+"On .* cores:\n\n\\| 存储 .*"+end+"after\n$", string(text))
	assert.Contains(t, string(text), "| A | 1.0 | ✓ | 30 | 1, 5.2 ms | 重启：0.10 秒后取得凭据，记录仍在 |\n| 内存（单进程） | go1 | ✓ | 10 | – | – |\n")
	require.Error(t, write(page+"x", "", nil, nil, nil))
}

var writeTable = flag.Bool("storetest.write", false, "write the rows of -storetest.rows into docs/stores.md, and do nothing else")

// TestWriteTable is the last step of make stores.
func TestWriteTable(t *testing.T) {
	if !*writeTable {
		t.Skip("make stores does this")
	}
	rows, err := readRows(*rowsFile)
	require.NoError(t, err)
	same := func(s string) string { return s }
	require.NoError(t, write("../../docs/stores.md", "`make stores` on %s, with %s on %s/%s, %d cores:", english, rows, same))
	require.NoError(t, write("../../docs/zh-CN/stores.md", "`make stores` 于 %s 运行，%s，%s/%s，%d 核：", chinese, rows, words.Replace))
}
