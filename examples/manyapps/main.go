// Manyapps keeps the tokens of 10,000 apps in one process, over one Redis:
//
//	REDIS_URL=redis://127.0.0.1:6379/0 go run ./examples/manyapps
//
// The apps are those of a fake platform. Set APPS for another number of them.
// The type to copy is Sources, in sources.go.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// atOnce is how many apps may wait for their first token at one time.
const atOnce = 32

func main() {
	if err := run(context.Background(), os.Stdout, os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, stdout io.Writer, getenv func(string) string) error {
	say := func(what, format string, args ...any) {
		fmt.Fprintf(stdout, "%-9s %s\n", what, fmt.Sprintf(format, args...))
	}
	client, err := connect(ctx, getenv("REDIS_URL"), atOnce)
	if err != nil {
		return err
	}
	defer client.Close()
	apps := 10_000
	if text := getenv("APPS"); text != "" {
		if apps, err = strconv.Atoi(text); err != nil || apps < 1 {
			return errors.New("wxtoken example: set APPS to a number of apps, 1 or more")
		}
	}

	platform := newFake(apps)
	platform.Inject(wxtest.Latency(20 * time.Millisecond))
	prefix := "wxtoken-manyapps:" + rand.Text() + ":"
	defer unlink(client, prefix, platform.appIDs)
	sources := func() *Sources {
		return NewSources(platform.fetcher, wxtoken.NewRedisCache(client), atOnce, wxtoken.WithKeyPrefix(prefix))
	}

	// A process makes its Sources when they are asked for. Here they are made all at
	// once, to measure their size.
	one := sources()
	goroutines, bytes := runtime.NumGoroutine(), heap()
	for _, appID := range platform.appIDs {
		if _, err := one.Source(appID); err != nil {
			return err
		}
	}
	say("made", "%d Sources, %d bytes each, Fetcher and map included", apps, (heap()-bytes)/int64(apps))

	start := time.Now()
	if err := one.Warm(ctx, time.Duration(apps)*time.Second/2000, platform.appIDs); err != nil {
		return err
	}
	say("start-up", "%d tokens in %v, %d fetches, at most %d at a time", apps, time.Since(start).Round(100*time.Millisecond),
		platform.Stats().Fetches().Total(), platform.peak.Load())
	say("idle", "%d more goroutines than before, %d bytes each including the token and the fake's copy of it", runtime.NumGoroutine()-goroutines,
		(heap()-bytes)/int64(apps))

	// The next process finds all of them in Redis.
	start = time.Now()
	two := sources()
	if err := two.Warm(ctx, 0, platform.appIDs); err != nil {
		return err
	}
	say("another", "process has %d tokens after %v; fetches now: %d", apps, time.Since(start).Round(100*time.Millisecond),
		platform.Stats().Fetches().Total())
	runtime.KeepAlive(one)
	return nil
}

func connect(ctx context.Context, url string, connections int) (*redis.Client, error) {
	opts, err := redis.ParseURL(url)
	if err != nil { // err can hold the password
		return nil, errors.New("wxtoken example: set REDIS_URL, for example to redis://127.0.0.1:6379/0")
	}
	opts.ContextTimeoutEnabled = true
	opts.PoolSize = connections
	client := redis.NewClient(opts)
	if err := client.Ping(ctx).Err(); err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("wxtoken example: set REDIS_URL to a Redis server that answers; %s does not: %w", opts.Addr, err)
	}
	return client, nil
}

// unlink removes what the example has left in Redis.
func unlink(client *redis.Client, prefix string, appIDs []string) {
	pipe := client.Pipeline()
	for _, appID := range appIDs {
		pipe.Unlink(context.Background(), prefix+"token:"+appID)
	}
	_, _ = pipe.Exec(context.Background()) // otherwise they expire by themselves
}

// heap is how many bytes are in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what a pool held survives one more
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A fake is a platform with many apps that counts overlapping fetches.
type fake struct {
	*wxtest.Platform
	appIDs    []string
	client    *http.Client
	now, peak atomic.Int64
}

func newFake(apps int) *fake {
	f := &fake{Platform: wxtest.NewPlatform()}
	for i := range apps {
		appID := fmt.Sprintf("wxfake%05d", i)
		f.AddApp(appID, "secret-of-"+appID)
		f.appIDs = append(f.appIDs, appID)
	}
	f.client = &http.Client{Transport: f}
	return f
}

// fetcher stands for a look-up of the app's secret.
func (f *fake) fetcher(appID string) (wxtoken.Fetcher, error) {
	return wxtoken.NewFetcher(appID, "secret-of-"+appID, wxtoken.WithHTTPClient(f.client)), nil
}

func (f *fake) RoundTrip(req *http.Request) (*http.Response, error) {
	for n, peak := f.now.Add(1), f.peak.Load(); n > peak && !f.peak.CompareAndSwap(peak, n); peak = f.peak.Load() {
	}
	defer f.now.Add(-1)
	return f.Transport().RoundTrip(req)
}
