package storetest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/wxtoken/wxtoken"
)

// workerEnv is set in the processes that a test starts, to the Config that Main
// opens.
const workerEnv = "WXTOKEN_STORETEST_WORKER"

// Main is the TestMain of a package whose tests call Run. In the processes that
// they start, it serves the Cache that open returns for a Store's Config.
func Main(m *testing.M, open func(config string) (wxtoken.Cache, error)) {
	config, started := os.LookupEnv(workerEnv)
	if !started {
		os.Exit(m.Run())
	}
	cache, err := open(config)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	serve(cache)
}

// A request is sent to a worker as a line of JSON.
type request struct {
	Op       string // get, swap or herd
	Key      string
	Old, New []byte
	Absent   bool // Old is nil
	TTL      time.Duration
	Timeout  time.Duration
	Herd     herd
}

type reply struct {
	Value  []byte
	Miss   bool
	Stored bool
	Err    string
	Served time.Time // when a herd's last caller had its token
}

// serve answers requests until standard input ends.
func serve(cache wxtoken.Cache) {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var r request
		if in.Decode(&r) != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), r.Timeout)
		var a reply
		var err error
		switch r.Op {
		case "get":
			a.Value, err = cache.Get(ctx, r.Key)
			a.Miss = errors.Is(err, wxtoken.ErrCacheMiss)
		case "swap":
			if r.Old == nil && !r.Absent {
				r.Old = []byte{}
			}
			a.Stored, err = cache.CompareAndSwap(ctx, r.Key, r.Old, r.New, r.TTL)
		case "herd":
			a.Value, a.Served, err = r.Herd.run(ctx, cache)
		}
		cancel()
		if err != nil {
			a.Err = err.Error()
		}
		if out.Encode(a) != nil {
			return
		}
	}
}

// A worker is another process with the Cache under test. It is a Cache itself.
type worker struct {
	t      *testing.T
	config string

	call sync.Mutex // one request at a time
	up   sync.Mutex // held while the process is down, so that no request is lost
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
}

func startWorker(t *testing.T, config string) *worker {
	t.Helper()
	w := &worker{t: t, config: config}
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = w.in.Close() // which ends it
		_ = w.cmd.Wait()
	})
	return w
}

func (w *worker) start() (err error) {
	w.cmd = exec.Command(os.Args[0])
	w.cmd.Env = append(os.Environ(), workerEnv+"="+w.config, "GORACE=atexit_sleep_ms=0")
	w.cmd.Stderr = os.Stderr
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	w.out = bufio.NewReader(out)
	return w.cmd.Start()
}

// kill ends the process with SIGKILL, whatever it is doing, and starts another.
func (w *worker) kill() error {
	w.up.Lock()
	defer w.up.Unlock()
	_ = w.cmd.Process.Kill()
	w.call.Lock() // the interrupted call has failed by now
	defer w.call.Unlock()
	_ = w.in.Close()
	_ = w.cmd.Wait()
	return w.start()
}

// ask sends r and waits for the answer. An error means that the worker died.
func (w *worker) ask(r request) (a reply, err error) {
	w.up.Lock()
	w.call.Lock()
	w.up.Unlock()
	defer w.call.Unlock()
	line, err := json.Marshal(r)
	if err != nil {
		return a, err
	}
	if _, err := w.in.Write(append(line, '\n')); err != nil {
		return a, err
	}
	line, err = w.out.ReadBytes('\n')
	if err != nil {
		return a, err
	}
	err = json.Unmarshal(line, &a)
	if err == nil && a.Err != "" {
		err = errors.New(a.Err)
	}
	return a, err
}

// Get implements wxtoken.Cache.
func (w *worker) Get(_ context.Context, key string) ([]byte, error) {
	a, err := w.ask(request{Op: "get", Key: key, Timeout: patience})
	if a.Miss {
		return nil, wxtoken.ErrCacheMiss
	}
	return a.Value, err
}

// CompareAndSwap implements wxtoken.Cache.
func (w *worker) CompareAndSwap(_ context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	a, err := w.ask(request{Op: "swap", Key: key, Old: old, New: new, Absent: old == nil, TTL: ttl, Timeout: patience})
	return a.Stored, err
}
