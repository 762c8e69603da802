package sim

import (
	"context"
	"sync"
	"time"

	"github.com/wxtoken/wxtoken"
)

// A Member is a kind of process: how it is used, what is wrong with it, and how long
// it lives.
type Member struct {
	N        int
	Every    time.Duration // between the calls of a process, at random; of one with Lives 0: a single call
	Fixed    bool          // always the same time between calls
	Patience time.Duration // with a call; 0: no end
	Options  []wxtoken.Option
	Lives    *Lives // nil: as long as the run

	Reporters int           // goroutines that report the token, good or not,
	Reports   time.Duration // each so often

	Ails     *Ailment      // of its connection to the platform
	Skew     time.Duration // of its clock
	SkewOnce bool          // until it has published a token
}

// good reports whether m's calls are measured: the process itself has no fault.
func (m *Member) good() bool {
	return m.Ails == nil && m.Skew == 0 && (m.Lives == nil || m.Lives.Kills != 1)
}

// Lives describes processes that start one after the other.
type Lives struct {
	For   [2]time.Duration // how long one lives, at least and at most
	Every [2]time.Duration // from the start of one to that of the next
	Exit  Exit
	Kills int // every so many fetches one kills its process; 1: each does; 0: none
}

// An Exit is how a process ends.
type Exit int

const (
	Killed  Exit = iota // at any point
	Returns             // from main, when its call is over: its other goroutines end there
	Waits               // the same, after Source.Wait
)

// An Ailment is what happens to token requests on a bad connection.
type Ailment struct {
	Name   string
	Lands  bool  // the platform serves it
	Silent bool  // no answer
	Err    error // in place of the answer
}

const works = 100 * time.Millisecond // from a short-lived process's last call to its end, at least

// startMember starts the processes of m.
func (w *world) startMember(callers *sync.WaitGroup, index int, m Member) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m.Lives != nil {
		g := w.newGroup(m.good())
		callers.Go(func() { w.spawn(callers, index, &m, g) })
		return
	}
	for range m.N {
		n := w.newNode(len(w.nodes), &m, w.newGroup(m.good()))
		w.nodes = append(w.nodes, n)
		n.boot()
		callers.Go(n.run)
		for range m.Reporters {
			callers.Go(n.report)
		}
	}
}

// spawn starts one process after the other until the run is over.
func (w *world) spawn(callers *sync.WaitGroup, index int, m *Member, g *group) {
	r := w.rand(-2-index, 0)
	for i := 0; ; i++ {
		life := between(r, m.Lives.For[0], m.Lives.For[1])
		w.locked(func() {
			n := w.newNode((index+1)*1_000_000+i, m, g)
			n.boot()
			g.born()
			callers.Go(func() { n.live(life) })
		})
		time.Sleep(between(r, m.Lives.Every[0], m.Lives.Every[1]))
		if !time.Now().Before(w.start.Add(w.cfg.Length)) {
			return
		}
	}
}

// live runs one short life.
func (n *node) live(d time.Duration) {
	ends := time.Now().Add(d)
	if n.m.Lives.Exit == Killed {
		timer := time.AfterFunc(d, func() { n.w.locked(n.end) })
		defer timer.Stop()
	}
	for !n.gone() {
		n.call()
		if n.m.Every == 0 {
			n.w.locked(n.rest)
			break
		}
		if time.Sleep(n.period()); !time.Now().Before(ends) {
			break
		}
	}
	time.Sleep(max(works, time.Until(ends)))
	if s, ok := n.proc.source.(interface{ Wait(context.Context) error }); ok && n.m.Lives.Exit == Waits {
		ctx, cancel := context.WithTimeout(n.proc.ctx, 30*time.Second)
		defer cancel()
		_ = s.Wait(ctx)
	}
	n.w.locked(n.end)
}

// run makes the calls of a process that lives as long as the run.
func (n *node) run() {
	next := n.period()
	if n.m.Fixed {
		next = between(n.calls, 0, n.m.Every)
	}
	for n.until(next, n.call) {
		if next = n.period(); n.failed && n.w.cfg.Retry > 0 {
			next = min(next, n.w.cfg.Retry)
		}
	}
}

// report reports the token that the last call got, good or not.
func (n *node) report() {
	do := func() {
		n.w.mu.Lock()
		p, token := n.proc, n.last
		n.w.mu.Unlock()
		_ = p.source.Invalidate(p.ctx, token)
	}
	for n.until(n.m.Reports, do) {
	}
}

// until calls do after d, and reports false once the run is over.
func (n *node) until(d time.Duration, do func()) bool {
	time.Sleep(d)
	if !time.Now().Before(n.w.start.Add(n.w.cfg.Length)) {
		return false
	}
	do()
	return true
}

func (n *node) period() time.Duration {
	if n.m.Fixed {
		return n.m.Every
	}
	return exponential(n.calls, n.m.Every)
}
