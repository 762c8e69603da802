package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wxtoken/wxtoken/wxtest"
)

const platformLatency = 50 * time.Millisecond

// A platform is wxtest with a latency, behind a socket, that notes when it last
// answered.
type platform struct {
	*wxtest.Platform
	url      string
	answered atomic.Int64 // unix ns
}

func (b *bench) platform(latency time.Duration, opts ...wxtest.Option) *platform {
	opts = append(opts, wxtest.WithApp(appID, secret), wxtest.WithQuota(0, 0))
	p := &platform{Platform: wxtest.NewPlatform(opts...)}
	p.Inject(wxtest.Latency(latency))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.ServeHTTP(w, r)
		p.answered.Store(time.Now().UnixNano())
	}))
	b.servers.Cleanup(server.Close)
	p.url = server.URL
	return p
}

func (p *platform) fetches() int { return p.Stats().Fetches().Total() }

// A fleet is a number of processes that use the same library.
type fleet struct {
	b       *bench
	members []*member
}

type member struct {
	cmd     *exec.Cmd
	orders  *json.Encoder
	answers *json.Decoder
	stop    func() error
}

func (b *bench) fleet(n int, conf setup) *fleet {
	f := &fleet{b: b}
	for range n {
		conf.Dir = b.servers.TempDir()
		f.members = append(f.members, b.start(conf))
	}
	return f
}

func (b *bench) start(conf setup) *member {
	env, err := json.Marshal(conf)
	self, selfErr := os.Executable()
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), workerEnv+"="+string(env))
	cmd.Stderr = os.Stderr
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	for _, err := range []error{err, selfErr, inErr, outErr, cmd.Start()} {
		if err != nil {
			b.servers.Fatalf("bench: start a worker: %v", err)
		}
	}
	return &member{cmd, json.NewEncoder(in), json.NewDecoder(out), in.Close}
}

// stop ends the processes: they leave when their input ends.
func (f *fleet) stop() {
	for _, m := range f.members {
		_ = m.stop()
		_ = m.cmd.Wait()
	}
}

// do gives all members the same order, under a name that none has had before,
// and starts them at the same moment.
func (f *fleet) do(o order) []outcome {
	f.b.round++
	o.Round = f.b.round
	o.Start = time.Now().Add(30 * time.Millisecond)
	outcomes := make([]outcome, len(f.members))
	errs := make([]error, len(f.members))
	var all sync.WaitGroup
	for i, m := range f.members {
		all.Go(func() {
			if errs[i] = m.orders.Encode(o); errs[i] == nil {
				errs[i] = m.answers.Decode(&outcomes[i])
			}
		})
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			f.b.servers.Fatalf("bench: worker %d: %v", i, err)
		}
	}
	return outcomes
}

// A stampede is what came of one cold start.
type stampede struct {
	fetches int
	tokens  int           // different ones that callers got
	failed  int           // calls
	stale   int           // processes that handed out a token that is no longer the latest
	lag     time.Duration // from the platform's last answer to the last caller served
}

func (f *fleet) stampede(p *platform, callers int) stampede {
	before := p.fetches()
	outcomes := f.do(order{Callers: callers})
	latest := p.Latest(appID)
	var st stampede
	st.fetches = p.fetches() - before
	tokens := map[string]bool{}
	for _, o := range outcomes {
		stale := 0
		for _, token := range o.Tokens {
			tokens[token] = true
			if token != latest {
				stale = 1
			}
		}
		st.stale += stale
		if st.failed += o.Failed; o.Failed > 0 {
			f.b.servers.Logf("%d calls failed: %s", o.Failed, o.Err)
		}
		st.lag = max(st.lag, o.Last.Sub(time.Unix(0, p.answered.Load())))
	}
	st.tokens = len(tokens)
	return st
}
