//go:build linux

package chaos

import (
	"encoding/json"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/http/httptest"
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
	processes = 6 // that live as long as the round
	shortened = 2 // that live for 3 to 10 s each time; after these comes the one behind the spoiler
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

func (c roundConfig) faulty() bool { return c.short || c.faults > 0 }

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

	mu       sync.Mutex      // guards what follows
	armed    []func(*worker) // for the next fetches
	lifts    []func()        // of the platform's faults
	reserved map[string]bool // what a fault has hold of
	injected []injection
	calls    []heard
	last     map[*worker]string // the token that it used last, with success
	said     map[*worker]string // what came of its last call
	counts   map[string]int
	trace    []traced
}

// heard is a call and who made it.
type heard struct {
	*call
	worker, generation int
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
		reserved: map[string]bool{}, last: map[*worker]string{}, said: map[*worker]string{}, counts: map[string]int{},
	}
	r.platform = wxtest.NewServer(
		wxtest.WithApp(appID, secret), wxtest.WithQuota(0, 0), wxtest.WithSeed(cfg.seed),
		wxtest.WithLifetime(cfg.lifetime), wxtest.WithGrace(grace), wxtest.WithStrictGrace(),
	)
	t.Cleanup(r.platform.Close)
	r.front = servers.Proxy(t, strings.TrimPrefix(r.platform.URL, "http://"))
	for id := range processes {
		r.addWorker(id, "http://"+r.front.Addr(), refreshAhead)
	}
	if cfg.faulty() {
		for id := range shortened {
			r.addWorker(processes+id, "http://"+r.front.Addr(), refreshAhead)
		}
		spoiler := httptest.NewServer(r.spoiler())
		t.Cleanup(spoiler.Close)
		r.addWorker(processes+shortened, spoiler.URL, refreshAhead*5/4) // which makes it the first to fetch, mostly
	}
	return r
}

func (r *round) addWorker(id int, platform string, ahead time.Duration) {
	w := &worker{id: id, hear: r.hear}
	config := childConfig{
		Backend: r.backend.name, Addrs: r.backend.config, Master: r.backend.master,
		Routes: map[string]string{}, Platform: platform, Lifetime: r.cfg.lifetime, Ahead: ahead,
	}
	for _, addr := range r.backend.servers {
		p := servers.Proxy(r.t, addr)
		w.proxy = append(w.proxy, p)
		config.Routes[addr] = p.Addr()
	}
	text, err := json.Marshal(config)
	require.NoError(r.t, err)
	w.config = string(text)
	r.workers = append(r.workers, w)
}

// play runs the round to its end.
func (r *round) play() {
	r.t.Helper()
	r.began = time.Now()
	over := make(chan struct{})
	var background sync.WaitGroup
	background.Go(func() { watchStalls(over, func(s window) { r.inject(injection{kindStall, nil, s}) }) })
	for i, w := range r.workers {
		require.NoError(r.t, w.start())
		if processes <= i && i < processes+shortened {
			background.Go(func() { r.shortLives(w, over) })
		}
	}
	stop := sync.OnceFunc(func() {
		r.disarm()
		close(over)
		background.Wait()
		r.timers.Wait()
	})
	defer func() { // also if a server fails the test
		stop()
		r.finish()
		r.ended = time.Now()
	}()
	r.awaitHealth("at the start")
	for f := range r.deal() {
		f.do(r)
		time.Sleep(r.span(100*time.Millisecond, 3*time.Second))
	}
	time.Sleep(r.cfg.calm)
	stop()
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
	well := assert.Eventually(r.t, func() bool {
		latest := hash(r.platform.Latest(appID))
		r.mu.Lock()
		defer r.mu.Unlock()
		return latest != "" && !slices.ContainsFunc(r.workers, func(w *worker) bool { return r.last[w] != latest })
	}, healed, 20*time.Millisecond, "%s, not every worker comes to use the latest token", when)
	if !well {
		r.t.Fatalf("trace:\n%s", r.lately(time.Now(), 2*healed))
	}
}

func (r *round) finish() {
	var all sync.WaitGroup
	for _, w := range r.workers {
		all.Go(func() { assert.NoError(r.t, w.finish()) })
	}
	all.Wait()
	if *traceFlag != "" {
		f, err := os.OpenFile(*traceFlag, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		require.NoError(r.t, err)
		defer f.Close()
		_, err = fmt.Fprintf(f, "%s, seed %d\n%s", r.backend.name, r.cfg.seed, r.lately(time.Now(), time.Since(r.began)))
		require.NoError(r.t, err)
	}
}

// span is a random duration. A short round has only short ones.
func (r *round) span(from, to time.Duration) time.Duration {
	if r.cfg.short {
		to = from + (to-from)/4
	}
	return from + time.Duration(r.rng.Float64()*float64(to-from))
}

func (r *round) anyWorker() *worker { return r.workers[r.rng.IntN(processes)] }

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
	n := r.inject(injection{kind, workers, window{From: time.Now()}})
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.injected[n].To = time.Now()
		r.note("%s %v is over", kind, workers)
	}
}

func (r *round) inject(in injection) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.injected = append(r.injected, in)
	r.note("%s %v", in.kind, in.workers)
	return len(r.injected) - 1
}

// reserve keeps other faults from what, and reports false if one has hold of it.
func (r *round) reserve(what string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.reserved[what]
	r.reserved[what] = true
	return !was
}

func (r *round) release(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.reserved, what)
}

// count adds one, and returns how many there are.
func (r *round) count(what string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[what]++
	return r.counts[what]
}

// hear takes in what a worker reports.
func (r *round) hear(w *worker, generation int, l line) {
	if l.Stall != nil {
		r.inject(injection{kindStall, []int{w.id}, *l.Stall})
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case l.Call != nil:
		r.calls = append(r.calls, heard{l.Call, w.id, generation})
		if l.Call.served() {
			r.last[w] = l.Call.Token
		}
		if l.Call.Result != r.said[w] {
			r.note("worker %d: %s %s", w.id, l.Call.Result, l.Call.Text)
		}
		r.said[w] = l.Call.Result
	case l.Fetch != "":
		r.counts["fetch for: "+l.Fetch]++
		r.note("worker %d fetches: %s", w.id, l.Fetch)
		if len(r.armed) > 0 {
			strike := r.armed[0]
			r.armed = r.armed[1:]
			r.timers.Go(func() { strike(w) })
		}
	case l.Event != "":
		r.counts["event: "+l.Event]++
		r.note("worker %d: %s %s", w.id, l.Event, l.Text)
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
	return r.between(window{until.Add(-span), until})
}

func (r *round) between(w window) string {
	var b strings.Builder
	for _, l := range r.trace {
		if w.meets(window{l.at, l.at}) {
			fmt.Fprintf(&b, "%s %s\n", l.at.Format("15:04:05.000"), l.text)
		}
	}
	return b.String()
}
