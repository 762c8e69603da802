package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/examples/internal/exampletest"
	"github.com/wxtoken/wxtoken/internal/servers"
)

// example runs the program with this MEMCACHED_SERVERS.
func example(t *testing.T, list string) (string, error) {
	t.Helper()
	return exampletest.Env{"MEMCACHED_SERVERS": list}.Run(t, run)
}

func TestTwoProcessesShareOneToken(t *testing.T) {
	one, two := servers.Memcached(t).Addr(), servers.Memcached(t).Addr()
	for _, list := range []string{one, strings.Join([]string{one, two, two}, ",")} {
		out, err := example(t, list)
		require.NoError(t, err)
		assert.Regexp(t, `shared .*the same token: true; fetches: 1\n`, out)
		assert.Regexp(t, `key +wxtoken:token:wxfake\w+\n`, out)
	}
}

// The second server has two of the three places in the list.
func TestAServerListedTwiceHasTwiceTheWeight(t *testing.T) {
	one, two := servers.Memcached(t).Addr(), servers.Memcached(t).Addr()
	client, err := connect(one + ", " + two + ", " + two)
	require.NoError(t, err)
	defer client.Close()
	for i := range 300 {
		require.NoError(t, client.Set(&memcache.Item{Key: fmt.Sprint("key", i), Value: []byte{}}))
	}

	second, err := connect(two)
	require.NoError(t, err)
	defer second.Close()
	found := 0
	for i := range 300 {
		if _, err := second.Get(fmt.Sprint("key", i)); err == nil {
			found++
		}
	}
	assert.InDelta(t, 200, found, 40)
}

func TestErrorsSayWhatToSet(t *testing.T) {
	up, down := servers.Memcached(t), servers.Memcached(t)
	down.Kill()
	for list, want := range map[string]string{
		"":                            "set MEMCACHED_SERVERS, for example",
		" , ":                         "set MEMCACHED_SERVERS, for example",
		"127.0.0.1":                   "host:port,host:port",
		"127.0.0.1:port":              "host:port,host:port",
		up.Addr() + "," + down.Addr(): "to servers that answer",
	} {
		_, err := example(t, list)
		assert.ErrorContains(t, err, want, "%q", list)
	}
}
