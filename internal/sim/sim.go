// Package sim simulates many processes that share one credential, with a model of the
// platform and of the store, in virtual time, while things go wrong. It uses only the
// public interfaces of wxtoken: each process is a Source with a Cache and a Fetcher
// that contain the faults.
//
// Run must be called inside a synctest bubble. Everything random comes from one seed.
package sim

import (
	"cmp"
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/wxtoken/wxtoken"
)

// A Source is the implementation under test.
type Source interface {
	Token(ctx context.Context) (wxtoken.Token, error)
	Invalidate(ctx context.Context, rejected string) error
}

// Config describes a run.
type Config struct {
	Name    string
	Seed    uint64
	Length  time.Duration // virtual
	Members []Member
	Faults  Faults

	Grace    Grace
	Lifetime time.Duration // of a token; 0: two hours
	Latency  time.Duration // of the platform; 0: 50 to 300 ms
	Quota    int           // a day; 0: 2,000
	Unmarked bool          // the fetcher does not say that it is repeatable
	HTTP     bool          // through the library's own fetchers, over a transport of the model
	Small    Small         // the store keeps small values only
	Record   string        // what the store holds at the start, for TOKEN a good token, for NOW the time and for LATER its end
	Retry    time.Duration // after a call that failed; 0: at the next call's time
	Bytes    bool          // measure what a call of Token allocates

	// New makes the Source of a process that starts. id identifies the process, so
	// that a Source can derive its randomness from the seed.
	New func(f wxtoken.Fetcher, c wxtoken.Cache, id uint64, opts ...wxtoken.Option) Source

	Log io.Writer // for every line of the trace; nil: none
}

// Faults says what goes wrong; its zero value is a run without faults. The fields
// without a unit are probabilities for each operation.
type Faults struct {
	Pause      float64 // of a process, around a cache operation or a fetch
	PauseMean  time.Duration
	Crash      float64 // after the platform issued, before the process knows
	Late       float64 // a request is given up, and reaches the platform 5–60 s later
	LostReply  float64
	CacheError float64 // half of them after the operation took effect
	Busy       float64 // errcode -1

	// Recurring faults, at random between half and one and a half of the period, or
	// exactly at the period if Fixed.
	Fixed          bool
	FlushEvery     time.Duration // the store loses everything
	FallBackEvery  time.Duration // the store goes back by one write
	LagEvery       time.Duration // the store goes back by 1 to 3 writes within a minute of a new token
	PartitionEvery time.Duration // half of the nodes lose the store
	PartitionFor   time.Duration
	SplitEvery     time.Duration // half of the nodes have another master, whose writes or the others' are lost
	SplitFor       time.Duration
	ForeignEvery   time.Duration // another system fetches for the same app
	RotateEvery    time.Duration // a new secret, and a redeploy over three hours
	DeployEvery    time.Duration // a third of the nodes restart at once
	PingPong       bool          // another system fetches whenever it is rejected

	// UseAfterPause lets a caller use the token that it held when its process was
	// paused: no library can prevent that rejection. Otherwise it asks again.
	UseAfterPause bool

	Skew      time.Duration // clocks are off by up to this, either way
	NotListed int           // nodes whose IP is not on the whitelist

	CacheDown Window // no node reaches the store
	Silent    bool   // and gets no answer, in place of a quick error
	Outage    Window // of the platform, for all nodes
	OutageIs  Ailment
}

// A Window is a span of the run.
type Window struct{ From, For time.Duration }

// ProtocolFaults are the faults for which docs/measurements.md has figures.
func ProtocolFaults() Faults {
	return Faults{
		Pause: 0.02, PauseMean: 90 * time.Second,
		Crash: 0.02, Late: 0.02, LostReply: 0.02, CacheError: 0.005, Busy: 0.02,
		FlushEvery: 48 * time.Hour, FallBackEvery: 72 * time.Hour,
	}
}

// A world is everything around the nodes. mu guards all of it, including the fields
// of nodes and processes, except where their comments say otherwise; it is never held
// while virtual time passes.
type world struct {
	cfg   Config
	start time.Time
	over  chan struct{} // closed when the run ends

	mu       sync.Mutex
	platform platform
	store    store
	nodes    []*node // those that live as long as the run
	groups   []*group
	watch    watch
	report   Report
	blackout bool // during a partition: no answer, in place of a quick error
	settled  time.Time
	reads    peak
	events   peak

	lag       time.Duration // from the next token published until the store goes back; 0: it does not
	lagWrites int
}

// Run simulates cfg and returns the result.
func Run(cfg Config) Report {
	w := newWorld(cfg)
	var callers, events sync.WaitGroup
	for i, m := range cfg.Members {
		w.startMember(&callers, i, m)
	}
	w.startEvents(&events)
	callers.Wait()
	w.mu.Lock()
	w.finish()
	report := w.report
	w.report = newReport() // operations still in flight change nothing any more
	w.mu.Unlock()
	close(w.over)
	events.Wait()
	w.locked(func() {
		for _, n := range w.nodes {
			n.proc.cancel()
		}
	})
	time.Sleep(24 * time.Hour) // the bubble's time ends with Run, and all its goroutines must by then
	return report
}

func newReport() Report {
	return Report{Events: map[string]int{}, Errors: map[string]int{}, StaleFor: map[string]time.Duration{}, StaleTimes: map[string]int{}}
}

func newWorld(cfg Config) *world {
	w := &world{cfg: cfg, start: time.Now(), over: make(chan struct{})}
	w.platform = platform{grace: cfg.Grace, lifetime: cmp.Or(cfg.Lifetime, 2*time.Hour), quota: cmp.Or(cfg.Quota, dailyQuota)}
	w.report = newReport()
	w.watch = watch{published: map[string]bool{}, active: map[*request]bool{}, owner: map[string]*request{}}
	w.settled = w.start.Add(warmUp)
	w.preset(cfg.Record)
	return w
}

// rand returns the generator for one purpose of one node, so that the order in which
// goroutines run does not change what another one draws.
func (w *world) rand(node, purpose int) *rand.Rand {
	return rand.New(rand.NewPCG(w.cfg.Seed, uint64(node+1)<<8|uint64(purpose)))
}

func exponential(r *rand.Rand, mean time.Duration) time.Duration {
	return time.Duration(r.ExpFloat64() * float64(mean))
}

func between(r *rand.Rand, lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(r.Int64N(int64(hi-lo)))
}

// sleep reports false if the run ended meanwhile.
func (w *world) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-w.over:
		return false
	}
}
