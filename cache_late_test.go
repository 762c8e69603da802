package wxtoken

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/servers"
)

// Where the client shows why a call came late, its error says so, whether the
// client heeds ctx or not.
func TestLateCallsSayWhy(t *testing.T) {
	hung, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never answers
	require.NoError(t, err)
	defer hung.Close()
	server := servers.Redis(t)
	const brief = 300 * time.Millisecond // else the end of the test waits for the clients
	for name, test := range map[string]struct {
		client *redis.Client
		busy   bool // its one connection is in use
		want   string
	}{
		"pool used up": {redis.NewClient(&redis.Options{Addr: server.Addr(), PoolSize: 1}), true,
			"(redis: all 1 connections of the client's pool are in use: raise PoolSize, or find what keeps them)"},
		"TLS on a plain port": {redis.NewClient(&redis.Options{Addr: hung.Addr().String(), TLSConfig: &tls.Config{}, DialTimeout: brief, MaxRetries: -1}), false,
			fmt.Sprintf("(redis: no connection to %s is ready: is it reachable, and does the port expect TLS?)", hung.Addr())},
		"hung server": {redis.NewClient(&redis.Options{Addr: hung.Addr().String(), DialTimeout: brief, ReadTimeout: brief, MaxRetries: -1}), false,
			fmt.Sprintf("(redis: no connection to %s is ready: is it reachable, and does it answer without TLS?)", hung.Addr())},
		"hung sentinel": {redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{hung.Addr().String()}, DialTimeout: brief, ReadTimeout: brief, MaxRetries: -1}), false,
			"(redis: no connection yet: perhaps a sentinel hangs; keep DialTimeout and ReadTimeout well under the 2 s that a call has)"},
	} {
		t.Run(name, func(t *testing.T) {
			defer test.client.Close()
			if test.busy {
				conn := test.client.Conn()
				require.NoError(t, conn.Ping(t.Context()).Err())
				defer conn.Close()
			}
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_, err := cacheGet(ctx, NewRedisCache(test.client), "key")
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.ErrorContains(t, err, test.want)
			_, err = cacheSwap(ctx, NewRedisCache(test.client), "key", nil, nil, time.Minute)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
		})
	}

	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{hung.Addr().String()}})
	defer cluster.Close()
	assert.Empty(t, NewRedisCache(cluster).whyLate())
	assert.NoError(t, late(t.Context(), NewMemoryCache(), nil))
	plain := redis.NewClient(&redis.Options{Addr: hung.Addr().String()})
	defer plain.Close()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	refused := errors.New("refused")
	assert.Equal(t, refused, late(ended, NewRedisCache(plain), refused), "it was not late")
}
