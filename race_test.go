package wxtoken_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// With -race: all that can be called at once is, while the secret changes.
func TestEverythingAtOnce(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		p := wxtest.NewPlatform(wxtest.WithApp("wx1", "right"), wxtest.WithLifetime(time.Minute))
		var right atomic.Bool
		f := wxtoken.NewFetcher("wx1", "", wxtoken.WithHTTPClient(p.Client()),
			wxtoken.WithSecretFunc(func(context.Context) (string, error) {
				if right.Load() {
					return "right", nil
				}
				return "wrong", nil
			}))
		cache, ready := &faultyCache{Cache: wxtoken.NewMemoryCache()}, make(chan struct{})
		cache.get = func(context.Context) error {
			time.Sleep(time.Millisecond)
			if cache.gets.Load()%7 == 0 {
				return errDown
			}
			return nil
		}
		var src *wxtoken.Source
		src = wxtoken.New(f, cache, wxtoken.WithLocalAge(time.Second), wxtoken.WithObserver(func(wxtoken.Event) {
			<-ready
			src.Peek()
			_ = src.Invalidate(t.Context(), "unknown")
		}))
		close(ready)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		go func() { _ = src.Run(ctx) }()
		together(6, func(i int) {
			for n := 0; ctx.Err() == nil; n++ {
				right.Store(n%300 > 100)
				short, cancel := context.WithTimeout(ctx, time.Duration(i)*10*time.Millisecond)
				tok, _ := src.Token(short)
				_ = src.Invalidate(short, []string{tok.Value, fmt.Sprint("unknown", n), ""}[n%3])
				_ = src.Wait(short)
				cancel()
				time.Sleep(time.Duration(i+1) * 70 * time.Millisecond)
			}
		})
	})
}
