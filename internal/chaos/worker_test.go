//go:build linux

package chaos

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/servers"
)

const workerEnv = "WXTOKEN_CHAOS_WORKER" // set in the processes that a round starts

const (
	fetchTimeout = 10 * time.Second / scale
	callers      = 2                     // per process
	callPause    = 50 * time.Millisecond // between a caller's calls, on average; twice as long in a short round
	holding      = 10 * time.Millisecond // from Token to the request, on average
	patience     = time.Second           // of a caller, with faults
)

// A process is this test binary as a worker, which shares the token with others.
type process struct {
	id      int
	program string // of another version; empty: this test binary
	config  string
	proxies []*servers.FaultProxy // one to each server
	hear    func(*process, report)
	struck  sync.Mutex // by one fault at a time

	cmd   *exec.Cmd
	in    io.Closer
	heard chan struct{} // closed when its output has ended
}

func (p *process) start() (err error) {
	p.cmd = exec.Command(cmp.Or(p.program, os.Args[0]))
	p.cmd.Env = append(os.Environ(), workerEnv+"="+p.config, "GORACE=atexit_sleep_ms=0")
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	heard := make(chan struct{})
	p.heard = heard
	go func() {
		defer close(heard)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var r report
			if json.Unmarshal(lines.Bytes(), &r) == nil { // the last line of a killed process is cut short
				p.hear(p, r)
			}
		}
	}()
	return p.cmd.Start()
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only if it has ended
	_ = p.finish()           // it was killed
}

// finish lets the process return from main.
func (p *process) finish() error {
	_ = p.in.Close()
	<-p.heard
	return p.cmd.Wait()
}

// A workerConfig is what a process is told.
type workerConfig struct {
	Backend  backend
	Routes   map[string]string // from a server's address to the proxy before it
	Platform string            // URL
	Scale    time.Duration     // how much faster than by default the options are
	Eager    bool              // mostly the first to fetch
	Fetch    time.Duration     // WithFetchTimeout
	Pause    time.Duration     // between a caller's calls, on average
	Patience time.Duration     // of a caller with Token, and with the platform
}

// A report is what a process tells: one of its fields, or none if it is about to fetch.
type report struct {
	Call  *call  `json:",omitempty"`
	Event string `json:",omitempty"`
}

// A call is a business call, repeated once if its token is rejected.
type call struct {
	window
	Result string
}

// Results of a call.
const (
	served      = "served"
	servedAgain = "rejected, then served"
	rejected    = "rejected again"
	notReplaced = "rejected, and Invalidate failed"
	noToken     = "no token"
	noAnswer    = "no answer"
)

// work calls the platform until standard input ends.
func (c workerConfig) work() {
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	tell := func(r report) {
		mu.Lock()
		defer mu.Unlock()
		if out.Encode(r) != nil {
			os.Exit(0) // the test is gone
		}
	}
	cache := c.Backend.open(func(ctx context.Context, network, addr string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, c.Routes[addr]) // without a route, an error
	})
	fetcher := wxtoken.NewFetcher(appID, secret, wxtoken.WithBaseURL(c.Platform))
	ahead := 5 * time.Minute / c.Scale
	if c.Eager {
		ahead *= 2
	}
	src := wxtoken.New(
		wxtoken.FetcherFunc(fetcher.Key(), func(ctx context.Context) (wxtoken.Token, error) {
			tell(report{})
			return fetcher.Fetch(ctx)
		}),
		cache,
		wxtoken.WithFetchTimeout(c.Fetch),
		wxtoken.WithLocalAge(45*time.Second/c.Scale),
		wxtoken.WithRefreshAhead(ahead),
		wxtoken.WithObserver(func(e wxtoken.Event) { tell(report{Event: fmt.Sprint(e.Kind, " ", e.Err)}) }),
	)
	for range callers {
		go func() {
			client := &http.Client{Timeout: c.Patience, Transport: &http.Transport{}}
			for {
				time.Sleep(c.Pause/2 + rand.N(c.Pause))
				from := time.Now()
				result := c.call(src, client)
				tell(report{Call: &call{window{from, time.Now()}, result}})
			}
		}()
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func (c workerConfig) call(src *wxtoken.Source, client *http.Client) string {
	for _, good := range []string{served, servedAgain} {
		ctx, cancel := context.WithTimeout(context.Background(), c.Patience)
		defer cancel()
		tok, err := src.Token(ctx)
		if err != nil {
			return noToken
		}
		time.Sleep(rand.N(2 * holding))
		resp, err := client.Get(c.Platform + "/cgi-bin/get_api_domain_ip?access_token=" + tok.Value)
		if err != nil {
			return noAnswer
		}
		defer resp.Body.Close()
		var answer struct{ Errcode int }
		switch err := json.NewDecoder(resp.Body).Decode(&answer); {
		case err != nil || resp.StatusCode != http.StatusOK:
			return noAnswer
		case !wxtoken.IsTokenRejected(answer.Errcode):
			return good
		case src.Invalidate(ctx, tok.Value) != nil:
			return notReplaced
		}
	}
	return rejected
}
