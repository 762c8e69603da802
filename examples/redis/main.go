// Redis shows how processes share one token through Redis:
//
//	REDIS_URL=redis://127.0.0.1:6379/0 go run ./examples/redis
//
// REDIS_URL holds everything about the server:
//
//	redis://user:password@host:6379/2    password and database number
//	rediss://user:password@host:6380/2   the same over TLS
//	unix://user:password@/run/redis.sock?db=2
//
// It runs on a fake platform unless WECHAT_APPID and WECHAT_SECRET are set. It leaves
// one key in Redis, which expires after three hours.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/examples/internal/platform"
)

func main() {
	if err := run(context.Background(), os.Stdout, os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// connect returns a client. For Sentinel and Cluster, only this changes:
//
//	redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "mymaster", SentinelAddrs: addrs, ContextTimeoutEnabled: true})
//	redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, ContextTimeoutEnabled: true})
//
// A certificate of your own authority goes into Options.TLSConfig.RootCAs.
func connect(ctx context.Context, url string) (*redis.Client, error) {
	if url == "" {
		return nil, errors.New("wxtoken example: set REDIS_URL, for example to redis://127.0.0.1:6379/0")
	}
	opts, err := redis.ParseURL(url)
	if err != nil {
		// err can hold the password, or half of it.
		return nil, errors.New("wxtoken example: REDIS_URL is not of the form redis://user:password@host:port/database" +
			" (rediss:// for TLS); in the password, write %40 for @, %3A for :, %2F for /, %3F for ? and %23 for #")
	}
	// Without this, go-redis ignores ctx while it waits for a slow server, up to its
	// ReadTimeout.
	opts.ContextTimeoutEnabled = true

	client := redis.NewClient(opts)
	if err := client.Ping(ctx).Err(); err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("wxtoken example: set REDIS_URL to a Redis server that answers; %s does not: %w", opts.Addr, err)
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

	client, err := connect(ctx, getenv("REDIS_URL"))
	if err != nil {
		return err
	}
	defer client.Close()
	say("redis", "%s, database %d, TLS %v", client.Options().Addr, client.Options().DB, client.Options().TLSConfig != nil)

	// Each process makes one Source per app, and keeps it. Two of them in one program
	// represent two processes here.
	cache := wxtoken.NewRedisCache(client)
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

	key := "wxtoken:" + p.Fetcher.Key() // WithKeyPrefix changes the first part
	ttl, err := client.TTL(ctx, key).Result()
	if err != nil {
		return err
	}
	say("key", "%s, expires in %v", key, ttl.Round(time.Minute))
	return nil
}
