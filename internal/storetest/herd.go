package storetest

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

const (
	herdProcesses   = 8
	herdCallers     = 200 // in each process
	platformLatency = 50 * time.Millisecond
	herdApp         = "wx1"
	herdSecret      = "0123456789abcdef0123456789abcdef"
)

// A herd is many concurrent callers in a process, with an empty store.
type herd struct {
	Platform string // URL
	Prefix   string // of the keys of this round
}

// run returns the token that all callers got, and when the last one got it.
func (h herd) run(ctx context.Context, cache wxtoken.Cache) (token []byte, served time.Time, err error) {
	src := wxtoken.New(wxtoken.NewFetcher(herdApp, herdSecret, wxtoken.WithBaseURL(h.Platform)), cache, wxtoken.WithKeyPrefix(h.Prefix), wxtoken.WithFetchTimeout(patience))
	var mu sync.Mutex
	tokens := make(map[string]int)
	var callers sync.WaitGroup
	for range herdCallers {
		callers.Go(func() {
			tok, err := src.Token(ctx)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				tok.Value = err.Error()
			}
			tokens[tok.Value]++
			served = time.Now()
		})
	}
	callers.Wait()
	if len(tokens) != 1 {
		return nil, served, fmt.Errorf("%d answers: %v", len(tokens), tokens)
	}
	for t := range tokens {
		token = []byte(t)
	}
	return token, served, nil
}

// runHerd lets eight processes start at once, round after round, and expects one
// fetch in each. It returns how long after the platform's answer the last caller of
// all was served, as the median of the rounds.
func runHerd(t *testing.T, s Store, rounds int) (lastCaller time.Duration) {
	platform := wxtest.NewPlatform(wxtest.WithApp(herdApp, herdSecret), wxtest.WithQuota(0, 0))
	platform.Inject(wxtest.Latency(platformLatency))
	var answered atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		platform.ServeHTTP(w, r)
		answered.Store(time.Now().UnixNano())
	}))
	defer server.Close()

	var workers []*worker
	for range herdProcesses {
		workers = append(workers, startWorker(t, s.Config))
	}
	var last []time.Duration
	for round := range rounds {
		before := platform.Stats().Fetches().Total()
		ask := request{Op: "herd", Timeout: 2 * patience, Herd: herd{server.URL, fmt.Sprintf("herd%d-%d:", time.Now().UnixNano(), round)}}
		served := make([]time.Time, len(workers))
		var all sync.WaitGroup
		for i, w := range workers {
			all.Go(func() {
				a, err := w.ask(ask)
				served[i] = a.Served
				if err != nil || string(a.Value) != platform.Latest(herdApp) {
					t.Errorf("round %d: a process does not have the platform's token:  %v", round, err)
				}
			})
		}
		all.Wait()
		if n := platform.Stats().Fetches().Total() - before; n != 1 || t.Failed() {
			t.Fatalf("round %d: %d fetches, want 1", round, n)
		}
		last = append(last, slices.MaxFunc(served, time.Time.Compare).Sub(time.Unix(0, answered.Load())))
	}
	slices.Sort(last)
	lastCaller = last[len(last)/2]
	t.Logf("%d processes × %d callers, %d rounds: 1 fetch in each, last caller %v after the platform's answer", herdProcesses, herdCallers, rounds, lastCaller)
	return lastCaller
}
