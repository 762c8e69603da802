//go:build linux

package chaos

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9/logging"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/wxtoken/wxtoken/internal/servers"
	"github.com/wxtoken/wxtoken/wxtest"
)

var (
	timeFlag = flag.Duration("chaos.time", 0, "how long TestChaos injects faults on each backend; 0 skips it")
	seedFlag = flag.Uint64("chaos.seed", 0, "seed of the faults; 0 picks one, and prints it")
)

const (
	scale    = 50 // how much faster than by default the options are
	grace    = 5 * time.Minute / scale
	lifetime = 10 * time.Second // of a token

	members = 6 // processes that live as long as the round
	brief   = 2 // that live for 3 to 10 s; the one after these is behind the spoiler

	// The bounds of what must hold: see the package comment.
	perCalls = 1000
	perFetch = 2 // faults
	recovery = 10 * time.Second

	appID     = "wx1"
	secret    = "0123456789abcdef0123456789abcdef"
	recordKey = "wxtoken:token:" + appID
)

var backends = []string{"redis", "sentinel", "cluster", "memcached", "file"}

func TestMain(m *testing.M) {
	logging.Disable() // of go-redis
	log.SetOutput(io.Discard)
	if text := os.Getenv(workerEnv); text != "" {
		var c workerConfig
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			panic(err)
		}
		c.work()
		return
	}
	goleak.VerifyTestMain(m)
}

// The short form of TestChaos.
func TestShortChaos(t *testing.T) {
	for _, name := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it mostly waits
			play(t, name, max(*seedFlag, 1), 6*time.Second)
		})
	}
}

// Without faults, every call is served and there is one fetch in each lifetime.
func TestNoFaults(t *testing.T) { play(t, "redis", 0, 0) }

func TestChaos(t *testing.T) {
	if *timeFlag == 0 {
		t.Skip("this takes minutes: make chaos")
	}
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64N(1_000_000)
	}
	t.Logf("seed %d: make chaos CHAOS_SEED=%[1]d CHAOS_TIME=%s", seed, *timeFlag)
	var figures []string
	for _, name := range backends {
		t.Run(name, func(t *testing.T) { figures = append(figures, play(t, name, seed, *timeFlag)) })
	}
	t.Logf("\n%s", strings.Join(figures, "\n"))
}

type window struct{ From, To time.Time }

// An injection is a fault that happened; no ids means that it concerned all processes.
type injection struct {
	window
	kind string
	ids  []int
}

// A round is the platform, a backend and the processes between them.
type round struct {
	t         *testing.T
	seed      uint64
	backend   backend
	platform  *wxtest.Server
	front     *servers.FaultProxy // before the platform
	processes []*process
	fetches   chan int // who fetches, if a fault waits for it
	began     time.Time
	until     time.Time // no fault begins later

	mu     sync.Mutex // guards what follows
	faults []injection
	calls  map[int][]call // by process
	trace  strings.Builder
}

// play runs a round with faults for the given time, checks it, and returns its figures.
func play(t *testing.T, name string, seed uint64, faults time.Duration) string {
	r := &round{t: t, seed: seed, backend: startBackend(t, name), fetches: make(chan int), calls: map[int][]call{}}
	r.platform = wxtest.NewServer(wxtest.WithApp(appID, secret), wxtest.WithQuota(0, 0),
		wxtest.WithLifetime(lifetime), wxtest.WithGrace(grace), wxtest.WithStrictGrace())
	t.Cleanup(r.platform.Close)
	r.front = servers.Proxy(t, strings.TrimPrefix(r.platform.URL, "http://"))
	spoiler := httptest.NewServer(spoiler(r.front.Addr()))
	t.Cleanup(spoiler.Close)
	config := workerConfig{Backend: r.backend, Platform: "http://" + r.front.Addr(), Scale: scale, Fetch: fetchTimeout, Pause: callPause, Patience: patience}
	if faults == 0 {
		config.Scale, config.Fetch = scale/5, 5*fetchTimeout // so that a busy machine is no fault
	}
	r.began = time.Now()
	if r.until = r.began.Add(faults); !r.long() { // other packages are tested at the same time
		config.Pause *= 2
	}
	for range members + brief {
		r.start(config)
	}
	if faults > 0 {
		config.Platform, config.Eager = spoiler.URL, true
		r.start(config)
	}
	defer r.finish() // also if a server fails the test
	if faults > 0 {
		r.inject()
	} else {
		time.Sleep(lifetime * 3 / 2)
	}
	r.awaitCalls()
	r.finish()
	return r.check(time.Since(r.began))
}

func (r *round) start(config workerConfig) {
	p := &process{id: len(r.processes), hear: r.hear}
	config.Routes = map[string]string{}
	for _, addr := range r.backend.all {
		proxy := servers.Proxy(r.t, addr)
		p.proxies = append(p.proxies, proxy)
		config.Routes[addr] = proxy.Addr()
	}
	text, err := json.Marshal(config)
	require.NoError(r.t, err)
	p.config = string(text)
	require.NoError(r.t, p.start())
	r.processes = append(r.processes, p)
}

// inject plays the streams of faults, until the last has healed.
func (r *round) inject() {
	var streams sync.WaitGroup
	defer streams.Wait()
	streams.Go(func() { r.stream(1).run(r.networkFaults()...) })
	streams.Go(func() { r.stream(2).run(processFaults()...) })
	streams.Go(func() { r.stream(3).run(fetchFaults()...) })
	for id := members; id < members+brief; id++ {
		streams.Go(func() { r.stream(id).shortLives(id) })
	}
	r.stream(0).run(r.storeFaults()...)
}

// begin notes a fault, and returns what notes its end.
func (r *round) begin(kind string, ids ...int) (heal func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.faults)
	r.faults = append(r.faults, injection{window{From: time.Now()}, kind, ids})
	r.note("%s %v", kind, ids)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.faults[n].To = time.Now()
		r.note("%s %v is over", kind, ids)
	}
}

// hear takes in what a process reports.
func (r *round) hear(p *process, is report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch before := r.calls[p.id]; {
	case is.Event != "":
		r.note("process %d: %s", p.id, is.Event)
	case is.Call == nil:
		r.note("process %d fetches", p.id)
		select {
		case r.fetches <- p.id:
		default:
		}
	default:
		if n := len(before); n == 0 || before[n-1].Result != is.Call.Result {
			r.note("process %d: %s", p.id, is.Call.Result)
		}
		r.calls[p.id] = append(before, *is.Call)
	}
}

// note adds to the trace, which is shown if a check fails; r.mu is held.
func (r *round) note(format string, args ...any) {
	fmt.Fprintf(&r.trace, "%7.3f %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

// awaitCalls waits until every process is served once more; check looks at how long that took.
func (r *round) awaitCalls() {
	from := time.Now()
	assert.Eventually(r.t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return !slices.ContainsFunc(r.processes, func(p *process) bool {
			return !slices.ContainsFunc(r.calls[p.id], func(c call) bool { return c.Result == served && c.From.After(from) })
		})
	}, 3*recovery, 20*time.Millisecond, "not every process gets a token")
}

// finish ends all processes; a second call does nothing.
func (r *round) finish() {
	for _, p := range r.processes {
		assert.NoError(r.t, p.finish())
	}
	r.processes = nil
}

// check asserts what must hold, and returns the figures of the round.
func (r *round) check(took time.Duration) string {
	results, kinds := map[string]int{}, map[string]int{}
	var longest time.Duration
	calls := 0
	for id, all := range r.calls {
		calls += len(all)
		for _, c := range all {
			results[c.Result]++
		}
		longest = max(longest, r.without(id))
	}
	for _, f := range r.faults {
		kinds[f.kind]++
	}
	issued := r.platform.Stats().Fetches()[0]
	explained := 1 + int(took/(lifetime*3/4)) + len(r.faults)/perFetch // a token is replaced in the last quarter
	assert.LessOrEqual(r.t, results[rejected], calls/perCalls, "calls rejected again, after Invalidate")
	assert.LessOrEqual(r.t, issued, explained, "tokens issued, and how many the lifetimes and faults explain")
	assert.Less(r.t, longest, recovery, "a process without a token although nothing is in its way")
	if len(r.faults) == 0 {
		assert.Equal(r.t, calls, results[served], "calls served at once, without faults")
	}
	if r.t.Failed() {
		r.t.Logf("what happened:\n%s", &r.trace)
	}
	figures := fmt.Sprintf("%s, seed %d, %.0f s: %d calls %v; %d tokens issued, at most %d explained; longest without a token %.1f s; %d faults",
		r.backend.Name, r.seed, took.Seconds(), calls, results, issued, explained, longest.Seconds(), len(r.faults))
	r.t.Logf("%s %v", figures, kinds)
	return figures
}

// without returns for how long process id was not served although no fault
// concerned it: the longest such part of a time between two served calls.
func (r *round) without(id int) (longest time.Duration) {
	last := r.began
	for _, c := range r.calls[id] {
		if c.Result != served && c.Result != servedAgain {
			continue
		}
		from := last
		for _, f := range r.faults { // in the order in which they began
			if (len(f.ids) == 0 || slices.Contains(f.ids, id)) && f.From.Before(c.To) && f.To.After(from) {
				longest = max(longest, f.From.Sub(from))
				from = f.To
			}
		}
		longest = max(longest, c.To.Sub(from))
		last = c.To
	}
	return longest
}
