package wxtoken_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/servers"
	"github.com/wxtoken/wxtoken/wxtest"
)

const (
	workerEnv        = "WXTOKEN_TEST_WORKER" // set in the processes that this test starts
	processes        = 8
	callersEach      = 200
	rounds           = 20
	platformLatency  = 50 * time.Millisecond
	processAppSecret = "0123456789abcdef0123456789abcdef"
)

// Real processes, real HTTP, real stores: one fetch in every round.
func TestEightColdProcessesMakeOneFetch(t *testing.T) {
	for _, backend := range []string{"redis", "memcached"} {
		t.Run(backend, func(t *testing.T) {
			start := servers.Redis
			if backend == "memcached" {
				start = servers.Memcached
			}
			store := start(t)
			platform := wxtest.NewServer(wxtest.WithApp("wx1", processAppSecret), wxtest.WithQuota(0, 0))
			defer platform.Close()
			platform.Inject(wxtest.Latency(platformLatency))

			var workers []*worker
			for range processes {
				workers = append(workers, startWorker(t, backend, store.Addr(), platform.URL))
			}
			for round := range rounds {
				before := platform.Stats().Fetches().Total()
				var all sync.WaitGroup
				for _, w := range workers {
					all.Go(func() {
						token := w.round(round)
						assert.Equal(t, platform.Latest("wx1"), token)
					})
				}
				all.Wait()
				require.Equal(t, 1, platform.Stats().Fetches().Total()-before, "fetches in round %d", round)
			}
			t.Logf("%d processes x %d callers, %d rounds on %s: 1 fetch in each", processes, callersEach, rounds, backend)
		})
	}
}

type worker struct {
	in  io.WriteCloser
	out *bufio.Reader
}

func startWorker(t *testing.T, backend, addr, platform string) *worker {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), workerEnv+"="+strings.Join([]string{backend, addr, platform}, " "))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close() // ends the worker
		assert.NoError(t, cmd.Wait())
	})
	return &worker{in, bufio.NewReader(out)}
}

// round has the worker make a Source on an empty key and all its callers ask. It
// gives the one token that they all got.
func (w *worker) round(n int) string {
	fmt.Fprintln(w.in, n)
	answer, err := w.out.ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(answer)
}

// work is what a started process does in place of the tests.
func work(config string) {
	var backend, addr, platform string
	fmt.Sscan(config, &backend, &addr, &platform)
	var cache wxtoken.Cache
	if backend == "redis" {
		cache = wxtoken.NewRedisCache(redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true}))
	} else {
		cache = wxtoken.NewMemcachedCache(memcache.New(addr))
	}
	fetcher := wxtoken.NewFetcher("wx1", processAppSecret, wxtoken.WithBaseURL(platform))
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		src := wxtoken.New(fetcher, cache, wxtoken.WithKeyPrefix("round"+lines.Text()+":"))
		var mu sync.Mutex
		tokens := map[string]int{}
		together(callersEach, func(int) {
			tok, err := src.Token(context.Background())
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				tokens[err.Error()]++
			} else {
				tokens[tok.Value]++
			}
		})
		if len(tokens) != 1 {
			fmt.Println(len(tokens), "answers:", tokens)
			continue
		}
		for token := range tokens {
			fmt.Println(token)
		}
	}
}
