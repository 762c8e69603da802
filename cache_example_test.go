package wxtoken_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/redis/go-redis/v9"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// An app of one process. The platform is a fake here; leave WithHTTPClient out
// to ask the real one.
func ExampleNewMemoryCache() {
	platform := wxtest.NewPlatform(wxtest.WithApp("wx0123456789abcdef", "secret"))
	fetcher := wxtoken.NewFetcher("wx0123456789abcdef", "secret", wxtoken.WithHTTPClient(platform.Client()))
	src := wxtoken.New(fetcher, wxtoken.NewMemoryCache())

	for range 1000 {
		if _, err := src.Token(context.Background()); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println("fetches:", platform.Stats().Fetches().Total())
	// Output: fetches: 1
}

// The processes of one machine, a web process and a cron job say, share a
// directory. The platform is a fake here, as above.
func ExampleNewFileCache() {
	dir, err := os.MkdirTemp("", "wxtoken-example-") // in production one that stays, such as /var/lib/myapp/wxtoken
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	platform := wxtest.NewPlatform(wxtest.WithApp("wx0123456789abcdef", "secret"))
	fetcher := wxtoken.NewFetcher("wx0123456789abcdef", "secret", wxtoken.WithHTTPClient(platform.Client()))

	for range 3 { // as three processes would
		src := wxtoken.New(fetcher, wxtoken.NewFileCache(dir))
		if _, err := src.Token(context.Background()); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println("fetches:", platform.Stats().Fetches().Total())
	// Output: fetches: 1
}

// Processes that share an app are given the same Redis. The URL holds user,
// password and database number; rediss:// speaks TLS. For Sentinel and Cluster,
// use redis.NewFailoverClient and redis.NewClusterClient.
func ExampleNewRedisCache() {
	opts, err := redis.ParseURL(os.Getenv("REDIS_URL")) // redis://user:password@redis.internal:6379/0
	if err != nil {
		fmt.Println(err)
		return
	}
	opts.ContextTimeoutEnabled = true // a slow server is waited for no longer than ctx says
	rdb := redis.NewClient(opts)
	defer rdb.Close()

	src := wxtoken.New(wxtoken.NewFetcher("wx0123456789abcdef", os.Getenv("WX_SECRET")), wxtoken.NewRedisCache(rdb))
	tok, err := src.Token(context.Background())
	fmt.Println(tok, err)
}

// Every process lists the same Memcached servers in the same order. One that is
// listed twice gets twice the share of the keys.
func ExampleNewMemcachedCache() {
	mc := memcache.New("10.0.0.1:11211", "10.0.0.2:11211", "10.0.0.2:11211")
	mc.Timeout = time.Second
	defer mc.Close()

	src := wxtoken.New(wxtoken.NewFetcher("wx0123456789abcdef", os.Getenv("WX_SECRET")), wxtoken.NewMemcachedCache(mc))
	tok, err := src.Token(context.Background())
	fmt.Println(tok, err)
}
