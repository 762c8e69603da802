package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/faabiosr/cachego/file"
	"github.com/fastwego/offiaccount"
	"github.com/medivhzhan/weapp/v3"
	"github.com/medivhzhan/weapp/v3/logger"
	"github.com/redis/go-redis/v9"
	"github.com/silenceper/wechat/v2/cache"
	"github.com/silenceper/wechat/v2/credential"
	"github.com/silenceper/wechat/v2/util"

	"github.com/wxtoken/wxtoken"
)

// This file is what a process does that bench starts: it stands for one process
// of an application.

const workerEnv = "WXTOKEN_BENCH_WORKER" // holds the setup, as JSON

// A setup says which library a worker uses, and on what.
type setup struct {
	Library  string
	Store    string // redis or memcached, where the library has a choice
	Addr     string // of the store
	Platform string // base URL
	Dir      string // of its own
}

// An order is one thing to do: Callers cold callers at the time Start, or, with
// Seconds, PerSecond calls a second for so long.
type order struct {
	Round     int
	Callers   int
	Start     time.Time
	PerSecond int
	Seconds   int
	Keep      bool // go on with the instance of the order before, if there was one
}

// An outcome is what came of an order.
type outcome struct {
	Last   time.Time // when the last caller was served
	Tokens []string  // the different ones that were handed out
	Calls  int
	Failed int    // calls
	Err    string // of one of them
}

type getter func(ctx context.Context) (string, error)

func work() {
	var conf setup
	if err := json.Unmarshal([]byte(os.Getenv(workerEnv)), &conf); err != nil {
		panic(err)
	}
	newGetter := conf.library()
	answers := json.NewEncoder(os.Stdout)
	var get getter
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			panic(err)
		}
		if !o.Keep || get == nil {
			get = newGetter(fmt.Sprintf("round%d:", o.Round))
		}
		done := o.herd
		if o.Seconds > 0 {
			done = o.load
		}
		if err := answers.Encode(done(get)); err != nil {
			panic(err)
		}
	}
}

// herd has all callers ask at once.
func (o order) herd(get getter) outcome {
	var mu sync.Mutex
	var out outcome
	tokens := map[string]bool{}
	var all sync.WaitGroup
	for range o.Callers {
		all.Go(func() {
			time.Sleep(time.Until(o.Start))
			token, err := get(context.Background())
			served := time.Now()
			mu.Lock()
			defer mu.Unlock()
			out.Calls++
			if err != nil {
				out.Failed++
				out.Err = err.Error()
				return
			}
			tokens[token] = true
			if served.After(out.Last) {
				out.Last = served
			}
		})
	}
	all.Wait()
	for token := range tokens {
		out.Tokens = append(out.Tokens, token)
	}
	return out
}

// load calls at a steady pace, a batch each few milliseconds.
func (o order) load(get getter) outcome {
	const batch = 10 * time.Millisecond
	var out outcome
	time.Sleep(time.Until(o.Start))
	for start := time.Now(); time.Since(start) < time.Duration(o.Seconds)*time.Second; out.Calls++ {
		if _, err := get(context.Background()); err != nil {
			out.Failed++
			out.Err = err.Error()
		}
		if each := int(time.Second / batch); out.Calls%(o.PerSecond/each) == 0 {
			time.Sleep(time.Until(start.Add(time.Duration(out.Calls) * time.Second / time.Duration(o.PerSecond))))
		}
	}
	return out
}

// library gives a function that makes a cold instance, which shares with others
// of the same prefix what the library lets it share.
func (c setup) library() func(prefix string) getter {
	switch c.Library {
	case "wxtoken":
		return c.wxtoken()
	case "silenceper":
		return c.silenceper()
	case "weapp":
		return c.weapp
	case "fastwego":
		return c.fastwego
	}
	panic("bench: no such library: " + c.Library)
}

func (c setup) wxtoken() func(string) getter {
	var shared wxtoken.Cache
	if c.Store == "redis" {
		shared = wxtoken.NewRedisCache(redis.NewClient(&redis.Options{Addr: c.Addr, ContextTimeoutEnabled: true}))
	} else {
		shared = wxtoken.NewMemcachedCache(memcache.New(c.Addr))
	}
	fetcher := wxtoken.NewFetcher(appID, secret, wxtoken.WithBaseURL(c.Platform))
	return func(prefix string) getter {
		src := wxtoken.New(fetcher, shared, wxtoken.WithKeyPrefix(prefix))
		return func(ctx context.Context) (string, error) {
			tok, err := src.Token(ctx)
			return tok.Value, err
		}
	}
}

func (c setup) silenceper() func(string) getter {
	util.SetURIModifier(func(uri string) string {
		return strings.Replace(uri, "https://api.weixin.qq.com", c.Platform, 1)
	})
	var shared cache.Cache
	if c.Store == "redis" {
		shared = cache.NewRedis(context.Background(), &cache.RedisOpts{Host: c.Addr})
	} else {
		shared = cache.NewMemcache(c.Addr)
	}
	return func(prefix string) getter {
		return credential.NewDefaultAccessToken(appID, secret, prefix, shared).GetAccessTokenContext
	}
}

func (c setup) weapp(string) getter {
	client := weapp.NewClient(appID, secret, weapp.WithHttpClient(&http.Client{Transport: reroute(c.Platform)}),
		weapp.WithLogger(logger.NewLogger(quiet, logger.Silent, false)))
	return func(context.Context) (string, error) { return client.AccessToken() }
}

// fastwego's cache is a file: this process's own, as if it had its own machine.
func (c setup) fastwego(prefix string) getter {
	offiaccount.WXServerUrl = c.Platform
	app := offiaccount.New(offiaccount.Config{Appid: appID, Secret: secret})
	app.Logger = nil
	dir := filepath.Join(c.Dir, strings.TrimSuffix(prefix, ":"))
	check(os.MkdirAll(dir, 0o700) == nil)
	app.AccessToken.Cache = file.New(dir)
	return func(context.Context) (string, error) { return offiaccount.GetAccessToken(app) }
}

// reroute sends every request to the platform with this base URL.
type reroute string

func (base reroute) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.URL.Scheme, req.URL.Host, _ = strings.Cut(string(base), "://")
	return http.DefaultTransport.RoundTrip(req)
}
