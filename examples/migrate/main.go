// Migrate shows old code and wxtoken side by side, on one Redis or Memcached:
//
//	REDIS_URL=redis://127.0.0.1:6379/0 go run ./examples/migrate
//	MEMCACHED_SERVERS=127.0.0.1:11211 go run ./examples/migrate
//
// It runs on a fake platform, whose tokens live for eight seconds. Old code reads the
// plain token under its key until wxtoken has replaced it. README.md says in which
// order to deploy; the part to copy is mirror.go.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/redis/go-redis/v9"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

func main() {
	if err := run(context.Background(), os.Stdout, os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A store is where old and new code share the token.
type store struct {
	cache wxtoken.Cache
	put   func(ctx context.Context, token string, ttl time.Duration) error
	old   func(ctx context.Context, fetch func() (string, error)) (string, error) // reads, and fetches on a miss
	close func() error
}

// open reads the store from the environment. Old code has a key of its own here,
// because a real "access_token" may be in use.
func open(getenv func(string) string) (*store, error) {
	key := "access_token-example-" + rand.Text()
	url, list := getenv("REDIS_URL"), getenv("MEMCACHED_SERVERS")
	switch {
	case url != "" && list == "":
		opts, err := redis.ParseURL(url)
		if err != nil { // err can hold the password
			return nil, errors.New("wxtoken example: set REDIS_URL to a URL like redis://127.0.0.1:6379/0")
		}
		opts.ContextTimeoutEnabled = true
		client := redis.NewClient(opts)
		return &store{
			wxtoken.NewRedisCache(client), PutRedis(client, key),
			func(ctx context.Context, fetch func() (string, error)) (string, error) {
				return oldRedis(ctx, client, key, fetch)
			},
			client.Close,
		}, nil
	case list != "" && url == "":
		var servers memcache.ServerList
		if err := servers.SetServers(strings.Split(list, ",")...); err != nil {
			return nil, fmt.Errorf("wxtoken example: set MEMCACHED_SERVERS to host:port,host:port: %w", err)
		}
		client := memcache.NewFromSelector(&servers)
		return &store{
			wxtoken.NewMemcachedCache(client), PutMemcached(client, key),
			func(_ context.Context, fetch func() (string, error)) (string, error) {
				return oldMemcached(client, key, fetch)
			},
			client.Close,
		}, nil
	}
	return nil, errors.New("wxtoken example: set REDIS_URL, for example to redis://127.0.0.1:6379/0, or MEMCACHED_SERVERS, for example to 127.0.0.1:11211")
}

func run(ctx context.Context, stdout io.Writer, getenv func(string) string) error {
	st, err := open(getenv)
	if err != nil {
		return err
	}
	defer func() { _ = st.close() }()
	appID := "wxfake" + strings.ToLower(rand.Text()[:10])
	platform := wxtest.NewPlatform(wxtest.WithApp(appID, "secret"), wxtest.WithLifetime(8*time.Second), wxtest.WithGrace(2*time.Second))

	// Old code runs first: it finds nothing under its key and fetches.
	oldFetches := 0
	fetch := func() (string, error) { oldFetches++; return platform.Issue(appID), nil }
	first, err := st.old(ctx, fetch)
	if err != nil {
		return fmt.Errorf("wxtoken example: set REDIS_URL or MEMCACHED_SERVERS to a server that answers: %w", err)
	}

	// New code is deployed, with a Mirror.
	mirror := NewMirror(st.put, slog.New(slog.NewTextHandler(stdout, nil)))
	src := wxtoken.New(
		wxtoken.NewFetcher(appID, "secret", wxtoken.WithHTTPClient(platform.Client())), st.cache,
		wxtoken.WithObserver(mirror.Observe),
		wxtoken.WithFetchTimeout(time.Second), wxtoken.WithLocalAge(300*time.Millisecond), // as short as the tokens' lives
	)
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() { mirror.Run(ctx, src) })
	running.Go(func() { callers(ctx, src) })

	// Old code keeps running until it has seen the first two tokens of wxtoken.
	seen := map[string]bool{first: true}
	calls, rejected := 0, 0
	client := platform.Client()
	for deadline := time.Now().Add(20 * time.Second); len(seen) < 3; calls++ {
		if time.Now().After(deadline) {
			return errors.New("wxtoken example: no new token arrived; see the log above")
		}
		token, err := st.old(ctx, fetch)
		if err != nil {
			return err
		}
		seen[token] = true
		if !accepted(client, token) {
			rejected++
		}
		time.Sleep(5 * time.Millisecond)
	}
	fmt.Fprintf(stdout, "old code: %d calls, %d rejected, %d tokens seen, %d fetch, before wxtoken\n", calls, rejected, len(seen), oldFetches)
	return nil
}

// callers stands for the rest of the new code.
func callers(ctx context.Context, src *wxtoken.Source) {
	for ctx.Err() == nil {
		_, _ = src.Token(ctx)
		time.Sleep(20 * time.Millisecond)
	}
}

// accepted reports whether the API takes the token.
func accepted(client *http.Client, token string) bool {
	resp, err := client.Get("https://api.weixin.qq.com/cgi-bin/get_api_domain_ip?access_token=" + token)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return err == nil && strings.Contains(string(body), "ip_list")
}
