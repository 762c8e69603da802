// Package storetest tests a store as a whole: the conformance suite, histories of
// clients and of processes that are killed, a herd of processes, and an outage. It
// writes the results as a row of docs/stores.md.
package storetest

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/cachetest"
	"github.com/wxtoken/wxtoken/internal/linearize"
	"github.com/wxtoken/wxtoken/internal/servers"
	"github.com/wxtoken/wxtoken/wxtest"
)

var full = flag.Bool("storetest.full", false, "record more histories and rounds: make stores")

const (
	clients  = 6           // of a history
	patience = time.Minute // of a call: a busy machine is not a failure
)

// A Store is a store and how a test uses it.
type Store struct {
	Name    string                                     // of the row
	Version string                                     // of the server, or of the library if there is none
	Open    func(config string) (wxtoken.Cache, error) // called for each client; the same function is given to Main
	Config  string                                     // what Open is given, here and in other processes
	Local   bool                                       // the store is in the memory of one process

	Evict   func(key string)         // removes a key at once; nil: not tried
	Retries bool                     // a swap that reports false may have been stored by the same call
	Proxied func(addr string) string // the Config by way of a proxy at addr; nil: no lost replies
	Addr    string                   // of the server, for that proxy
	Outage  func(key string)         // clears key's server, or removes it from its group; nil: not tried
	Outages string                   // what Outage does, in a few words
}

// Run tests s in subtests.
func Run(t *testing.T, s Store) {
	histories, rounds := 10, 5
	if *full {
		histories, rounds = 100, 20
	} else {
		t.Parallel() // it mostly waits
	}
	row := row{Store: s.Name, Version: s.Version, Outage: s.Outages}
	ok := t.Run("contract", func(t *testing.T) {
		cachetest.Run(t, func(t *testing.T) wxtoken.Cache { return s.open(t, s.Config) })
	})
	ok = t.Run("histories", func(t *testing.T) {
		s.workload(t, s.Config).Check(t, histories)
		row.Histories += histories
	}) && ok
	if s.Proxied != nil {
		ok = t.Run("histories with lost replies", func(t *testing.T) {
			proxy := servers.Proxy(t, s.Addr)
			w := s.workload(t, s.Proxied(proxy.Addr()))
			w.FalseIsNo = !s.Retries
			if s.Retries {
				w.Evict = nil // a swap from nothing could happen before an eviction and again after it
			}
			proxy.DropRepliesRandomly(0.05, rand.Uint64())
			w.Check(t, histories)
			if proxy.Dropped() == 0 {
				t.Error("no reply was lost")
			}
			row.Histories += histories
		}) && ok
	}
	if !s.Local {
		ok = t.Run("histories of killed processes", func(t *testing.T) {
			s.killed(t).Check(t, histories)
			row.Histories += histories
		}) && ok
		ok = t.Run("herd", func(t *testing.T) { row.LastCaller = runHerd(t, s, rounds) }) && ok
	}
	if s.Outage != nil {
		ok = t.Run("outage", func(t *testing.T) { row.Back, row.Kept = s.outage(t) }) && ok
	}
	if ok && !t.Failed() {
		row.record(t)
	}
}

func (s Store) open(t *testing.T, config string) wxtoken.Cache {
	t.Helper()
	cache, err := s.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeCache(cache) })
	return cache
}

func closeCache(cache wxtoken.Cache) {
	if c, ok := cache.(interface{ Close() error }); ok {
		_ = c.Close()
	}
}

// workload has its own client for each Cache.
func (s Store) workload(t *testing.T, config string) linearize.Workload {
	t.Helper()
	w := linearize.Workload{Evict: s.Evict, FalseIsNo: true}
	cache := s.open(t, config)
	for range clients {
		if !s.Local {
			cache = s.open(t, config)
		}
		w.Caches = append(w.Caches, cache)
	}
	return w
}

// killed is a workload of processes, one of which is killed now and then in the
// middle of an operation.
func (s Store) killed(t *testing.T) linearize.Workload {
	t.Helper()
	w := linearize.Workload{FalseIsNo: !s.Retries}
	var workers []*worker
	for range clients {
		workers = append(workers, startWorker(t, s.Config))
		w.Caches = append(w.Caches, workers[len(workers)-1])
	}
	w.During = func(int) func() {
		done := make(chan struct{})
		var killer sync.WaitGroup
		killer.Go(func() {
			for range 3 {
				select {
				case <-done:
					return
				case <-time.After(rand.N(5 * time.Millisecond)):
				}
				if err := workers[rand.IntN(len(workers))].kill(); err != nil {
					t.Error(err)
				}
			}
		})
		return func() {
			close(done)
			killer.Wait()
		}
	}
	return w
}

// outage gives a process a token, makes the store unavailable and available again,
// and expects a process that starts then to get a token. It returns how long that
// took, and whether the record was still there.
func (s Store) outage(t *testing.T) (took time.Duration, kept bool) {
	platform := wxtest.NewServer(wxtest.WithApp(herdApp, herdSecret), wxtest.WithQuota(0, 0))
	defer platform.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	prefix := fmt.Sprintf("outage%d:", time.Now().UnixNano())
	ask := func(cache wxtoken.Cache) (wxtoken.Token, error) {
		return wxtoken.New(wxtoken.NewFetcher(herdApp, herdSecret, wxtoken.WithBaseURL(platform.URL)), cache, wxtoken.WithKeyPrefix(prefix)).Token(ctx)
	}
	first, err := ask(s.open(t, s.Config))
	if err != nil {
		t.Fatal(err)
	}
	s.Outage(prefix + "token:" + herdApp)
	start := time.Now()
	var token wxtoken.Token
	for {
		var cache wxtoken.Cache
		if cache, err = s.Open(s.Config); err == nil { // a process that starts now
			token, err = ask(cache)
			closeCache(cache)
		}
		if err == nil || ctx.Err() != nil {
			break
		}
		time.Sleep(10 * time.Millisecond) // the store is on its way back
	}
	took = time.Since(start)
	if err != nil {
		t.Fatalf("no token after %s: %v", s.Outages, err)
	}
	if token.Value != platform.Latest(herdApp) {
		t.Fatalf("after %s, a new process does not have the platform's token", s.Outages)
	}
	if n := platform.Stats().Fetches().Total(); n > 2 {
		t.Fatalf("%d fetches after %s, want at most 2", n, s.Outages)
	}
	return took, token.Value == first.Value
}
