package main

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/silenceper/wechat/v2/cache"

	"github.com/wxtoken/wxtoken/internal/servers"
)

// BenchmarkHot measures a call for a token at hand, made by one goroutine, by as many as there are processors, and by
// up to 10,000 at once.
func BenchmarkHot(b *testing.B) {
	const ahead = 10 * time.Second
	base, redis := newPlatform(b, 0).url, servers.Redis(b).Addr()
	for _, l := range []struct {
		name   string
		get    getter
		memory bool // no system call on the way, so many goroutines can be tried
	}{
		{"clock", clock(), true},
		{"wxtoken", ours(fetcher(appID, twoHours), nil), true},
		{"google", google(twoHours, ahead), true},
		{"aws", amazon(twoHours, ahead), true},
		{"oauth2", xoauth2(twoHours, ahead), true},
		{"weapp", weappAt(base), true},
		{"silenceper", silenceper(base, "hot", cache.NewMemory()), true},
		{"fastwego", fastwego(base, b.TempDir()), false},
		{"silenceper-redis", silenceper(base, "hot", silenceperRedis(redis)), false},
	} {
		call(l.get) // fetches
		b.Run(l.name, func(b *testing.B) {
			b.Run("goroutines=1", func(b *testing.B) { share(b, 1, l.get) })
			b.Run("parallel", func(b *testing.B) { share(b, runtime.GOMAXPROCS(0), l.get) })
			for n := 10; l.memory && n <= 10_000; n *= 10 {
				b.Run(fmt.Sprint("goroutines=", n), func(b *testing.B) { share(b, n, l.get) })
			}
		})
	}
}

// share divides b.N calls among goroutines.
func share(b *testing.B, goroutines int, get getter) {
	var ready, done sync.WaitGroup
	begin := make(chan struct{})
	for i := range goroutines {
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-begin
			for range (b.N + i) / goroutines {
				call(get)
			}
		})
	}
	ready.Wait()
	b.ReportAllocs()
	b.ResetTimer()
	close(begin)
	done.Wait()
}

func call(get getter) {
	if token, err := get(context.Background()); err != nil || token == "" {
		panic(fmt.Sprint("no token: ", err)) // on a goroutine that must not call b.Fatal
	}
}

// size returns full, or least with -short.
func size(full, least int) int {
	if testing.Short() {
		return least
	}
	return full
}
