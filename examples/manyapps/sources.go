package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wxtoken/wxtoken"
)

// Sources holds one Source for each app, made on first use. It is safe for concurrent
// use. Copy it into your program.
type Sources struct {
	fetcher func(appID string) (wxtoken.Fetcher, error)
	cache   wxtoken.Cache
	opts    []wxtoken.Option
	slots   chan struct{} // one for each app that may wait for its first token

	mu   sync.RWMutex
	apps map[string]*app // guarded by mu
}

type app struct {
	source *wxtoken.Source
	warm   atomic.Bool // it had a token once
}

// NewSources returns Sources for the apps of fetcher, which looks up an app's secret
// and returns an error for an unknown app; nothing is kept then, so that made-up
// appIDs use no memory. At most atOnce apps wait for their first token at a time; the
// others queue.
func NewSources(fetcher func(appID string) (wxtoken.Fetcher, error), cache wxtoken.Cache, atOnce int, opts ...wxtoken.Option) *Sources {
	return &Sources{fetcher: fetcher, cache: cache, opts: opts, slots: make(chan struct{}, atOnce), apps: map[string]*app{}}
}

// Token returns the app's token.
func (s *Sources) Token(ctx context.Context, appID string) (wxtoken.Token, error) {
	a, err := s.app(appID)
	if err != nil {
		return wxtoken.Token{}, err
	}
	if a.warm.Load() {
		return a.source.Token(ctx)
	}
	// The limit is here and not in the Fetcher, where waiting would use up the time
	// of the fetch and hold its lease.
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return wxtoken.Token{}, fmt.Errorf("wxtoken example: app %s is queued behind others for its first token: %w", appID, context.Cause(ctx))
	}
	token, err := a.source.Token(ctx)
	if err == nil {
		a.warm.Store(true)
	}
	return token, err
}

// Source returns the app's Source, for a Transport or for Invalidate.
func (s *Sources) Source(appID string) (*wxtoken.Source, error) {
	a, err := s.app(appID)
	if err != nil {
		return nil, err
	}
	return a.source, nil
}

// Forget drops the app, so that the next call asks fetcher again: after its secret
// has changed, or when the app has been removed. A Source need not be closed.
func (s *Sources) Forget(appID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.apps, appID)
}

// Warm gets every app's token, so that no caller has to wait after a start. It starts
// with the first app at once and reaches the last one after spread, so that their
// later refreshes are spread as well.
func (s *Sources) Warm(ctx context.Context, spread time.Duration, appIDs []string) error {
	next := make(chan string)
	var wg sync.WaitGroup
	var mu sync.Mutex // guards failed and first
	var failed int
	var first error
	for range min(cap(s.slots), len(appIDs)) {
		wg.Go(func() {
			for appID := range next {
				if _, err := s.Token(ctx, appID); err != nil {
					mu.Lock()
					if failed++; first == nil {
						first = err
					}
					mu.Unlock()
				}
			}
		})
	}
	start := time.Now()
	for i, appID := range appIDs {
		time.Sleep(time.Until(start.Add(spread / time.Duration(len(appIDs)) * time.Duration(i))))
		if ctx.Err() != nil {
			break // the others get their token when it is asked for
		}
		next <- appID
	}
	close(next)
	wg.Wait()
	if first != nil {
		return fmt.Errorf("wxtoken example: %d of %d apps got no token, the first because: %w", failed, len(appIDs), first)
	}
	return context.Cause(ctx)
}

func (s *Sources) app(appID string) (*app, error) {
	s.mu.RLock()
	a := s.apps[appID]
	s.mu.RUnlock()
	if a != nil {
		return a, nil
	}
	fetcher, err := s.fetcher(appID) // with no lock held, as it may ask a database
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.apps[appID] == nil { // otherwise another call was faster
		s.apps[appID] = &app{source: wxtoken.New(fetcher, s.cache, s.opts...)}
	}
	return s.apps[appID], nil
}
