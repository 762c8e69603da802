package openplatform_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/openplatform"
)

// A job is the configuration of a worker process.
type job struct {
	Redis     string   // address
	Sentinels []string // in place of Redis
	Platform  string   // URL
	Prefix    string
	Rows      string // directory of the application's own store; "": none
	KillAt    int64  // the process kills itself at this step; 0: never
	Callers   int
	Fetch     time.Duration // WithFetchTimeout; a death blocks others for at most three times as long
}

// A step is anything that leaves the process: a cache operation, an operation of the
// application's store, or a request. Each counts twice, before and after.
type steps struct {
	n, killAt atomic.Int64
}

func (s *steps) step() {
	if s.n.Add(1) == s.killAt.Load() {
		self, _ := os.FindProcess(os.Getpid())
		_ = self.Kill()
	}
	s.end()
}

// end returns only while the process lives: on a busy machine the signal may take
// longer to send than the rest of the work.
func (s *steps) end() {
	if at := s.killAt.Load(); at > 0 && s.n.Load() >= at {
		select {}
	}
}

type steppedCache struct {
	wxtoken.Cache
	*steps
}

func (c steppedCache) Get(ctx context.Context, key string) ([]byte, error) {
	c.step()
	defer c.step()
	return c.Cache.Get(ctx, key)
}

func (c steppedCache) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	c.step()
	defer c.step()
	return c.Cache.CompareAndSwap(ctx, key, old, new, ttl)
}

type steppedTransport struct{ *steps }

func (t steppedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.step()
	defer t.step()
	return http.DefaultTransport.RoundTrip(req)
}

// rowFiles is an application's own store: a directory with one file per account.
type rowFiles struct {
	dir string
	*steps
}

func (r rowFiles) Load(_ context.Context, appID string) (string, error) {
	r.step()
	text, err := os.ReadFile(filepath.Join(r.dir, appID))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(text), err
}

func (r rowFiles) Save(_ context.Context, appID, refreshToken string) error {
	r.step()
	defer r.step()
	f, err := os.CreateTemp(r.dir, "new")
	if err != nil {
		return err
	}
	_, err = f.WriteString(refreshToken)
	return errors.Join(err, f.Close(), os.Rename(f.Name(), filepath.Join(r.dir, appID)))
}

// platform returns the Platform of a process, and a function that closes its
// connections.
func (j job) platform(s *steps) (*openplatform.Platform, func() error) {
	var client redis.UniversalClient
	if j.Sentinels != nil {
		client = redis.NewFailoverClient(&redis.FailoverOptions{
			MasterName: "wxtoken-master", SentinelAddrs: j.Sentinels, ContextTimeoutEnabled: true})
	} else {
		client = redis.NewClient(&redis.Options{Addr: j.Redis, ContextTimeoutEnabled: true})
	}
	opts := []openplatform.Option{
		openplatform.WithCallback(msgToken, aesKey),
		openplatform.WithFetcherOptions(wxtoken.WithBaseURL(j.Platform), wxtoken.WithHTTPClient(&http.Client{Transport: steppedTransport{s}})),
		openplatform.WithSourceOptions(wxtoken.WithKeyPrefix(j.Prefix), wxtoken.WithFetchTimeout(j.Fetch)),
	}
	if j.Rows != "" {
		opts = append(opts, openplatform.WithRefreshTokens(rowFiles{j.Rows, s}))
	}
	return openplatform.New(compID, secret, steppedCache{wxtoken.NewRedisCache(client), s}, opts...), client.Close
}

// An outcome is what the callers of one process got: for each account, and for the
// component under "", the tokens and errors with their counts.
type outcome map[string]map[string]int

// ask makes many callers ask for all tokens at once.
func (j job) ask(p *openplatform.Platform) outcome {
	var mu sync.Mutex
	var all sync.WaitGroup
	out := outcome{}
	for _, account := range append([]string{""}, accounts...) {
		src, got := p.Source(), map[string]int{}
		if out[account] = got; account != "" {
			src = p.Authorizer(account)
		}
		for range j.Callers {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
				defer cancel()
				tok, err := src.Token(ctx)
				if err != nil {
					tok.Value = "error: " + err.Error()
				}
				mu.Lock()
				defer mu.Unlock()
				got[tok.Value]++
			})
		}
	}
	all.Wait()
	return out
}

// work is what a worker process does instead of running tests: for each line on its
// standard input, which is a prefix, it starts over and asks.
func work(text string) {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		panic(err)
	}
	s := &steps{}
	s.killAt.Store(j.KillAt)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		j.Prefix = lines.Text()
		p, done := j.platform(s)
		answer, _ := json.Marshal(j.ask(p))
		s.end()
		fmt.Println(string(answer))
		_ = done()
	}
}

// A worker is a running worker process.
type worker struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func (j job) start(t *testing.T) *worker {
	t.Helper()
	text, err := json.Marshal(j)
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), workerEnv+"="+string(text), "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	return &worker{t, cmd, in, bufio.NewReader(out)}
}

// ask returns what a process with a fresh Platform got, or nil if it died.
func (w *worker) ask(prefix string) (out outcome) {
	_, _ = fmt.Fprintln(w.in, prefix)
	line, err := w.out.ReadBytes('\n')
	if err != nil {
		return nil
	}
	assert.NoError(w.t, json.Unmarshal(line, &out))
	return out
}

func (w *worker) stop() error {
	_ = w.in.Close()
	return w.cmd.Wait()
}
