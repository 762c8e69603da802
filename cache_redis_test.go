package wxtoken_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/cachetest"
	"github.com/wxtoken/wxtoken/internal/servers"
)

func TestNewRedisCacheRefusesWhatCannotWork(t *testing.T) {
	var notYetMade *redis.Client // a global that main was to set
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer client.Close()
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"shard": "127.0.0.1:1"}})
	defer ring.Close()
	for name, test := range map[string]struct {
		client wxtoken.RedisClient
		want   string
	}{
		"nil":            {nil, "wxtoken: NewRedisCache: the client is nil"},
		"a nil client":   {notYetMade, "wxtoken: NewRedisCache: the client is nil"},
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
	unknown := fmt.Errorf("redis: all sentinels specified in configuration are unreachable: %w", errors.Join(redis.Nil, redis.Nil, redis.Nil))
	for name, test := range map[string]struct {
		err  error
		miss bool
	}{
		"plain":             {redis.Nil, true},
		"behind a hook":     {fmt.Errorf("tracing: %w", redis.Nil), true},
		"behind two hooks":  {fmt.Errorf("metrics: %w", fmt.Errorf("tracing: %w", redis.Nil)), true},
		"unknown master":    {unknown, false},
		"the same, wrapped": {fmt.Errorf("tracing: %w", unknown), false},
		"of one sentinel":   {errors.Join(redis.Nil), false},
		"down as well":      {fmt.Errorf("%w, %w", redis.Nil, io.EOF), false},
	} {
		t.Run(name, func(t *testing.T) {
			cache := wxtoken.NewRedisCache(answering{err: test.err})
			_, err := cache.Get(t.Context(), "key")
			assert.Equal(t, test.miss, errors.Is(err, wxtoken.ErrCacheMiss), "%v", err)
			assert.Equal(t, test.miss, err == wxtoken.ErrCacheMiss)
			stored, err := cache.CompareAndSwap(t.Context(), "key", nil, []byte("new"), time.Minute)
			assert.False(t, stored)
			assert.Error(t, err, "a script never answers nil")
			assert.NotErrorIs(t, err, wxtoken.ErrCacheMiss)
		})
	}
}

// Some servers and proxies have no EVALSHA.
func TestRedisCacheNeedsOnlyGetSetAndEval(t *testing.T) {
	server := servers.Redis(t, "--rename-command", "EVALSHA", "")
	client := redisClient(t, server.Addr())
	require.NoError(t, client.Do(t.Context(), "ACL", "SETUSER", "app", "on", ">password", "+get", "+set", "+eval", "~*").Err())
	limited := redis.NewClient(&redis.Options{Addr: server.Addr(), Username: "app", Password: "password", MaxRetries: -1})
	t.Cleanup(func() { require.NoError(t, limited.Close()) })
	cachetest.Run(t, func(*testing.T) wxtoken.Cache { return wxtoken.NewRedisCache(limited) })
}

// The rights that docs/operations.md asks for in another database and in a
// cluster are needed, and enough.
func TestRedisRights(t *testing.T) {
	t.Parallel()
	const needed = "ACL SETUSER app on >password resetkeys ~* resetchannels -@all +get +set +eval "
	allow := func(addr, more string) {
		client := redisClient(t, addr)
		require.NoError(t, client.Do(t.Context(), anys(strings.Fields(needed+more))...).Err())
	}
	t.Run("another database", func(t *testing.T) {
		server := servers.Redis(t)
		for _, test := range []struct {
			rights string
			works  bool
		}{{"", false}, {"+select", true}} {
			allow(server.Addr(), test.rights)
			client := redis.NewClient(&redis.Options{Addr: server.Addr(), DB: 1, Username: "app", Password: "password", MaxRetries: -1})
			_, err := wxtoken.NewRedisCache(client).CompareAndSwap(t.Context(), "key", nil, []byte("value"), time.Minute)
			assert.Equal(t, test.works, err == nil, "%v", err)
			require.NoError(t, client.Close())
		}
	})
	t.Run("cluster", func(t *testing.T) {
		group := servers.Cluster(t)
		for _, addr := range group.Addrs() {
			allow(addr, "+cluster|slots +asking")
		}
		client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: group.Addrs(), Username: "app", Password: "password"})
		defer client.Close()
		cache := wxtoken.NewRedisCache(client)
		mustSwap(t, cache, "{slot}1", nil, []byte("one"), time.Minute)
		group.MoveSlot("{slot}1", func() { mustSwap(t, cache, "{slot}2", nil, []byte("new"), time.Minute) })
		mustHold(t, cache, "{slot}1", "one")
	})
}

func anys(words []string) (all []any) {
	for _, w := range words {
		all = append(all, w)
	}
	return all
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

// What a client says by itself when it is set up wrongly is told with the remedy.
func TestRedisCacheSaysWhatIsWrong(t *testing.T) {
	plain := servers.Redis(t)
	password := servers.Redis(t, "--requirepass", "hunter2")
	full := servers.Redis(t, "--maxmemory", "1mb", "--maxmemory-policy", "noeviction")
	cluster := servers.Redis(t, "--cluster-enabled", "yes")
	replica := servers.Redis(t)
	host, port, _ := net.SplitHostPort(plain.Addr())
	require.NoError(t, redisClient(t, replica.Addr()).Do(t.Context(), "REPLICAOF", host, port).Err())
	closing := listener(t, func(c net.Conn) { _ = c.Close() })
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
		"closed at once":   {redis.Options{Addr: closing}, "(the other side closed the connection"},
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

// listener accepts connections and hands them to serve, until the test ends.
func listener(t *testing.T, serve func(net.Conn)) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serve(conn)
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
	return l.Addr().String()
}

// What is stored is a plain string with a time to live, for readers in other
// languages, and a ttl below Redis's millisecond is not one of nothing.
func TestRedisCacheStoresAPlainString(t *testing.T) {
	client := redisClient(t, servers.Redis(t).Addr())
	cache := wxtoken.NewRedisCache(client)
	mustSwap(t, cache, "key", nil, []byte("value"), 2*time.Hour)
	assert.Equal(t, "value", client.Get(t.Context(), "key").Val())
	assert.InDelta(t, 2*time.Hour, client.PTTL(t.Context(), "key").Val(), float64(time.Minute))

	mustSwap(t, cache, "brief", nil, []byte("value"), time.Nanosecond)
	mustSwap(t, cache, "old", nil, []byte("value"), math.MaxInt64)
}

func TestRedisCacheLeavesAForeignTypeAlone(t *testing.T) {
	client := redisClient(t, servers.Redis(t).Addr())
	cache := wxtoken.NewRedisCache(client)
	require.NoError(t, client.LPush(t.Context(), "key", "a", "b").Err())

	_, err := cache.Get(t.Context(), "key")
	assert.ErrorContains(t, err, `wxtoken: redis, key "key": WRONGTYPE`)
	for _, old := range [][]byte{nil, []byte("a")} {
		stored, err := cache.CompareAndSwap(t.Context(), "key", old, []byte("new"), time.Minute)
		assert.False(t, stored)
		assert.ErrorContains(t, err, "WRONGTYPE")
		assert.NotErrorIs(t, err, wxtoken.ErrCacheMiss)
	}
	assert.Equal(t, []string{"b", "a"}, client.LRange(t.Context(), "key", 0, -1).Val())
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

func TestRedisCacheWithoutAServer(t *testing.T) {
	server := servers.Redis(t)
	proxy := servers.Proxy(t, server.Addr())
	cache := wxtoken.NewRedisCache(redisClient(t, proxy.Addr()))
	mustSwap(t, cache, "key", nil, []byte("value"), time.Minute)

	proxy.BlackHole()
	failsSoon(t, cache)
	proxy.Heal()

	server.Kill()
	failsSoon(t, cache)
}

// A slot that is being moved has its keys on two masters: what is absent on one
// is asked of the other.
func TestRedisCacheWhileASlotMoves(t *testing.T) {
	t.Parallel()
	group := servers.Cluster(t)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: group.Addrs()})
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

// failsSoon expects a store that cannot answer to be an error, at the end of
// ctx at the latest, and never a miss.
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
	assert.Less(t, time.Since(start), time.Second)
}
