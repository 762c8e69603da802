package wxtoken_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/servers"
)

func TestNewMemcachedCacheRefusesNil(t *testing.T) {
	assert.PanicsWithValue(t, "wxtoken: NewMemcachedCache: the client is nil", func() { wxtoken.NewMemcachedCache(nil) })
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
		key := fmt.Sprintf("key%d", i)
		mustSwap(t, cache, key, nil, []byte("value"), test.ttl)
		assert.InDelta(t, test.lives.Seconds(), memcachedTTL(t, addr, key), 2, "ttl %v", test.ttl)
		if test.lives <= 30*day { // no clock but Memcached's is in it, which ticks once a second
			assert.LessOrEqual(t, memcachedTTL(t, addr, key), test.lives.Seconds(), "ttl %v", test.ttl)
		}
	}
}

// memcachedTTL asks the server how many seconds key has left.
func memcachedTTL(t *testing.T, addr, key string) (seconds float64) {
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "mg %s t\r\n", key)
	require.NoError(t, err)
	line, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	_, err = fmt.Sscanf(line, "HD t%g", &seconds)
	require.NoError(t, err, "%q", line)
	return seconds
}

// A restart leaves the client with dead connections, however many are idle: no
// call may fail for it.
func TestMemcachedCacheAfterARestart(t *testing.T) {
	server := servers.Memcached(t)
	client := memcachedClient(t, server.Addr())
	client.MaxIdleConns = 20
	cache := wxtoken.NewMemcachedCache(client)
	fill := func() {
		var calls sync.WaitGroup
		for i := range client.MaxIdleConns {
			calls.Go(func() {
				_, err := cache.CompareAndSwap(t.Context(), fmt.Sprintf("%d", i), nil, []byte("value"), time.Minute)
				assert.NoError(t, err)
			})
		}
		calls.Wait()
	}

	fill()
	server.Restart()
	mustSwap(t, cache, "key", nil, []byte("value"), time.Minute)

	fill()
	server.Restart()
	_, err := cache.Get(t.Context(), "key")
	assert.ErrorIs(t, err, wxtoken.ErrCacheMiss)

	fill()
	server.Restart()
	stored, err := cache.CompareAndSwap(t.Context(), "key", []byte("value"), []byte("new"), time.Minute)
	assert.NoError(t, err)
	assert.False(t, stored, "a restart loses what was stored")
}

// A write whose reply is lost may have stored. It is not sent again, because a
// refusal of the second would then say nothing about the first.
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

// gomemcache waits as long as its Timeout says, the cache no longer than ctx.
func TestMemcachedCacheWithoutAServer(t *testing.T) {
	server := servers.Memcached(t)
	proxy := servers.Proxy(t, server.Addr())
	client := memcachedClient(t, proxy.Addr())
	client.Timeout = 10 * time.Second
	cache := wxtoken.NewMemcachedCache(client)
	mustSwap(t, cache, "key", nil, []byte("value"), time.Minute)

	proxy.BlackHole()
	failsSoon(t, cache)
	proxy.Heal()

	server.Kill()
	failsSoon(t, cache)
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
	}, 5*time.Second, 5*time.Millisecond)
}

func TestMemcachedCacheSaysWhatIsMissing(t *testing.T) {
	t.Run("no server", func(t *testing.T) {
		_, err := wxtoken.NewMemcachedCache(memcache.New()).Get(t.Context(), "key")
		assert.ErrorContains(t, err, `wxtoken: memcached, key "key": memcache: no servers configured`)
	})
	t.Run("a client not made by New", func(t *testing.T) {
		_, err := wxtoken.NewMemcachedCache(new(memcache.Client)).Get(t.Context(), "key")
		assert.ErrorContains(t, err, "panicked")
	})
	t.Run("no cas ids", func(t *testing.T) {
		cache := wxtoken.NewMemcachedCache(memcachedClient(t, servers.Memcached(t, "-C").Addr()))
		mustSwap(t, cache, "key", nil, []byte("old"), time.Minute)
		_, err := cache.CompareAndSwap(t.Context(), "key", []byte("old"), []byte("new"), time.Minute)
		assert.ErrorContains(t, err, "the server has no cas ids: start it without -C")
	})
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
