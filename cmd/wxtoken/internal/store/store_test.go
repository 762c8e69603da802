package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/servers"
)

func TestAddressesAreParsed(t *testing.T) {
	for url, want := range map[string]string{
		"redis://h":                                    "redis://h:6379",
		"redis://u:p%40ss@h:1/2?max_retries=-1":        "redis://h:1/2",
		"rediss://[::1]:7":                             "rediss://[::1]:7",
		"redis+sentinel://u:p@h1:1,h2:2/master/3":      "redis+sentinel://h1:1,h2:2/master/3",
		"rediss+sentinel://h1/master":                  "rediss+sentinel://h1:26379/master",
		"redis+cluster://h1:1,h2":                      "redis+cluster://h1:1,h2:6379",
		"memcached://127.0.0.1:1,127.0.0.1?timeout=1s": "memcached://127.0.0.1:1,127.0.0.1:11211",
	} {
		s, err := Open(url)
		require.NoError(t, err, url)
		assert.Equal(t, want, s.Name)
		require.NoError(t, s.Close())
	}
}

func TestErrorsNameTheMistake(t *testing.T) {
	for url, want := range map[string]string{
		"":                             "has an unknown form",
		"127.0.0.1:6379":               "has an unknown form",
		"postgres://hush":              "has an unknown form",
		"redis://:hush/hush@h":         "%2F for /",
		"redis://:hush%zz@h":           "write %40 for @",
		"redis://u:hush@h:1/nine":      "database number",
		"redis://u:hush@h:1/0?foo=bar": "unexpected option: foo",
		"redis://u:hush@h:1#frag":      "has an unknown form",
		"redis://u:hush@h1:1,h2:2":     "redis+sentinel://",
		"redis://u:hush@":              "host 1 of the store's URL is empty",
		"redis+sentinel://u:hush@h1":   "needs the master's name",
		"redis+cluster://u:hush@h1/3":  "database 0 only",
		"redis+cluster://h1:1,,h2:1":   "host 2 of the store's URL is empty",
		"redis://h/0?read_only=true":   "unexpected option: read_only",
		"memcached://":                 "host 1 of the store's URL is empty",
		"memcached://h:1,:2":           "host 2 of the store's URL is empty",
		"memcached://u:hush@h:1":       "no user, password and path",
		"memcached://h:1?retries=3":    "one option",
		"memcached://h:1?timeout=-1s":  "one option",
		"file://relative/path":         "absolute path",
		"file:///":                     "absolute path",
		"file:///var/lib/x?mode=0600":  "no options",
	} {
		_, err := Open(url)
		require.ErrorContains(t, err, want, url)
		assert.NotContains(t, err.Error(), "hush", url)
	}
}

func TestTheOptionsReachEveryKindOfClient(t *testing.T) {
	const options = "?max_retries=-1&dial_timeout=250ms&pool_size=3"
	one, err := Open("rediss://user:p%40ss@h:1/2" + options)
	require.NoError(t, err)
	defer one.Close()
	o := one.Redis.(*redis.Client).Options()
	assert.Equal(t, []any{"user", "p@ss", 2, 250 * time.Millisecond, 3, true, "h"},
		[]any{o.Username, o.Password, o.DB, o.DialTimeout, o.PoolSize, o.ContextTimeoutEnabled, o.TLSConfig.ServerName})

	cluster, err := Open("rediss+cluster://user:p%40ss@h:1" + options)
	require.NoError(t, err)
	defer cluster.Close()
	c := cluster.Redis.(*redis.ClusterClient).Options()
	assert.Equal(t, []any{"user", "p@ss", 250 * time.Millisecond, 3, true, "", false},
		[]any{c.Username, c.Password, c.DialTimeout, c.PoolSize, c.ContextTimeoutEnabled, c.TLSConfig.ServerName, c.ReadOnly})
}

func TestUnwiseOptionsAreWarnedAbout(t *testing.T) {
	for url, want := range map[string]string{
		"rediss://h?skip_verify=true":      "skip_verify",
		"redis://:hush@redis.example":      "no TLS",
		"redis://:hush@127.0.0.1":          "",
		"rediss://:hush@redis.example":     "",
		"redis://redis.example":            "",
		"rediss+cluster://h?skip_verify=1": "skip_verify",
	} {
		s, err := Open(url)
		require.NoError(t, err, url)
		defer s.Close()
		if want == "" {
			assert.Empty(t, s.Warnings, url)
		} else if assert.Len(t, s.Warnings, 1, url) {
			assert.Contains(t, s.Warnings[0], want)
			assert.NotContains(t, s.Warnings[0], "hush")
		}
	}
}

// Each kind stores and returns values, on real servers.
func TestEveryKindWorks(t *testing.T) {
	sentinel, cluster := servers.Sentinel(t), servers.Cluster(t)
	for _, url := range []string{
		"redis://" + servers.Redis(t).Addr() + "/3",
		fmt.Sprintf("redis+sentinel://%s,%s/%s/1", sentinel.Sentinels[0].Addr(), sentinel.Sentinels[1].Addr(), sentinel.MasterName),
		fmt.Sprintf("redis+cluster://%s,%s", cluster.Nodes[0].Addr(), cluster.Nodes[1].Addr()),
		fmt.Sprintf("memcached://%s,%s", servers.Memcached(t).Addr(), servers.Memcached(t).Addr()),
		"file://" + t.TempDir() + "/of its own",
	} {
		s, err := Open(url)
		require.NoError(t, err)
		stored, err := s.CompareAndSwap(t.Context(), "key", nil, []byte("value"), time.Minute)
		require.NoError(t, err, s.Name)
		assert.True(t, stored)
		value, err := s.Get(t.Context(), "key")
		require.NoError(t, err)
		assert.Equal(t, "value", string(value))
		require.NoError(t, s.Close())
	}
}
