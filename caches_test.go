package wxtoken_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/cachetest"
	"github.com/wxtoken/wxtoken/internal/servers"
)

func TestCachesKeepTheContract(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T) wxtoken.Cache{
		"memory": func(t *testing.T) wxtoken.Cache { return new(wxtoken.MemoryCache) },
		"file":   func(t *testing.T) wxtoken.Cache { return wxtoken.NewFileCache(t.TempDir()) },
		"Redis": func(t *testing.T) wxtoken.Cache {
			return wxtoken.NewRedisCache(redisClient(t, servers.Redis(t).Addr()))
		},
		"Redis without EVALSHA, as some servers and proxies are, and with GET, SET and EVAL alone": func(t *testing.T) wxtoken.Cache {
			server := servers.Redis(t, "--rename-command", "EVALSHA", "")
			require.NoError(t, redisClient(t, server.Addr()).Do(t.Context(), "ACL", "SETUSER", "app", "on", ">password", "+get", "+set", "+eval", "~*").Err())
			client := redis.NewClient(&redis.Options{Addr: server.Addr(), Username: "app", Password: "password", MaxRetries: -1})
			t.Cleanup(func() { require.NoError(t, client.Close()) })
			return wxtoken.NewRedisCache(client)
		},
		"Memcached": func(t *testing.T) wxtoken.Cache {
			return wxtoken.NewMemcachedCache(memcachedClient(t, servers.Memcached(t).Addr()))
		},
		"several Memcached servers, one of them listed twice for twice the weight": func(t *testing.T) wxtoken.Cache {
			one, two := servers.Memcached(t).Addr(), servers.Memcached(t).Addr()
			return wxtoken.NewMemcachedCache(memcachedClient(t, one, two, two))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cache := open(t)
			cachetest.Run(t, func(*testing.T) wxtoken.Cache { return cache })
		})
	}
}

// clientTimeout is how long the clients wait for an answer: a busy machine is no failure,
// and what a ctx ends is over long before.
const clientTimeout = 30 * time.Second

// redisClient connects without retries, so that one call is one command, and is
// closed at the test's end.
func redisClient(t testing.TB, addr string) *redis.Client {
	client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, ContextTimeoutEnabled: true,
		DialTimeout: clientTimeout, ReadTimeout: clientTimeout, WriteTimeout: clientTimeout})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

func memcachedClient(t testing.TB, addrs ...string) *memcache.Client {
	client := memcache.New(addrs...)
	client.Timeout = clientTimeout
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

func TestMemoryCacheExpiresExactlyAtTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := wxtoken.NewMemoryCache()
		one, two := []byte("one"), []byte("two")
		swaps := func(old, new []byte) bool {
			ok, err := m.CompareAndSwap(t.Context(), "key", old, new, time.Hour)
			require.NoError(t, err)
			return ok
		}
		require.True(t, swaps(nil, one))
		time.Sleep(time.Hour - 1)
		mustHold(t, m, "key", "one")
		assert.False(t, swaps(nil, two), "still there")
		time.Sleep(time.Nanosecond)
		_, err := m.Get(t.Context(), "key")
		assert.ErrorIs(t, err, wxtoken.ErrCacheMiss)
		assert.False(t, swaps(one, two), "what has expired is not there")
		assert.True(t, swaps(nil, two))
	})
}

// Entries that nobody asks for again must not pile up.
func TestMemoryCacheForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, value := wxtoken.NewMemoryCache(), make([]byte, 10<<10)
		before := heap()
		for i := range 2000 {
			mustSwap(t, m, fmt.Sprint("key", i), nil, value, time.Minute)
			time.Sleep(time.Second)
		}
		assert.Less(t, heap(), before+5<<20, "with the entries of two minutes: those of the ttl, and of the time between sweeps")
		runtime.KeepAlive(m)
	})
}

func TestNewFileCache(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	cache := wxtoken.NewFileCache("relative")
	t.Chdir(t.TempDir()) // a process that changes its directory keeps its cache
	mustSwap(t, cache, "key", nil, []byte("value"), time.Minute)
	assert.FileExists(t, filepath.Join(dir, "relative", "key-key"))
}

// The zero FileCache is an error, and leaves nothing in the working directory.
func TestZeroFileCache(t *testing.T) {
	t.Chdir(t.TempDir())
	const want = "this FileCache comes from no constructor; use NewFileCache(dir)"
	var c wxtoken.FileCache
	_, err := c.Get(t.Context(), "key")
	assert.EqualError(t, err, "wxtoken: "+want)
	stored, err := c.CompareAndSwap(t.Context(), "key", nil, []byte("new"), time.Hour)
	assert.False(t, stored)
	assert.EqualError(t, err, "wxtoken: "+want)

	fetcher := wxtoken.FetcherFunc("app", func(context.Context) (wxtoken.Token, error) {
		return wxtoken.Token{Value: "t", ExpiresAt: time.Now().Add(time.Hour)}, nil
	})
	_, err = wxtoken.New(fetcher, &c).Token(t.Context())
	assert.ErrorIs(t, err, wxtoken.ErrCacheUnavailable)
	assert.ErrorContains(t, err, want)
	files, err := os.ReadDir(".")
	assert.NoError(t, err)
	assert.Empty(t, files)
}

// The record is there for other processes, and its token in no error.
func TestFileCacheErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	cache := wxtoken.NewFileCache(filepath.Join(file, "dir"))
	_, get := cache.Get(t.Context(), "key")
	_, swap := cache.CompareAndSwap(t.Context(), "key", nil, []byte("72_q3Nf"), time.Minute)
	for _, err := range []error{get, swap} {
		assert.ErrorContains(t, err, `wxtoken: file, key "key": `)
		assert.ErrorContains(t, err, file)
		assert.NotErrorIs(t, err, wxtoken.ErrCacheMiss)
		assert.NotContains(t, err.Error(), "72_")
	}
}

func TestNewRedisCachePanicsOnWhatCannotWork(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer client.Close()
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"shard": "127.0.0.1:1"}})
	defer ring.Close()
	for name, test := range map[string]struct {
		client wxtoken.RedisClient
		want   string
	}{
		"nil":            {nil, "wxtoken: NewRedisCache: the client is nil"},
		"a ring":         {ring, "two clients of a *redis.Ring can pick different shards for one key"},
		"a pipeline":     {client.Pipeline(), "a redis.Pipeliner sends nothing until Exec"},
		"a transaction":  {client.TxPipeline(), "a redis.Pipeliner sends nothing until Exec"},
		"inside a Watch": {new(redis.Tx), "a *redis.Tx ends with the function that it was given to"},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() { assert.Contains(t, recover(), test.want) }()
			wxtoken.NewRedisCache(test.client)
		})
	}
}

// answering is a client that has one error for every command.
type answering struct {
	redis.Scripter
	err error
}

func (a answering) Get(context.Context, string) *redis.StringCmd {
	return redis.NewStringResult("", a.err)
}

func (a answering) Eval(context.Context, string, []string, ...any) *redis.Cmd {
	return redis.NewCmdResult(nil, a.err)
}

// From 9.18 on, go-redis says that no sentinel knows the master by an error that
// wraps redis.Nil among others: that is no miss.
func TestRedisCacheTellsAMissFromAnUnknownMaster(t *testing.T) {
	unknown := fmt.Errorf("redis: all sentinels specified in configuration are unreachable: %w", errors.Join(redis.Nil, redis.Nil))
	for err, miss := range map[error]bool{redis.Nil: true, fmt.Errorf("tracing: %w", redis.Nil): true, unknown: false} {
		cache := wxtoken.NewRedisCache(answering{err: err})
		_, got := cache.Get(t.Context(), "key")
		assert.Equal(t, miss, got == wxtoken.ErrCacheMiss, "%v", got)
		stored, got := cache.CompareAndSwap(t.Context(), "key", nil, []byte("new"), time.Minute)
		assert.False(t, stored)
		assert.Error(t, got, "a script never answers nil")
		assert.NotErrorIs(t, got, wxtoken.ErrCacheMiss)
	}
}

// The rights that docs/operations.md asks for in another database and in a
// cluster are needed, and enough.
func TestRedisRights(t *testing.T) {
	t.Parallel()
	allow := func(addr, more string) {
		args := []any{"ACL", "SETUSER", "app", "on", ">password", "resetkeys", "~*", "resetchannels", "-@all", "+get", "+set", "+eval"}
		for _, right := range strings.Fields(more) {
			args = append(args, right)
		}
		require.NoError(t, redisClient(t, addr).Do(t.Context(), args...).Err())
	}
	t.Run("another database", func(t *testing.T) {
		server := servers.Redis(t)
		for rights, works := range map[string]bool{"": false, "+select": true} {
			allow(server.Addr(), rights)
			client := redis.NewClient(&redis.Options{Addr: server.Addr(), DB: 1, Username: "app", Password: "password", MaxRetries: -1})
			_, err := wxtoken.NewRedisCache(client).CompareAndSwap(t.Context(), "key", nil, []byte("value"), time.Minute)
			assert.Equal(t, works, err == nil, "%v", err)
			require.NoError(t, client.Close())
		}
	})
	// A slot that is being moved has its keys on two masters: what is absent on one is
	// asked of the other.
	t.Run("cluster, while a slot moves", func(t *testing.T) {
		group := servers.Cluster(t)
		for _, addr := range group.Addrs() {
			allow(addr, "+cluster|slots +asking")
		}
		client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: group.Addrs(), Username: "app", Password: "password"})
		defer client.Close()
		cache := wxtoken.NewRedisCache(client)
		mustSwap(t, cache, "{slot}1", nil, []byte("one"), time.Minute)
		group.MoveSlot("{slot}1", func() {
			mustSwap(t, cache, "{slot}1", []byte("one"), []byte("two"), time.Minute)
			mustSwap(t, cache, "{slot}2", nil, []byte("new"), time.Minute)
			mustSwap(t, cache, "{slot}2", []byte("new"), []byte("newer"), time.Minute)
		})
		mustHold(t, cache, "{slot}1", "two")
		mustHold(t, cache, "{slot}2", "newer")
		mustSwap(t, cache, "{slot}1", []byte("two"), []byte("three"), time.Minute)
	})
}

// A server that lacks a command repeats its arguments, a record among them.
func TestRedisCacheErrorsShowNoRecord(t *testing.T) {
	server := servers.Redis(t, "--rename-command", "EVAL", "")
	cache := wxtoken.NewRedisCache(redisClient(t, server.Addr()))
	record := []byte(`{"v":1,"token":"72_q3Nf-xK0vZr8"}`)
	_, err := cache.CompareAndSwap(t.Context(), "key", record, record, time.Minute)
	assert.ErrorContains(t, err, `wxtoken: redis, key "key": ERR unknown command 'eval', with args beginning with: `)
	assert.ErrorContains(t, err, "(the server, or a proxy before it, lacks a command that is needed: GET, SET and EVAL)")
	assert.NotContains(t, fmt.Sprintf("%+v %#v", err, err), "72_")

	_, err = wxtoken.NewRedisCache(answering{err: errors.New("redis: can't parse \"72_q3Nf-xK0vZr8\"")}).Get(t.Context(), "key")
	assert.EqualError(t, err, `wxtoken: redis, key "key": redis: can't parse …`)
}

// The errors of a client that is set up wrongly come with the remedy.
func TestRedisCacheSaysWhatIsWrong(t *testing.T) {
	plain := servers.Redis(t)
	password := servers.Redis(t, "--requirepass", "hunter2")
	full := servers.Redis(t, "--maxmemory", "1mb", "--maxmemory-policy", "noeviction")
	cluster := servers.Redis(t, "--cluster-enabled", "yes")
	replica := servers.Redis(t)
	// Of a master that does not answer: while a replica loads the data of one, it has another error.
	require.NoError(t, redisClient(t, replica.Addr()).Do(t.Context(), "REPLICAOF", "127.0.0.1", servers.SparePort()).Err())
	closing := servers.Proxy(t, plain.Addr())
	closing.Cut()
	for name, test := range map[string]struct {
		options redis.Options
		want    string
	}{
		"no password":      {redis.Options{Addr: password.Addr()}, "(the client gave no password)"},
		"wrong password":   {redis.Options{Addr: password.Addr(), Password: "x"}, "(user name or password is wrong)"},
		"full":             {redis.Options{Addr: full.Addr()}, "its policy is noeviction"},
		"a database more":  {redis.Options{Addr: plain.Addr(), DB: 99}, "ERR DB index is out of range"},
		"a cluster's node": {redis.Options{Addr: cluster.Addr()}, "CLUSTERDOWN Hash slot not served"},
		"a replica":        {redis.Options{Addr: replica.Addr()}, "(the server is a replica: use the master)"},
		"closed at once":   {redis.Options{Addr: closing.Addr()}, "(the other side closed the connection"},
		"nobody listens":   {redis.Options{Addr: "127.0.0.1:1"}, "dial tcp 127.0.0.1:1: connect: connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			test.options.MaxRetries, test.options.ContextTimeoutEnabled = -1, true
			client := redis.NewClient(&test.options)
			defer client.Close()
			cache := wxtoken.NewRedisCache(client)
			_, err := cache.CompareAndSwap(t.Context(), "key", nil, []byte("value"), time.Minute)
			for i := 0; err == nil && i < 10_000; i++ { // until the memory is full
				_, err = cache.CompareAndSwap(t.Context(), fmt.Sprint(i), nil, make([]byte, 1<<10), time.Minute)
			}
			assert.ErrorContains(t, err, test.want)
		})
	}
}

// What is stored is a plain string with a time to live, for readers in other
// languages, and a ttl below Redis's millisecond is not one of nothing. What holds
// another type is left alone.
func TestRedisCacheStoresAPlainString(t *testing.T) {
	client := redisClient(t, servers.Redis(t).Addr())
	cache := wxtoken.NewRedisCache(client)
	mustSwap(t, cache, "key", nil, []byte("value"), 2*time.Hour)
	assert.Equal(t, "value", client.Get(t.Context(), "key").Val())
	assert.InDelta(t, 2*time.Hour, client.PTTL(t.Context(), "key").Val(), float64(time.Minute))
	mustSwap(t, cache, "brief", nil, []byte("value"), time.Nanosecond)
	mustSwap(t, cache, "old", nil, []byte("value"), math.MaxInt64)

	require.NoError(t, client.LPush(t.Context(), "list", "a", "b").Err())
	_, err := cache.Get(t.Context(), "list")
	assert.ErrorContains(t, err, `wxtoken: redis, key "list": WRONGTYPE`)
	for _, old := range [][]byte{nil, []byte("a")} {
		stored, err := cache.CompareAndSwap(t.Context(), "list", old, []byte("new"), time.Minute)
		assert.False(t, stored)
		assert.ErrorContains(t, err, "WRONGTYPE")
		assert.NotErrorIs(t, err, wxtoken.ErrCacheMiss)
	}
	assert.Equal(t, []string{"b", "a"}, client.LRange(t.Context(), "list", 0, -1).Val())
}

func TestRedisCacheAfterARestart(t *testing.T) {
	server := servers.Redis(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer client.Close()
	cache := wxtoken.NewRedisCache(client)
	mustSwap(t, cache, "key", nil, []byte("one"), time.Minute)
	require.NoError(t, client.ScriptFlush(t.Context()).Err())
	mustSwap(t, cache, "key", []byte("one"), []byte("two"), time.Minute)

	server.Restart() // empty: its data is gone
	mustSwap(t, cache, "key", nil, []byte("three"), time.Minute)
}

// The one hole in go-redis's answers, as RedisCache documents it.
func TestRedisCacheWhenTheReplyIsLost(t *testing.T) {
	server := servers.Redis(t)
	proxy := servers.Proxy(t, server.Addr())
	for name, retries := range map[string]int{"no-retries": -1, "retries": 3} {
		t.Run(name, func(t *testing.T) {
			client := redis.NewClient(&redis.Options{Addr: proxy.Addr(), MaxRetries: retries})
			defer client.Close()
			cache := wxtoken.NewRedisCache(client)
			mustSwap(t, cache, name, nil, []byte("one"), time.Minute)

			proxy.DropReplies(1)
			stored, err := cache.CompareAndSwap(t.Context(), name, []byte("one"), []byte("two"), time.Minute)
			assert.False(t, stored)
			assert.Equal(t, retries < 0, err != nil, "%v", err)
			mustHold(t, cache, name, "two")
		})
	}
}

// A store that cannot answer is an error, at the end of ctx at the latest, and never
// a miss. gomemcache waits as long as its Timeout says, the cache no longer than ctx.
func TestCachesWithoutAServer(t *testing.T) {
	for name, test := range map[string]struct {
		start func(tb servers.TB, args ...string) *servers.Server
		open  func(t *testing.T, addr string) wxtoken.Cache
	}{
		"Redis": {servers.Redis, func(t *testing.T, addr string) wxtoken.Cache { return wxtoken.NewRedisCache(redisClient(t, addr)) }},
		"Memcached": {servers.Memcached, func(t *testing.T, addr string) wxtoken.Cache {
			return wxtoken.NewMemcachedCache(memcachedClient(t, addr))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			server := test.start(t)
			proxy := servers.Proxy(t, server.Addr())
			cache := test.open(t, proxy.Addr())
			mustSwap(t, cache, "key", nil, []byte("value"), time.Minute)

			proxy.BlackHole()
			failsSoon(t, cache)
			proxy.Heal()
			server.Kill()
			failsSoon(t, cache)
		})
	}
}

func mustSwap(t *testing.T, cache wxtoken.Cache, key string, old, new []byte, ttl time.Duration) {
	t.Helper()
	stored, err := cache.CompareAndSwap(t.Context(), key, old, new, ttl)
	require.NoError(t, err)
	require.True(t, stored)
}

func mustHold(t *testing.T, cache wxtoken.Cache, key, want string) {
	t.Helper()
	got, err := cache.Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, want, string(got))
}

func failsSoon(t *testing.T, cache wxtoken.Cache) {
	t.Helper()
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := cache.Get(ctx, "key")
	require.Error(t, err)
	assert.NotErrorIs(t, err, wxtoken.ErrCacheMiss)
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = cache.CompareAndSwap(ctx, "key", []byte("value"), []byte("new"), time.Minute)
	assert.Error(t, err)
	assert.Less(t, time.Since(start), clientTimeout/2)
}

// What is stored is a plain item with flags 0, for readers in other languages;
// and their items can be read and replaced.
func TestMemcachedCacheStoresAPlainItem(t *testing.T) {
	client := memcachedClient(t, servers.Memcached(t).Addr())
	cache := wxtoken.NewMemcachedCache(client)
	require.NoError(t, client.Set(&memcache.Item{Key: "key", Value: []byte("theirs"), Flags: 7}))
	mustHold(t, cache, "key", "theirs")
	mustSwap(t, cache, "key", []byte("theirs"), []byte("ours"), time.Minute)
	item, err := client.Get("key")
	require.NoError(t, err)
	assert.Equal(t, "ours", string(item.Value))
	assert.Zero(t, item.Flags)
}

func TestMemcachedCacheExpiration(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	addr := servers.Memcached(t).Addr()
	cache := wxtoken.NewMemcachedCache(memcachedClient(t, addr))
	for i, test := range []struct{ ttl, lives time.Duration }{
		{1, 2 * time.Second}, // a second more than asked, for it may end one early
		{time.Second, 2 * time.Second},
		{time.Second + 1, 3 * time.Second},
		{7200 * time.Second, 7201 * time.Second},
		{30*day - time.Second, 30 * day},
		{30 * day, 30*day + time.Second}, // past 30 days, sent as a unix time
		{365 * day, 365*day + time.Second},
		{math.MaxInt64, time.Until(time.Unix(math.MaxInt32, 0))}, // the largest there is
	} {
		left, slow := 0.0, true
		for try := 0; slow && try < 100; try++ { // on a busy machine, the item's life goes on meanwhile
			key, start := fmt.Sprintf("key%d-%d", i, try), time.Now()
			mustSwap(t, cache, key, nil, []byte("value"), test.ttl)
			left = memcachedTTL(t, addr, key)
			slow = time.Since(start) > 500*time.Millisecond
		}
		assert.InDelta(t, test.lives.Seconds(), left, 2, "ttl %v", test.ttl)
		if test.lives <= 30*day { // no clock but Memcached's is in it, which ticks once a second
			assert.LessOrEqual(t, left, test.lives.Seconds(), "ttl %v", test.ttl)
		}
	}
}

// memcachedTTL asks the server how many seconds key has left: 0 if its life is over.
func memcachedTTL(t *testing.T, addr, key string) (seconds float64) {
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "mg %s t\r\n", key)
	require.NoError(t, err)
	line, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	if line == "EN\r\n" {
		return 0
	}
	_, err = fmt.Sscanf(line, "HD t%g", &seconds)
	require.NoError(t, err, "%q", line)
	return seconds
}

// A restart leaves the client with dead connections, however many are idle: no
// call may fail for it.
func TestMemcachedCacheAfterARestart(t *testing.T) {
	t.Parallel()
	server := servers.Memcached(t)
	client := memcachedClient(t, server.Addr())
	client.MaxIdleConns = 20
	cache := wxtoken.NewMemcachedCache(client)
	swap := func(key string, old []byte) (bool, error) {
		return cache.CompareAndSwap(t.Context(), key, old, []byte("value"), time.Minute)
	}
	for _, first := range []func() (bool, error){
		func() (bool, error) { return swap("key", nil) },
		func() (bool, error) { _, err := cache.Get(t.Context(), "key"); return err == wxtoken.ErrCacheMiss, nil },
		func() (bool, error) { ok, err := swap("key", []byte("value")); return !ok, err }, // a restart loses what was stored
	} {
		together(client.MaxIdleConns, func(i int) {
			_, err := swap(fmt.Sprint(i), nil)
			assert.NoError(t, err)
		})
		server.Restart()
		ok, err := first()
		assert.NoError(t, err)
		assert.True(t, ok)
	}
}

// A write whose reply is lost may have stored. It is not sent again, because a
// second that stores nothing would say nothing about the first.
func TestMemcachedCacheWhenTheReplyIsLost(t *testing.T) {
	addr := servers.Memcached(t).Addr()
	client := memcachedClient(t, addr)
	cache := wxtoken.NewMemcachedCache(client)
	tap := tapOn(client)

	tap.loseReply("add ")
	_, err := cache.CompareAndSwap(t.Context(), "key", nil, []byte("one"), time.Minute)
	assert.ErrorIs(t, err, io.EOF)
	mustHold(t, cache, "key", "one")

	tap.loseReply("cas ")
	_, err = cache.CompareAndSwap(t.Context(), "key", []byte("one"), []byte("two"), time.Minute)
	assert.ErrorIs(t, err, io.EOF)

	tap.loseReply("gets ")
	mustHold(t, cache, "key", "two")
	assert.Equal(t, 1, tap.sent("add "))
	assert.Equal(t, 1, tap.sent("cas "))
}

// Between the read and the write of a swap, somebody else may write.
func TestMemcachedCacheWhenAnotherWritesInBetween(t *testing.T) {
	addr := servers.Memcached(t).Addr()
	client, rival := memcachedClient(t, addr), memcachedClient(t, addr)
	cache := wxtoken.NewMemcachedCache(client)
	tap := tapOn(client)
	set := func(value string) func() {
		return func() { assert.NoError(t, rival.Set(&memcache.Item{Key: "key", Value: []byte(value)})) }
	}
	for name, test := range map[string]struct {
		verb  string
		rival func()
		want  bool
	}{
		"other bytes":    {"cas ", set("theirs"), false},
		"the same bytes": {"cas ", set("old"), true}, // old was there all the time
		"deletes":        {"cas ", func() { assert.NoError(t, rival.Delete("key")) }, false},
		"adds":           {"add ", set("theirs"), false},
	} {
		t.Run(name, func(t *testing.T) {
			old := []byte("old")
			if test.verb == "add " {
				old = nil
				_ = rival.Delete("key")
			} else {
				set("old")()
			}
			tap.before(test.verb, test.rival)
			stored, err := cache.CompareAndSwap(t.Context(), "key", old, []byte("new"), time.Minute)
			assert.NoError(t, err)
			assert.Equal(t, test.want, stored)
		})
	}
}

// A write that ctx cut short may still take effect, but only with the bytes
// that were passed: the caller is free to use the slice for something else.
func TestMemcachedCacheWhenCtxEndsInAWrite(t *testing.T) {
	client := memcachedClient(t, servers.Memcached(t).Addr())
	cache := wxtoken.NewMemcachedCache(client)
	tap := tapOn(client)
	mustSwap(t, cache, "key", nil, []byte("old"), time.Minute)

	ctx, cancel := context.WithCancel(t.Context())
	goOn := make(chan struct{})
	tap.before("cas ", func() {
		cancel()
		<-goOn
	})
	value := bytes.Repeat([]byte("v"), 64<<10) // too large to be in a buffer by now
	want := string(value)
	_, err := cache.CompareAndSwap(ctx, "key", []byte("old"), value, time.Minute)
	assert.ErrorIs(t, err, context.Canceled)
	clear(value)
	close(goOn)
	require.Eventually(t, func() bool {
		got, err := cache.Get(t.Context(), "key")
		return err == nil && string(got) == want
	}, clientTimeout, 5*time.Millisecond)
}

func TestMemcachedCacheSaysWhatIsMissing(t *testing.T) {
	_, err := wxtoken.NewMemcachedCache(memcache.New()).Get(t.Context(), "key")
	assert.ErrorContains(t, err, `wxtoken: memcached, key "key": memcache: no servers configured`)
	_, err = wxtoken.NewMemcachedCache(new(memcache.Client)).Get(t.Context(), "key") // not made by memcache.New
	assert.ErrorContains(t, err, "panicked")

	cache := wxtoken.NewMemcachedCache(memcachedClient(t, servers.Memcached(t, "-C").Addr()))
	mustSwap(t, cache, "key", nil, []byte("old"), time.Minute)
	_, err = cache.CompareAndSwap(t.Context(), "key", []byte("old"), []byte("new"), time.Minute)
	assert.ErrorContains(t, err, "the server has no cas ids: start it without -C")
}

// A tap sits on a client's connections and acts at the next request with a verb.
type tap struct {
	mu       sync.Mutex
	verb     string
	act      func()
	lose     bool
	requests []string
}

func tapOn(client *memcache.Client) *tap {
	tap := new(tap)
	client.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		return &tappedConn{Conn: conn, tap: tap}, err
	}
	return tap
}

// before calls act before the next request with verb is sent.
func (p *tap) before(verb string, act func()) { p.set(verb, act, false) }

// loseReply ends the connection in place of the reply to the next request with verb.
func (p *tap) loseReply(verb string) { p.set(verb, func() {}, true) }

func (p *tap) set(verb string, act func(), lose bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.verb, p.act, p.lose = verb, act, lose
}

// sent counts the requests with verb.
func (p *tap) sent(verb string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.requests {
		if strings.HasPrefix(r, verb) {
			n++
		}
	}
	return n
}

type tappedConn struct {
	net.Conn
	tap  *tap
	lose bool
}

func (c *tappedConn) Write(request []byte) (int, error) {
	c.tap.mu.Lock()
	defer c.tap.mu.Unlock()
	c.tap.requests = append(c.tap.requests, string(request))
	if c.tap.act != nil && bytes.HasPrefix(request, []byte(c.tap.verb)) {
		c.tap.act()
		c.lose, c.tap.act = c.tap.lose, nil
	}
	return c.Conn.Write(request)
}

func (c *tappedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.lose && err == nil {
		return 0, io.EOF
	}
	return n, err
}

// Where the client shows why a call came late, its error says so, whether the
// client respects ctx or not.
func TestLateCallsSayWhy(t *testing.T) {
	hung, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never answers
	require.NoError(t, err)
	server := servers.Redis(t)
	const long = time.Minute // beside the 100 ms of a call
	tests := map[string]struct {
		client redis.UniversalClient
		busy   bool // its one connection is in use
		want   string
	}{
		"pool used up": {redis.NewClient(&redis.Options{Addr: server.Addr(), PoolSize: 1}), true,
			"(redis: all 1 connections of the client's pool are in use: raise PoolSize, or find what keeps them)"},
		"TLS on a plain port": {redis.NewClient(&redis.Options{Addr: hung.Addr().String(), TLSConfig: &tls.Config{}, DialTimeout: long, MaxRetries: -1}), false,
			fmt.Sprintf("(redis: no connection to %s is ready: is it reachable, and does the port expect TLS?)", hung.Addr())},
		"hung server": {redis.NewClient(&redis.Options{Addr: hung.Addr().String(), DialTimeout: long, ReadTimeout: long, MaxRetries: -1}), false,
			fmt.Sprintf("(redis: no connection to %s is ready: is it reachable, and does it answer without TLS?)", hung.Addr())},
		"hung sentinel": {redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{hung.Addr().String()}, DialTimeout: long, ReadTimeout: long, MaxRetries: -1}), false,
			"(redis: no connection yet: perhaps a sentinel hangs; keep DialTimeout and ReadTimeout well under the 2 s that a call has)"},
		"hung cluster": {redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{hung.Addr().String()}, DialTimeout: long, ReadTimeout: long, MaxRedirects: -1}), false, ""},
	}
	t.Cleanup(func() {
		_ = hung.Close() // which ends what waits for it
		for _, test := range tests {
			_ = test.client.Close()
		}
	})
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.busy {
				conn := test.client.(*redis.Client).Conn()
				require.NoError(t, conn.Ping(t.Context()).Err())
				defer conn.Close()
			}
			src := wxtoken.New(&countingFetcher{}, wxtoken.NewRedisCache(test.client), wxtoken.WithFetchTimeout(500*time.Millisecond)) // a call has 100 ms
			_, err := src.Token(t.Context())
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			if test.want == "" {
				assert.NotContains(t, err.Error(), "(redis: ")
				return
			}
			assert.ErrorContains(t, err, test.want)
		})
	}
}
