package wxtoken_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// Programs that have nothing to do with each other can share a store: each has
// a prefix. All processes of the same app must have the same one.
func ExampleWithKeyPrefix() {
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
	fetcher := wxtoken.NewFetcher("wx1", "secret", wxtoken.WithHTTPClient(platform.Client()))
	cache := wxtoken.NewMemoryCache()
	src := wxtoken.New(fetcher, cache, wxtoken.WithKeyPrefix("shop:"))

	_, _ = src.Token(context.Background())
	_, err := cache.Get(context.Background(), "shop:token:wx1")
	fmt.Println(src, err)
	// Output: wxtoken.Source(shop:token:wx1) <nil>
}

// The events are what metrics are made of: see examples/metrics.
func ExampleWithObserver() {
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
	platform.SetWhitelist("wx1", "203.0.113.7") // not this machine
	fetcher := wxtoken.NewFetcher("wx1", "secret", wxtoken.WithHTTPClient(platform.Client()))

	events := make(chan wxtoken.Event, 10)
	src := wxtoken.New(fetcher, nil, wxtoken.WithObserver(func(e wxtoken.Event) { events <- e }))
	_, _ = src.Token(context.Background())

	e := <-events
	var denial *wxtoken.APIError
	fmt.Println(e.Kind, e.Key, errors.As(e.Err, &denial) && denial.Code == 40164)
	// Output: fetch wxtoken:token:wx1 true
}

// lines is a writer that hands on what is written.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

func ExampleWithLogger() {
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
	fetcher := wxtoken.NewFetcher("wx1", "secret", wxtoken.WithHTTPClient(platform.Client()))

	out := make(lines, 10) // in an application, os.Stderr
	logger := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == "time" || a.Key == "duration_ms" || a.Key == "expires_at" {
				return slog.Attr{} // another one each time
			}
			return a
		},
	}))
	src := wxtoken.New(fetcher, nil, wxtoken.WithLogger(logger))
	_, _ = src.Token(context.Background())
	fmt.Print(<-out)
	// Output: level=INFO msg="wxtoken: fetch" key=wxtoken:token:wx1
}

// The first key seals, and each one opens, so that keys can be rotated. A
// process without the key gets an error, and harms nothing.
func ExampleWithEncryption() {
	ctx := context.Background()
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
	fetcher := wxtoken.NewFetcher("wx1", "secret", wxtoken.WithHTTPClient(platform.Client()))
	cache := wxtoken.NewMemoryCache()

	var before, after [32]byte // from your store of secrets
	_, _ = rand.Read(before[:])
	_, _ = rand.Read(after[:])

	one, _ := wxtoken.New(fetcher, cache, wxtoken.WithEncryption(before)).Token(ctx)
	two, _ := wxtoken.New(fetcher, cache, wxtoken.WithEncryption(after, before)).Token(ctx)
	fmt.Println(one.Value == two.Value)

	record, _ := cache.Get(ctx, "wxtoken:token:wx1")
	fmt.Println("plain in the cache:", bytes.Contains(record, []byte(one.Value)))

	_, err := wxtoken.New(fetcher, cache).Token(ctx)
	fmt.Println(err)
	// Output:
	// true
	// plain in the cache: false
	// wxtoken: the record in the cache is sealed and no key of this process opens it; give WithEncryption the key that sealed it
}

// Another host is tried where no connection can be made. These are the hosts
// of a test; the default is WeChat's five.
func ExampleWithBaseURL() {
	gone := wxtest.NewServer()
	gone.Close()
	platform := wxtest.NewServer(wxtest.WithApp("wx1", "secret"))
	defer platform.Close()

	fetcher := wxtoken.NewFetcher("wx1", "secret", wxtoken.WithBaseURL(gone.URL, platform.URL))
	tok, err := wxtoken.New(fetcher, nil).Token(context.Background())
	fmt.Println(platform.Honoured(tok.Value), err)
	// Output: true <nil>
}

// mapCache is a Cache of one's own, over any store that can compare and set. This
// one is a map. Package cachetest tests that such a Cache keeps the contract.
type mapCache struct {
	mu    sync.Mutex
	items map[string]item
}

type item struct {
	value string
	until time.Time
}

func (m *mapCache) get(key string) (value string, found bool) {
	it, found := m.items[key]
	return it.value, found && time.Now().Before(it.until)
}

// Get tells a key that is not there from a store that does not answer.
func (m *mapCache) Get(ctx context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, found := m.get(key)
	if !found {
		return nil, wxtoken.ErrCacheMiss
	}
	return []byte(value), ctx.Err()
}

// CompareAndSwap compares and writes in one step of the store.
func (m *mapCache) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	value, found := m.get(key)
	if err := ctx.Err(); err != nil || found != (old != nil) || value != string(old) && found {
		return false, err
	}
	m.items[key] = item{string(new), time.Now().Add(ttl)}
	return true, nil
}

func ExampleCache() {
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
	fetcher := wxtoken.NewFetcher("wx1", "secret", wxtoken.WithHTTPClient(platform.Client()))

	var cache wxtoken.Cache = &mapCache{items: map[string]item{}}
	tok, err := wxtoken.New(fetcher, cache).Token(context.Background())
	fmt.Println(platform.Honoured(tok.Value), err)
	// Output: true <nil>
}

type deadCache struct{}

func (deadCache) Get(context.Context, string) ([]byte, error) {
	return nil, errors.New("connection refused")
}

func (deadCache) CompareAndSwap(context.Context, string, []byte, []byte, time.Duration) (bool, error) {
	return false, errors.New("connection refused")
}

// A process that starts while the cache is down fetches nothing: that could
// supersede the token that all others use. The fetcher of stable_token does, as its
// fetches supersede nothing.
func Example_cacheDown() {
	platform := wxtest.NewPlatform(wxtest.WithApp("wx1", "secret"))
	client := wxtoken.WithHTTPClient(platform.Client())

	_, err := wxtoken.New(wxtoken.NewFetcher("wx1", "secret", client), deadCache{}).Token(context.Background())
	fmt.Println(errors.Is(err, wxtoken.ErrCacheUnavailable), platform.Stats().Fetches().Total(), "requests")

	tok, err := wxtoken.New(wxtoken.NewStableFetcher("wx1", "secret", client), deadCache{}).Token(context.Background())
	fmt.Println(platform.Honoured(tok.Value), err)
	// Output:
	// true 0 requests
	// true <nil>
}
