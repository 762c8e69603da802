package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/wxtoken/wxtoken"
)

// A node is one machine: it runs one process after the other, or a short-lived one.
type node struct {
	w                   *world
	id                  int
	m                   *Member
	g                   *group
	skew                time.Duration // how far its wall clock is ahead
	unlisted            bool
	away                bool // during a split: it has the other master
	calls, ops, fetches *rand.Rand

	proc        *process
	born        int // processes so far
	ended       bool
	rests       bool
	turn        time.Duration
	secret      int    // the one it is deployed with
	last        string // the token that its last call got
	failed      bool   // its last call got none that was accepted
	pausedUntil time.Time
	paused      time.Duration // in all, counted when a pause begins
	cutUntil    time.Time     // no store before then
}

// A process is a Source and its lifetime. Nothing that a dead process does takes
// effect.
type process struct {
	n      *node
	source Source
	ctx    context.Context // ends with the process
	cancel context.CancelFunc
	secret int
	dead   bool
	lease  string // the nonce it stored last

	fetched map[string]string // the lease under which it fetched a token
}

var errDead = errors.New("sim: the process is dead")

func (w *world) newNode(id int, m *Member, g *group) *node {
	n := &node{w: w, id: id, m: m, g: g, skew: m.Skew, calls: w.rand(id, 1), ops: w.rand(id, 2), fetches: w.rand(id, 3)}
	if s := w.cfg.Faults.Skew; s > 0 {
		n.skew = time.Duration(n.calls.Int64N(2*int64(s))-int64(s)) / 1e6 * 1e6 // whole milliseconds, as in the record
	}
	n.unlisted = id < w.cfg.Faults.NotListed
	return n
}

func (n *node) boot() {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{n: n, ctx: ctx, cancel: cancel, secret: n.secret, fetched: map[string]string{}}
	n.born++
	id := n.w.cfg.Seed<<32 ^ uint64(n.id)<<20 ^ uint64(n.born)
	opts := append([]wxtoken.Option{wxtoken.WithObserver(p.event)}, n.m.Options...)
	p.source = n.w.cfg.New(line{p}.fetcher(), nodeCache{p}, id, opts...)
	n.proc = p
}

// die ends the node's process at once.
func (n *node) die(why string) {
	n.proc.dead = true
	n.proc.cancel()
	n.w.watch.forget(n.proc)
	n.w.trace(n, why, nil, "")
}

// kill is die, and lets the next call find a new process.
func (n *node) kill(why string) {
	n.die(why)
	n.w.report.Restarts++
	n.boot()
	n.pausedUntil = time.Now().Add(between(n.fetches, time.Second, 5*time.Second)) // starting takes a while
}

// end is die without a successor.
func (n *node) end() {
	if !n.ended {
		n.ended = true
		n.die("ends")
		n.rest()
	}
}

// rest records that the node's process makes no more calls.
func (n *node) rest() {
	if !n.rests {
		n.rests = true
		n.g.rests()
	}
}

func (n *node) gone() bool {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return n.ended
}

// event counts the Events of the process's Source.
func (p *process) event(e wxtoken.Event) {
	w := p.n.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.dead {
		return
	}
	w.report.Events[string(e.Kind)]++
	w.events.add(time.Since(w.start))
	if e.Kind != wxtoken.EventFetch && e.Kind != wxtoken.EventAdopt {
		w.trace(p.n, "event "+string(e.Kind), nil, "")
	}
	if e.Err != nil {
		w.checkText("an event", e.Err.Error())
	}
}

// pause stops everything in the node for a while.
func (n *node) pause(r *rand.Rand) {
	d := exponential(r, n.w.cfg.Faults.PauseMean)
	now := time.Now()
	if until := now.Add(d); until.After(n.pausedUntil) {
		if n.pausedUntil.After(now) {
			d = until.Sub(n.pausedUntil)
		}
		n.pausedUntil = until
		n.paused += d
	}
	for q := range n.w.watch.active {
		if q.p == n.proc {
			q.disturbed = true
		}
	}
	n.w.trace(n, "paused", nil, "")
	n.w.report.Pauses++
}

// gate blocks an operation while its process is paused. In a dead process it returns
// an error, when ctx or the run ends.
func (p *process) gate(ctx context.Context) error {
	w := p.n.w
	for {
		w.mu.Lock()
		dead, wait := p.dead, time.Until(p.n.pausedUntil)
		if wait > 0 {
			wait += p.n.nextTurn()
		}
		w.mu.Unlock()
		if dead {
			select {
			case <-ctx.Done():
			case <-w.over:
			}
			return errDead
		}
		if wait <= 0 {
			return nil
		}
		time.Sleep(wait)
	}
}

// nextTurn separates goroutines that would wake at the same instant, which synctest
// does in random order, so that a seed gives the same run each time.
func (n *node) nextTurn() time.Duration {
	n.turn = (n.turn + 1) % 1000
	return n.turn
}
