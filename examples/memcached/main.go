// Memcached shows how processes share one token through Memcached:
//
//	MEMCACHED_SERVERS=127.0.0.1:11211 go run ./examples/memcached
//
// MEMCACHED_SERVERS lists the servers, separated by commas. The key picks the server,
// so every process must have the same list in the same order. A server that is listed
// twice has twice the weight:
//
//	MEMCACHED_SERVERS=10.0.0.1:11211,10.0.0.2:11211,10.0.0.2:11211
//
// It runs on a fake platform unless WECHAT_APPID and WECHAT_SECRET are set. It leaves
// one item in Memcached, which expires after three hours.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/examples/internal/platform"
)

func main() {
	if err := run(context.Background(), os.Stdout, os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// connect returns a client for all servers in list.
func connect(list string) (*memcache.Client, error) {
	servers := strings.FieldsFunc(list, func(c rune) bool { return c == ',' || c == ' ' })
	if len(servers) == 0 {
		return nil, errors.New("wxtoken example: set MEMCACHED_SERVERS, for example to 127.0.0.1:11211")
	}
	// memcache.New does the same, but does not report names that cannot be resolved.
	var selector memcache.ServerList
	if err := selector.SetServers(servers...); err != nil {
		return nil, fmt.Errorf("wxtoken example: set MEMCACHED_SERVERS to host:port,host:port: %w", err)
	}
	client := memcache.NewFromSelector(&selector)
	client.Timeout = 300 * time.Millisecond // of each operation; 0 is 500 ms
	client.MaxIdleConns = 8                 // for each server; 0 is 2. wxtoken needs 1, the rest of a program more

	// A server that is down from the start is probably a mistake. A server that fails
	// later fails its share of the keys: their tokens are then served from each
	// process's copy until they expire, and no process fetches them.
	if err := client.Ping(); err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("wxtoken example: set MEMCACHED_SERVERS to servers that answer: %w", err)
	}
	return client, nil
}

func run(ctx context.Context, stdout io.Writer, getenv func(string) string) error {
	say := func(what, format string, args ...any) {
		fmt.Fprintf(stdout, "%-9s %s\n", what, fmt.Sprintf(format, args...))
	}
	p, err := platform.FromEnv(getenv)
	if err != nil {
		return err
	}
	say("platform", "%s", p.Name)

	client, err := connect(getenv("MEMCACHED_SERVERS"))
	if err != nil {
		return err
	}
	defer client.Close()
	say("memcached", "%s", getenv("MEMCACHED_SERVERS"))

	// Each process makes one Source per app, and keeps it. Two of them in one program
	// represent two processes here.
	cache := wxtoken.NewMemcachedCache(client)
	one := wxtoken.New(p.Fetcher, cache)
	two := wxtoken.New(p.Fetcher, cache)

	first, err := one.Token(ctx)
	if err != nil {
		return err
	}
	second, err := two.Token(ctx)
	if err != nil {
		return err
	}
	say("token", "%v", first) // first.Value goes into ?access_token=
	say("shared", "two Sources have the same token: %v; fetches: %d", first.Value == second.Value, p.Fetcher.Fetches())
	say("key", "wxtoken:%s", p.Fetcher.Key()) // WithKeyPrefix changes the first part
	return nil
}
