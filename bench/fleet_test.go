package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/silenceper/wechat/v2/cache"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

const workerEnv = "WXTOKEN_BENCH_WORKER" // holds a worker, as JSON

func TestMain(m *testing.M) {
	conf := os.Getenv(workerEnv)
	if conf == "" {
		os.Exit(m.Run())
	}
	var w worker
	if err := errors.Join(json.Unmarshal([]byte(conf), &w), w.run()); err != nil {
		panic(err)
	}
}

// A platform is wxtest with a latency, behind a socket, that notes when it last answered.
type platform struct {
	*wxtest.Platform
	url      string
	answered atomic.Int64 // unix ns
}

func newPlatform(tb testing.TB, latency time.Duration) *platform {
	p := &platform{Platform: wxtest.NewPlatform(wxtest.WithApp(appID, secret), wxtest.WithQuota(0, 0))}
	p.Inject(wxtest.Latency(latency))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.ServeHTTP(w, r)
		p.answered.Store(time.Now().UnixNano())
	}))
	tb.Cleanup(server.Close)
	p.url = server.URL
	return p
}

// A worker is one process of an application. It gets a token to connect and to page its code in, and says so with an
// empty line. When it is sent one, all callers ask an instance that has no token. It then lives until its input ends, as an
// application would: a process that exits takes the processors from those whose callers still wait.
type worker struct {
	Library  string
	Store    string // redis or memcached, where the library has a choice
	Addr     string // of the store
	Platform string // base URL
	Dir      string // of its own
	Prefix   string // of the keys, shared by the fleet
	Callers  int
}

// An outcome is what the callers of one process got.
type outcome struct {
	Tokens map[string]bool
	Failed []string  // errors
	Last   time.Time // when the last caller was served
}

func (w worker) run() error {
	library := w.library()
	call(library("warm:" + w.Prefix))
	get, out := library(w.Prefix), outcome{Tokens: map[string]bool{}}
	begin := make(chan struct{})
	var mu sync.Mutex
	var all sync.WaitGroup
	for range w.Callers {
		all.Go(func() {
			<-begin
			token, err := get(context.Background())
			mu.Lock()
			defer mu.Unlock()
			if out.Last = time.Now(); err != nil {
				out.Failed = append(out.Failed, err.Error())
				return
			}
			out.Tokens[token] = true
		})
	}
	fmt.Println()
	in := bufio.NewReader(os.Stdin)
	_, err := in.ReadString('\n')
	close(begin)
	all.Wait()
	err = errors.Join(err, json.NewEncoder(os.Stdout).Encode(out))
	_, rest := io.Copy(io.Discard, in)
	return errors.Join(err, rest)
}

// library returns what makes an instance without a token. Instances of one prefix share what the library lets them share.
func (w worker) library() func(prefix string) getter {
	shared, peers := redisCache(w.Addr), silenceperRedis(w.Addr)
	if w.Store == "memcached" {
		shared, peers = wxtoken.NewMemcachedCache(memcache.New(w.Addr)), cache.NewMemcache(w.Addr)
	}
	return map[string]func(prefix string) getter{
		"wxtoken": func(prefix string) getter {
			return ours(wxtoken.NewFetcher(appID, secret, wxtoken.WithBaseURL(w.Platform)), shared, wxtoken.WithKeyPrefix(prefix))
		},
		"silenceper": func(prefix string) getter { return silenceper(w.Platform, prefix, peers) },
		"weapp":      func(string) getter { return weappAt(w.Platform) },
		"fastwego":   func(prefix string) getter { return fastwego(w.Platform, w.Dir+"/"+prefix) },
	}[w.Library]
}

// A stampede is what came of cold starts.
type stampede struct {
	fetches  int
	failed   int           // calls
	stale    int           // processes that handed out a token that had been superseded
	commands int           // of all processes
	lag      time.Duration // from the platform's last answer to the last caller served
}

// start starts n processes and, when all are ready, their callers. It adds to st what comes of it.
func (w worker) start(tb testing.TB, p *platform, n int, st *stampede) {
	w.Platform, w.Prefix = p.url, fmt.Sprint("start", time.Now().UnixNano())
	cmds, ins, outs := make([]*exec.Cmd, n), make([]io.WriteCloser, n), make([]*bufio.Reader, n)
	for i := range cmds {
		w.Dir = tb.TempDir()
		conf, err := json.Marshal(w)
		cmds[i] = exec.Command(os.Args[0])
		cmds[i].Env = append(os.Environ(), workerEnv+"="+string(conf))
		cmds[i].Stderr = os.Stderr
		in, inErr := cmds[i].StdinPipe()
		out, outErr := cmds[i].StdoutPipe()
		require.NoError(tb, errors.Join(err, inErr, outErr, cmds[i].Start()))
		ins[i], outs[i] = in, bufio.NewReader(out)
	}
	for _, out := range outs {
		_, err := out.ReadString('\n')
		require.NoError(tb, err)
	}
	fetches, sent := p.Stats().Fetches().Total(), commands(tb, w.Store, w.Addr)
	for _, in := range ins {
		_, err := in.Write([]byte("\n"))
		require.NoError(tb, err)
	}
	outcomes := make([]outcome, n)
	for i, out := range outs {
		require.NoError(tb, json.NewDecoder(out).Decode(&outcomes[i]))
	}
	st.fetches += p.Stats().Fetches().Total() - fetches
	st.commands += commands(tb, w.Store, w.Addr) - sent
	for i, cmd := range cmds {
		require.NoError(tb, errors.Join(ins[i].Close(), cmd.Wait()))
	}
	var lag time.Duration
	for _, o := range outcomes {
		if st.failed += len(o.Failed); len(o.Failed) > 0 {
			tb.Log("a call failed: ", o.Failed[0])
		}
		delete(o.Tokens, p.Latest(appID))
		st.stale += min(len(o.Tokens), 1)
		lag = max(lag, o.Last.Sub(time.Unix(0, p.answered.Load())))
	}
	st.lag += lag
}
