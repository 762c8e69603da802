//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/servers"
)

// A backend is the servers of a round and what can happen to them. Its faults
// run on the test's goroutine.
type backend struct {
	name    string
	config  []string // addresses that clients are configured with
	servers []string // all addresses that they may connect to
	master  string
	faults  []fault
}

func startBackend(t *testing.T, name string) backend {
	t.Helper()
	switch name {
	case "redis":
		return startRedis(t)
	case "sentinel":
		return startSentinel(t)
	case "cluster":
		return startCluster(t)
	case "file":
		return startFile(t)
	}
	return startMemcached(t)
}

func startRedis(t *testing.T) backend {
	s := servers.Redis(t)
	addrs := []string{s.Addr()}
	return backend{name: "redis", config: addrs, servers: addrs, faults: []fault{
		restart(kindRedisDown, s),
		flush("FLUSHALL", func() *servers.Server { return s }),
	}}
}

func restart(kind string, s *servers.Server) fault {
	return fault{kind, func(r *round) {
		defer r.begin(kind)()
		s.Kill()
		time.Sleep(r.span(100*time.Millisecond, 2*time.Second))
		s.Restart()
	}}
}

func flush(kind string, master func() *servers.Server) fault {
	return fault{kind, func(r *round) {
		s := master()
		if s == nil {
			return
		}
		defer r.begin(kind)()
		askRedis(s.Addr(), "FLUSHALL")
	}}
}

// askRedis returns the answer to one command, or "".
func askRedis(addr string, args ...any) string {
	c := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, DialTimeout: time.Second, ReadTimeout: time.Second})
	defer c.Close()
	answer, _ := c.Do(context.Background(), args...).Text()
	return answer
}

// awaitReplica waits until a master that came back is a replica in sync, for
// the next failover to have somebody to promote.
func awaitReplica(t *testing.T, s *servers.Server) {
	require.Eventually(t, func() bool {
		return strings.Contains(askRedis(s.Addr(), "INFO", "replication"), "master_link_status:up")
	}, 30*time.Second, 50*time.Millisecond, "the killed master %s does not come back as a replica", s.Addr())
}

func startSentinel(t *testing.T) backend {
	g := servers.Sentinel(t)
	b := backend{name: "sentinel", config: g.SentinelAddrs(), servers: g.SentinelAddrs(), master: g.MasterName}
	for _, node := range g.Nodes {
		b.servers = append(b.servers, node.Addr())
	}
	b.faults = []fault{
		{kindSentinel, func(r *round) {
			end := r.begin(kindSentinel)
			old := g.KillMaster()
			g.AwaitPromotion(old)
			end()
			old.Restart()
			awaitReplica(t, old)
		}},
		flush("FLUSHALL", g.Master),
	}
	return b
}

func startCluster(t *testing.T) backend {
	g := servers.Cluster(t)
	const moved = "slot moved"
	return backend{name: "cluster", config: g.Addrs(), servers: g.Addrs(), faults: []fault{
		{moved, func(r *round) {
			defer r.begin(moved)()
			g.MoveSlot(recordKey, func() { time.Sleep(r.span(0, time.Second)) })
		}},
		{kindCluster, func(r *round) {
			end := r.begin(kindCluster)
			old := g.KillMasterFor(recordKey)
			g.AwaitPromotion(recordKey, old)
			end()
			old.Restart()
			awaitReplica(t, old)
		}},
		flush("FLUSHALL", func() *servers.Server { return g.MasterFor(recordKey) }),
	}}
}

func startMemcached(t *testing.T) backend {
	s := servers.Memcached(t, "-m", "1", "-I", "512k", "-o", "no_lru_maintainer,no_lru_crawler")
	addrs := []string{s.Addr()}
	do := func(f func(*memcache.Client) error) {
		c := memcache.New(s.Addr()) // new each time: a restart kills its connections
		c.Timeout = 5 * time.Second
		defer c.Close()
		require.NoError(t, f(c))
	}
	const flushed, evicted = "flush_all", "record evicted"
	return backend{name: "memcached", config: addrs, servers: addrs, faults: []fault{
		restart(kindMemcachedDown, s),
		{flushed, func(r *round) {
			defer r.begin(flushed)()
			do((*memcache.Client).FlushAll)
		}},
		{evicted, func(r *round) {
			defer r.begin(evicted)()
			do(evict)
		}},
	}}
}

// evict fills the memory with items of the record's size, which decides what an
// item can push out, until Memcached has thrown the record out.
func evict(client *memcache.Client) error {
	was, err := client.Get(recordKey)
	filler := was
	for i := 0; err == nil && parse(filler.Value).Epoch == parse(was.Value).Epoch; i++ {
		if i == 100 {
			return fmt.Errorf("%d items of %d bytes did not evict the record", i*2000, len(filler.Value))
		}
		for n := range 2000 {
			item := &memcache.Item{Key: fmt.Sprint("filler:token:wx", i*2000+n), Value: filler.Value}
			if err := client.Set(item); err != nil {
				return fmt.Errorf("filling Memcached: %w", err)
			}
		}
		filler, err = client.Get(recordKey)
	}
	return nil // it is absent, or new
}

// startFile has no server: nothing can be cut off, but files can go and be cut
// short. The workers are killed and stopped as everywhere, in the middle of
// writes too.
func startFile(t *testing.T) backend {
	dir := t.TempDir()
	harm := func(kind string, do func(path string) error) fault {
		return fault{kind, func(r *round) {
			defer r.begin(kind)()
			records, err := filepath.Glob(filepath.Join(dir, "key-*"+appID))
			require.NoError(t, err)
			for _, path := range records {
				if err := do(path); !errors.Is(err, fs.ErrNotExist) {
					require.NoError(t, err)
				}
			}
		}}
	}
	return backend{name: "file", config: []string{dir}, faults: []fault{
		harm("file removed", os.Remove),
		harm("file cut short", func(path string) error { return os.Truncate(path, 100) }),
	}}
}
