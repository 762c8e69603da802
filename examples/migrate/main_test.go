package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/examples/internal/exampletest"
	"github.com/wxtoken/wxtoken/internal/servers"
)

// Old code keeps running during the first fetch of wxtoken and a rotation.
func TestOldReadersAlwaysFindAValidToken(t *testing.T) {
	t.Parallel()
	for name, env := range map[string]exampletest.Env{
		"redis":     {"REDIS_URL": "redis://" + servers.Redis(t).Addr()},
		"memcached": {"MEMCACHED_SERVERS": servers.Memcached(t).Addr()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { // in which no time passes while a server is asked
				out, err := env.Run(t, run)
				require.NoError(t, err)
				assert.Regexp(t, `^old code: \d{2,} calls, 0 rejected, 3 tokens seen, 1 fetch, before wxtoken\n$`, out)
			})
		})
	}
}

func TestErrorsSayWhatToSet(t *testing.T) {
	t.Parallel()
	nobody := exampletest.FreeAddr()
	for want, env := range map[string]exampletest.Env{
		"set REDIS_URL, for example":       {},
		"or MEMCACHED_SERVERS":             {"REDIS_URL": "redis://127.0.0.1:1", "MEMCACHED_SERVERS": "127.0.0.1:1"},
		"set REDIS_URL to a URL":           {"REDIS_URL": "redis://:hush/hush@127.0.0.1:1"},
		"set MEMCACHED_SERVERS to host":    {"MEMCACHED_SERVERS": "127.0.0.1"},
		"MEMCACHED_SERVERS to a server":    {"REDIS_URL": "redis://:hush@" + nobody},
		"set REDIS_URL or MEMCACHED_SERVE": {"MEMCACHED_SERVERS": nobody},
	} {
		_, err := env.Run(t, run)
		require.ErrorContains(t, err, want)
		assert.NotContains(t, err.Error(), "hush")
	}
}

// A plainStore is a store with one key that a test can read and break.
type plainStore struct {
	mu    sync.Mutex // guards what follows
	token string
	ttl   time.Duration
	err   error
}

func (p *plainStore) put(_ context.Context, token string, ttl time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.token, p.ttl = token, ttl
	}
	return p.err
}

// look returns what is stored once the Mirror has nothing more to do.
func (p *plainStore) look() (token string, ttl time.Duration) {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.token, p.ttl
}

// spoil stores another token, and makes the next write fail with err.
func (p *plainStore) spoil(token string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.token, p.err = token, err
}

// mirrored runs a Mirror of tokens that live for two hours, or for the given life.
func mirrored(t *testing.T, p *plainStore, life ...time.Duration) (src *wxtoken.Source, log *bytes.Buffer) {
	t.Helper()
	log = new(bytes.Buffer)
	mirror := NewMirror(p.put, slog.New(slog.NewTextHandler(log, nil)))
	fetches := 0
	src = wxtoken.New(wxtoken.FetcherFunc("test", func(context.Context) (wxtoken.Token, error) {
		lives := append(life, 2*time.Hour)[min(fetches, len(life))]
		fetches++
		return wxtoken.Token{Value: "token-" + string(rune('0'+fetches)), ExpiresAt: time.Now().Add(lives)}, nil
	}), nil, wxtoken.WithObserver(mirror.Observe))
	go mirror.Run(t.Context(), src)
	return src, log
}

func TestANewTokenIsMirroredAtOnceWithWhatRemains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p plainStore
		src, _ := mirrored(t, &p)
		token, ttl := p.look()
		assert.Equal(t, "token-1", token)
		assert.Equal(t, 2*time.Hour, ttl)

		time.Sleep(time.Minute + every/2)
		_, ttl = p.look()
		assert.Equal(t, 2*time.Hour-time.Minute, ttl)

		require.NoError(t, src.Invalidate(t.Context(), "token-1"))
		_, err := src.Token(t.Context())
		require.NoError(t, err)
		token, _ = p.look()
		assert.Equal(t, "token-2", token)
	})
}

func TestTheMirrorRestoresTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p plainStore
		_, log := mirrored(t, &p)
		p.look()
		p.spoil("", nil) // evicted, or overwritten by an old program
		time.Sleep(every)
		token, _ := p.look()
		assert.Equal(t, "token-1", token)

		p.spoil("", errors.New("connection refused"))
		time.Sleep(every)
		token, _ = p.look()
		assert.Empty(t, token)
		p.spoil("", nil)
		time.Sleep(every)
		token, _ = p.look()
		assert.Equal(t, "token-1", token)
		assert.Contains(t, log.String(), "connection refused")
		assert.NotContains(t, log.String(), "token-1")
	})
}

// To Redis and Memcached, a time of 0 means "forever".
func TestAnExpiringTokenIsNotMirrored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p plainStore
		mirrored(t, &p, 900*time.Millisecond)
		token, _ := p.look()
		assert.Empty(t, token)
		time.Sleep(every)
		token, ttl := p.look()
		assert.Equal(t, "token-2", token)
		assert.Positive(t, ttl)
	})
}

// The mirrored item expires with the token, so that old code never finds an expired
// one.
func TestTheItemExpiresWithTheToken(t *testing.T) {
	t.Parallel()
	const life = 2 * time.Second
	rdb := redis.NewClient(&redis.Options{Addr: servers.Redis(t).Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	mc := memcache.New(servers.Memcached(t).Addr())
	t.Cleanup(func() { _ = mc.Close() })
	for name, test := range map[string]struct {
		put func(ctx context.Context, token string, ttl time.Duration) error
		old func() (string, error)
	}{
		"redis":     {PutRedis(rdb, "access_token"), func() (string, error) { return oldRedis(t.Context(), rdb, "access_token", nil) }},
		"memcached": {PutMemcached(mc, "access_token"), func() (string, error) { return oldMemcached(mc, "access_token", nil) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			token, err := "", errNothing
			for try := 0; try < 10 && errors.Is(err, errNothing); try++ { // it may be over before a busy machine looks
				require.NoError(t, test.put(t.Context(), "token", life))
				token, err = test.old()
			}
			require.NoError(t, err)
			assert.Equal(t, "token", token)
			end := time.Now().Add(life)
			for asked := time.Now(); err == nil; time.Sleep(10 * time.Millisecond) {
				require.Less(t, asked, end.Add(2*time.Second), "a server's clock may tick late")
				asked = time.Now()
				_, err = test.old()
			}
			assert.ErrorIs(t, err, errNothing)
		})
	}
}
