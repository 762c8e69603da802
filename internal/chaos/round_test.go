//go:build linux

package chaos

import (
	"encoding/json"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/servers"
	"github.com/wxtoken/wxtoken/wxtest"
)

const (
	processes = 6
	perDeck   = 2 // faults that wait for a fetch
	shortDeal = 3 // common faults for each of the backend's own, in a short round
)

// healed bounds the wait for every worker to use the platform's latest token
// after the last fault: the longest cooldown, and then some for a busy machine.
const healed = 90 * time.Second

type roundConfig struct {
	seed     uint64
	lifetime time.Duration // of a token
	faults   time.Duration // how long faults are injected
	short    bool          // in place of that, a few faults that are over soon
	calm     time.Duration // without faults, at the end
}

// A round is the platform, a backend's servers and the workers between them.
type round struct {
	t        *testing.T
	cfg      roundConfig
	rng      *rand.Rand // used on the test's goroutine alone
	backend  backend
	platform *wxtest.Server
	front    *servers.FaultProxy // before the platform
	workers  []*worker
	timers   sync.WaitGroup
	began    time.Time
	ended    time.Time

	mu       sync.Mutex       // guards what follows
	armed    []func(*worker)  // for the next fetches
	lifts    []func()         // of the platform's faults
	seized   map[*worker]bool // stopped or down
	unplugs  map[*worker]bool
	injected []injection
	calls    []call
	last     map[*worker]attempt // that succeeded
	fetches  []fetch
	events   map[string]int
	stalls   []window // of this process: the machine was too busy
	trace    []traced
}

// A traced is a line of the trace, which is shown if something goes wrong.
type traced struct {
	at   time.Time
	text string
}

// An injection is a fault that happened; no workers means that it concerned all.
type injection struct {
	kind    string
	workers []int
	window
}

func newRound(t *testing.T, name string, cfg roundConfig) *round {
	t.Helper()
	r := &round{
		t: t, cfg: cfg, rng: rand.New(rand.NewPCG(cfg.seed, 0)), backend: startBackend(t, name),
		seized: map[*worker]bool{}, unplugs: map[*worker]bool{}, last: map[*worker]attempt{}, events: map[string]int{},
	}
	r.platform = wxtest.NewServer(
		wxtest.WithApp(appID, secret), wxtest.WithQuota(0, 0), wxtest.WithSeed(cfg.seed),
		wxtest.WithLifetime(cfg.lifetime), wxtest.WithGrace(grace), wxtest.WithStrictGrace(),
	)
	t.Cleanup(r.platform.Close)
	r.front = servers.Proxy(t, strings.TrimPrefix(r.platform.URL, "http://"))
	for id := range processes {
		r.workers = append(r.workers, r.newWorker(id))
	}
	return r
}

func (r *round) newWorker(id int) *worker {
	w := &worker{id: id, hear: r.hear, proxy: map[string]*servers.FaultProxy{}}
	config := childConfig{
		Backend: r.backend.name, Addrs: r.backend.config, Master: r.backend.master,
		Routes: map[string]string{}, Platform: "http://" + r.front.Addr(), Lifetime: r.cfg.lifetime,
	}
	for _, addr := range r.backend.servers {
		w.proxy[addr] = servers.Proxy(r.t, addr)
		config.Routes[addr] = w.proxy[addr].Addr()
	}
	text, err := json.Marshal(config)
	require.NoError(r.t, err)
	w.config = string(text)
	return w
}

// play runs the round to its end.
func (r *round) play() {
	r.t.Helper()
	r.began = time.Now()
	stop := r.watch()
	defer stop()
	defer func() { r.ended = time.Now() }()
	for _, w := range r.workers {
		require.NoError(r.t, w.start())
	}
	defer func() { // also if a server fails the test
		r.disarm()
		r.timers.Wait()
		r.finish()
	}()
	r.awaitHealth("at the start")
	for f := range r.deal() {
		f.do(r)
		time.Sleep(r.span(100*time.Millisecond, 3*time.Second))
	}
	time.Sleep(r.cfg.calm)
	r.disarm()
	r.timers.Wait()
	r.awaitHealth("after the last fault")
}

// deal gives the faults in random order, deck after deck, until the time ends.
// Each deck has every fault of the backend and every one that can happen at once
// and, since fetches are few, some of those that wait for one. A short round
// has a part of one deck: the backend's faults, most of which make a process
// fetch, and some of the others before each.
func (r *round) deal() iter.Seq[fault] {
	if r.cfg.short {
		common := r.shuffle(slices.Concat(atOnce(), onFetches()))
		var deck []fault
		for i, own := range r.shuffle(r.backend.faults) {
			deck = append(append(deck, common[i*shortDeal:][:shortDeal]...), own)
		}
		return slices.Values(deck)
	}
	end := time.Now().Add(r.cfg.faults)
	return func(yield func(fault) bool) {
		var waiting []fault
		for time.Now().Before(end) {
			if len(waiting) < perDeck {
				waiting = append(waiting, r.shuffle(onFetches())...)
			}
			deck := slices.Concat(r.backend.faults, atOnce(), []fault{longFault()}, waiting[:perDeck])
			waiting = waiting[perDeck:]
			for _, f := range r.shuffle(deck) {
				if !time.Now().Before(end) || !yield(f) {
					return
				}
			}
		}
	}
}

func (r *round) shuffle(deck []fault) []fault {
	r.rng.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
	return deck
}

// awaitHealth waits until the last call of every worker used the latest token.
func (r *round) awaitHealth(when string) {
	r.t.Helper()
	ok := assert.Eventually(r.t, func() bool {
		latest := hash(r.platform.Latest(appID))
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, w := range r.workers {
			if r.last[w].Token != latest {
				return false
			}
		}
		return latest != ""
	}, healed, 20*time.Millisecond, "%s, not every worker comes to use the latest token", when)
	if !ok {
		r.t.Fatalf("trace:\n%s", r.lately(time.Now(), 2*healed))
	}
}

func (r *round) finish() {
	if *traceFlag != "" {
		defer r.keepTrace(*traceFlag)
	}
	var all sync.WaitGroup
	for _, w := range r.workers {
		all.Go(func() { assert.NoError(r.t, w.finish()) })
	}
	all.Wait()
}

func (r *round) keepTrace(path string) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(r.t, err)
	defer f.Close()
	_, err = fmt.Fprintf(f, "%s, seed %d\n%s", r.backend.name, r.cfg.seed, r.lately(time.Now(), time.Since(r.began)))
	require.NoError(r.t, err)
}

// watch notes when this machine is too busy to run anything in time.
func (r *round) watch() (stop func()) {
	done := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		watchStalls(done, func(s window) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.stalls = append(r.stalls, s)
		})
	})
	return func() {
		close(done)
		ended.Wait()
	}
}

// span is a random duration. A short round has only short ones.
func (r *round) span(from, to time.Duration) time.Duration {
	if r.cfg.short {
		to = from + (to-from)/4
	}
	return from + time.Duration(r.rng.Float64()*float64(to-from))
}

func (r *round) anyWorker() *worker { return r.workers[r.rng.IntN(len(r.workers))] }

// after does f later, on a goroutine of its own. The round waits for it.
func (r *round) after(d time.Duration, f func()) {
	r.timers.Go(func() {
		time.Sleep(d)
		f()
	})
}

// disarm ends what waits for a fetch.
func (r *round) disarm() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, lift := range r.lifts {
		lift()
	}
	r.armed = nil
}

// begin notes a fault, and returns what notes its end.
func (r *round) begin(kind string, workers ...int) (end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.injected)
	r.injected = append(r.injected, injection{kind, workers, window{From: time.Now()}})
	r.note("%s %v", kind, workers)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.injected[n].To = time.Now()
		r.note("%s %v is over", kind, workers)
	}
}

// seize reserves w for a fault that stops or kills it, and reports false if
// there is one already.
func (r *round) seize(w *worker) bool  { return r.mark(r.seized, w) }
func (r *round) release(w *worker)     { r.unmark(r.seized, w) }
func (r *round) unplug(w *worker) bool { return r.mark(r.unplugs, w) }
func (r *round) plug(w *worker)        { r.unmark(r.unplugs, w) }

func (r *round) mark(set map[*worker]bool, w *worker) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := set[w]
	set[w] = true
	return !was
}

func (r *round) unmark(set map[*worker]bool, w *worker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(set, w)
}

// hear takes in what a worker reports.
func (r *round) hear(w *worker, generation int, l line) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case l.Call != nil:
		c := *l.Call
		c.worker, c.generation = w.id, generation
		r.calls = append(r.calls, c)
		r.noteCall(w, c)
	case l.Fetch != nil:
		r.fetches = append(r.fetches, *l.Fetch)
		r.note("worker %d fetches: %s (%s)", w.id, l.Fetch.Why, l.Fetch.Token)
		if len(r.armed) > 0 {
			strike := r.armed[0]
			r.armed = r.armed[1:]
			r.timers.Go(func() { strike(w) })
		}
	case l.Event.Kind != "":
		r.events[string(l.Event.Kind)]++
		r.note("worker %d: %s %s", w.id, l.Event.Kind, l.Event.Err)
	case l.Stall != nil:
		r.note("worker %d was held up for %s", w.id, l.Stall.To.Sub(l.Stall.From))
	}
}

func (r *round) noteCall(w *worker, c call) {
	for _, a := range []*attempt{&c.First, c.Second} {
		if a == nil {
			continue
		}
		if a.Code == 0 {
			r.last[w] = *a
		} else {
			r.note("worker %d, token %s got %s: %d %s", w.id, a.Token, a.Got.Format("15:04:05.000"), a.Code, a.Err)
		}
	}
}

// note adds to the trace; r.mu is held.
func (r *round) note(format string, args ...any) {
	r.trace = append(r.trace, traced{time.Now(), fmt.Sprintf(format, args...)})
}

// lately gives the trace up to a moment.
func (r *round) lately(until time.Time, span time.Duration) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for _, l := range r.trace {
		if (window{until.Add(-span), until}).meets(window{l.at, l.at}) {
			fmt.Fprintf(&b, "%s %s\n", l.at.Format("15:04:05.000"), l.text)
		}
	}
	return b.String()
}
