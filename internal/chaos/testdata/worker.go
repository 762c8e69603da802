// A worker of another version of wxtoken, for TestSideBySide. `make side-by-side`
// builds it in that version's source tree. Like the workers of this version, it
// reads its configuration from the environment, calls the platform until standard
// input ends, and prints what came of each call.
package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/redis/go-redis/v9"
	"github.com/wxtoken/wxtoken"
)

type call struct {
	From, To time.Time
	Result   string
}

func main() {
	var config struct {
		Backend struct {
			Name  string
			Addrs []string
		}
		Platform string
		Scale    time.Duration
	}
	check(json.Unmarshal([]byte(os.Getenv("WXTOKEN_CHAOS_WORKER")), &config))
	var cache wxtoken.Cache = wxtoken.NewRedisCache(redis.NewClient(&redis.Options{Addr: config.Backend.Addrs[0]}))
	if config.Backend.Name == "memcached" {
		cache = wxtoken.NewMemcachedCache(memcache.New(config.Backend.Addrs...))
	}
	src := wxtoken.New(
		wxtoken.NewFetcher("wx1", "0123456789abcdef0123456789abcdef", wxtoken.WithBaseURL(config.Platform)),
		cache,
		wxtoken.WithFetchTimeout(10*time.Second/config.Scale),
		wxtoken.WithLocalAge(45*time.Second/config.Scale),
		wxtoken.WithRefreshAhead(5*time.Minute/config.Scale))
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	for range 2 {
		go func() {
			for {
				time.Sleep(50 * time.Millisecond)
				c := call{From: time.Now()}
				c.Result = use(src, config.Platform)
				c.To = time.Now()
				mu.Lock()
				check(out.Encode(map[string]call{"Call": c}))
				mu.Unlock()
			}
		}()
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	check(err)
}

// use makes a business call, and once more if its token is rejected.
func use(src *wxtoken.Source, platform string) string {
	for _, good := range []string{"served", "rejected, then served"} {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		tok, err := src.Token(ctx)
		if err != nil {
			return "no token"
		}
		resp, err := http.Get(platform + "/cgi-bin/get_api_domain_ip?access_token=" + tok.Value)
		if err != nil {
			return "no answer"
		}
		defer resp.Body.Close()
		var answer struct{ Errcode int }
		switch err := json.NewDecoder(resp.Body).Decode(&answer); {
		case err != nil:
			return "no answer"
		case !wxtoken.IsTokenRejected(answer.Errcode):
			return good
		case src.Invalidate(ctx, tok.Value) != nil:
			return "rejected, and Invalidate failed"
		}
	}
	return "rejected again"
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
