package check

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/examples/metrics/prommetrics"
	"github.com/wxtoken/wxtoken/wxtest"
)

const app = "wxfake"

// A world is one process that calls the platform every ten seconds.
type world struct {
	platform *wxtest.Platform
	observe  func(wxtoken.Event)
	down     atomic.Bool // the cache
}

// play lets six hours pass, with trouble from the end of the first, and gives
// what a scrape every minute has seen. It takes no real time.
func play(t *testing.T, trouble func(w *world)) *history {
	t.Helper()
	h := new(history)
	synctest.Test(t, func(t *testing.T) {
		metrics := prommetrics.New()
		registry := prometheus.NewRegistry()
		registry.MustRegister(metrics)
		w := &world{
			platform: wxtest.NewPlatform(wxtest.WithApp(app, "secret"), wxtest.WithGrace(0)),
			observe:  metrics.Observer(app),
		}
		src := wxtoken.New(
			wxtoken.NewFetcher(app, "secret", wxtoken.WithHTTPClient(w.platform.Client())),
			&failingCache{wxtoken.NewMemoryCache(), &w.down},
			wxtoken.WithObserver(w.observe),
		)
		client := &http.Client{Transport: &wxtoken.Transport{Source: src, Base: w.platform.Transport()}}

		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Hour)
		defer cancel()
		go every(ctx, 10*time.Second, func() {
			if resp, err := client.Get("https://api.weixin.qq.com/cgi-bin/get_api_domain_ip"); err == nil {
				_ = resp.Body.Close()
			}
		})
		troubled := time.AfterFunc(time.Hour, func() { trouble(w) })
		defer troubled.Stop()
		every(ctx, time.Minute, func() { h.scrape(t, registry) })
		time.Sleep(time.Minute) // what is under way ends
	})
	require.NotEmpty(t, h.series)
	return h
}

// every does so until ctx ends.
func every(ctx context.Context, d time.Duration, do func()) {
	for ctx.Err() == nil {
		do()
		time.Sleep(d)
	}
}

type failingCache struct {
	wxtoken.Cache
	down *atomic.Bool
}

var errDown = errors.New("connection refused")

func (c *failingCache) Get(ctx context.Context, key string) ([]byte, error) {
	if c.down.Load() {
		return nil, errDown
	}
	return c.Cache.Get(ctx, key)
}

func (c *failingCache) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	if c.down.Load() {
		return false, errDown
	}
	return c.Cache.CompareAndSwap(ctx, key, old, new, ttl)
}
