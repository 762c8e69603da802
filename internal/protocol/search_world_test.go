//go:build !race

package protocol

import (
	"fmt"
	"slices"
	"time"
)

// A small world around the real protocol: a store, the platform, and processes
// that do what their Process says, one atomic action at a time.
// TestEveryInterleaving visits every state of it.

const maxProcs = 3

// A request is a fetch that has not reached the platform.
type request struct {
	lease  string
	by     int // -1: its process has given up
	age    time.Duration
	orphan bool   // its process died before it settled its claim
	excuse excuse // for a silence if it lands
}

// A cast is a CAS whose process has given up on it, and that may yet take effect.
type cast struct {
	old, next Record
	ttl       time.Duration
}

// excuse says which of the causes that protocol.md admits for a silent state
// has come about since the record last held the latest token.
type excuse int8

const (
	outlasted excuse = 1 << iota // a request landed later than what is owed is watched
	unwatched                    // the record was lost with the lease of a process that died
	wentBack                     // the store went back, and no process knows better
)

// A master is the store, or one half of a store that is split.
type master struct {
	Record
	ttl time.Duration // 0: longer than all that is searched, or as long as a usable token
}

type world struct {
	rules
	keyer    *keyer // of all worlds of a search
	pools    *pools // as well
	stores   [2]master
	split    bool
	prev     Record // what the store can go back to
	latest   Record // the token issued last
	procs    [maxProcs]*proc
	own      [maxProcs]bool // which of them no other world has
	leases   int            // how many more may be taken
	requests []request
	casts    []cast
	nonces   int
	excuse   excuse
	back     bool   // the store went back, and a process knows better
	wrong    string // a rule broken by the last action
}

// rules are what does not change in a world.
type rules struct {
	n          int  // processes
	rejects    bool // APIs reject superseded tokens
	splits     bool // the store may have two masters for a while
	repeatable bool
	givesUp    bool // callers may give up, so that nobody waits for a flight
	members    bool // those who abandon their leases are known by name
}

// A move is one action, and the world after it.
type move struct {
	deed
	fault string // its kind; empty: nothing went wrong
	call  bool   // somebody asks for a token, or time passes
	world *world
}

type deed struct {
	what   string
	proc   int   // from 1; 0: none
	paused phase // where the process is paused after it; idle: nowhere
}

func (d deed) String() string {
	s := d.what
	if d.proc > 0 {
		s = fmt.Sprintf("P%d %s", d.proc, s)
	}
	if d.paused != idle {
		s += ", and " + pauses[d.paused]
	}
	return s
}

func newWorld(r rules, leases int) *world {
	w := &world{rules: r, keyer: &keyer{ids: map[string]string{}}, pools: &pools{}, leases: leases}
	for i := range r.n {
		w.procs[i] = w.newProc(i)
	}
	return w
}

func (w *world) newProc(i int) *proc {
	p := &proc{}
	p.Rules = modelRules
	p.Repeatable = w.repeatable
	if w.members {
		p.Member = func() string { return string("abc"[i]) }
	}
	return p
}

// with is w with a proc i of its own, to be changed.
func (w *world) with(i int) (*world, *proc) {
	c := w.copy()
	c.procs[i], c.own[i] = w.procs[i].clone(w.pools), true
	return c, c.procs[i]
}

// copy is w with nothing of its own but requests and casts.
func (w *world) copy() *world {
	c := w.pools.worlds.copy(w)
	c.requests, c.casts, c.own = slices.Clone(w.requests), slices.Clone(w.casts), [maxProcs]bool{}
	return c
}

func (w *world) each() []*proc { return w.procs[:w.n] }

// moves are all that can happen next. Without faults, nothing breaks any more.
func (w *world) moves(faults bool) []move {
	m := mover{w: w, faults: faults}
	m.act()
	if w.quiet() {
		for _, j := range jumps {
			m.out = append(m.out, move{deed: deed{what: j.name}, call: true, world: w.after(j.d)})
		}
	}
	if faults {
		m.breakStore()
		for i, p := range w.each() {
			m.breakages(i, p)
		}
	}
	return m.all()
}

// acts are the moves that are neither faults nor time that passes.
func (w *world) acts() []move {
	m := mover{w: w}
	m.act()
	return m.all()
}

func (m *mover) act() {
	w := m.w
	for i, p := range w.each() {
		m.steps(i, p, false)
		if w.givesUp && p.young(noon) { // to others it makes no difference
			m.steps(i, p, true)
		}
	}
	for i := range w.requests {
		m.land(i)
	}
	if w.rejects {
		for i, p := range w.each() {
			m.reject(i, p)
		}
	}
	for i, c := range w.casts {
		n, _ := w.with(0)
		n.casts = slices.Delete(n.casts, i, i+1)
		n.write(0, master{c.next, c.ttl})
		m.out = append(m.out, move{deed: deed{what: "a late CAS takes effect"}, world: n})
	}
	if w.split {
		m.join(0)
		m.join(1)
	}
}

// all returns the moves with the worlds after them as they are to be.
func (m *mover) all() []move {
	for _, m := range m.out {
		m.world.absolve(m.fault == "crash")
	}
	return m.out
}

// absolve ends the excuses when nothing is left of what went wrong before.
func (w *world) absolve(crashed bool) {
	if w.back && !w.knows() {
		w.back = false
		if crashed || w.unrelated() {
			w.regress()
		}
	}
	if !w.split && w.stores[0].Token == w.latest.Token && len(w.requests) == 0 && len(w.casts) == 0 && !w.claimed() {
		w.excuse = 0
	}
}

// claimed reports whether a process still has a lease to settle.
func (w *world) claimed() bool {
	return slices.ContainsFunc(w.each(), func(p *proc) bool { return p.view.claim != nil })
}

// knows reports whether a process would correct the store.
func (w *world) knows() bool {
	return slices.ContainsFunc(w.each(), func(p *proc) bool { return p.relate(w.stores[p.side].Record, noon) != follows })
}

// unrelated reports whether the store holds a token of another epoch, in whose
// past the latest is not, nor the other way round: nothing tells which is newer.
func (w *world) unrelated() bool {
	return slices.ContainsFunc(w.each(), func(p *proc) bool {
		c, r := p.view.copy, w.stores[p.side]
		return c.Token == w.latest.Token && c.Epoch != r.Epoch && !c.follows(r.Token) && !r.follows(c.Token)
	})
}

// quiet reports whether all processes have leisure, so that time can pass.
func (w *world) quiet() bool {
	return !slices.ContainsFunc(w.each(), func(p *proc) bool { return p.phase != idle && !p.paused })
}

type mover struct {
	w      *world
	faults bool
	out    []move
}

// settle lets process i do all that nobody else can see, and, as a fault, pauses
// it before that.
func (m *mover) settle(what string, i int, w *world, fault string, call bool) {
	for w.procs[i].phase.local() && !w.procs[i].paused {
		if m.faults && fault == "" {
			c, p := w.with(i)
			p.paused = true
			m.out = append(m.out, move{deed: deed{what, i + 1, p.phase}, world: c, fault: "pause"})
		}
		p := w.procs[i]
		p.local(w, i)
		if p.view.claim == nil {
			p.debt = 0
		}
	}
	m.out = append(m.out, move{deed: deed{what: what, proc: i + 1}, world: w, fault: fault, call: call})
}

// steps are the actions of process i. unwanted says that no caller waits for its flight.
func (m *mover) steps(i int, old *proc, unwanted bool) {
	if old.phase == fetching && !old.paused {
		return // it waits for its reply
	}
	w, p := m.w.with(i)
	p.Unwanted = unwanted
	nobody := ""
	if unwanted {
		nobody = " for nobody"
	}
	switch late := old.phase >= sending && Passed(noon, old.until); {
	case p.paused && late:
		if p.phase != fetching {
			p.paused = false
			m.settle("wakes up in time after all"+nobody, i, w, "", false)
			w, p = m.w.with(i)
			p.Unwanted = unwanted
		}
		if p.phase == sending {
			p.send(w, i)
		}
		p.paused = false
		p.unanswered(w, i)
		m.settle("wakes up and has no reply"+nobody, i, w, "", false)
	case p.paused:
		p.paused = false
		m.settle("wakes up"+nobody, i, w, "", false)
	case p.phase == idle:
		p.begin(false)
		p.ask(w, i)
		fallthrough
	case p.phase == reading:
		p.DidRead(w.stores[p.side].Record, noon, noon)
		p.phase = asking
		m.settle("reads"+nobody, i, w, "", old.phase == idle)
	case p.phase == swapping:
		st, at := p.run.swap, w.stores[p.side].Record
		what, stored := "swaps in vain", same(p.run.record, at)
		if stored {
			what = p.purpose()
			w.checkWrite(p, at, st)
			w.write(p.side, master{st.Next, st.TTL})
		}
		p.DidSwap(stored, noon, noon)
		p.phase = asking
		m.settle(what+nobody, i, w, "", false)
	}
}

// breakages are the faults that can befall process i.
func (m *mover) breakages(i int, old *proc) {
	w, p := m.w.with(i)
	fault := func(kind, what string) {
		m.out = append(m.out, move{deed: deed{what: what, proc: i + 1}, world: w, fault: kind})
	}
	if old.phase != idle || old.view.copy.Token != "" || old.view.claim != nil {
		w.crash(i, p)
		fault("crash", "crashes and restarts")
	}
	if old.paused || old.phase == idle {
		return
	}
	w, p = m.w.with(i)
	p.paused = true
	fault("pause", pauses[p.phase])
	if old.phase != fetching {
		w, p = m.w.with(i)
		p.offline()
		m.settle("cannot reach the cache", i, w, "no cache", false)
	}
	switch w, p = m.w.with(i); old.phase {
	case reading:
		p.CacheFailed(true)
		p.phase = asking
		m.settle("finds a record of a newer version", i, w, "newer", false)
	case swapping:
		if !w.split && same(p.run.record, w.stores[0].Record) {
			w.casts = append(w.casts, cast{p.run.record, p.run.swap.Next, p.run.swap.TTL})
		}
		p.CacheFailed(false)
		p.phase = asking
		m.settle("gets no reply to its CAS", i, w, "CAS unanswered", false)
	case fetching:
		p.unanswered(w, i)
		m.settle("gets no reply to its fetch", i, w, "fetch unanswered", false)
		w, p = m.w.with(i)
		w.requests = slices.DeleteFunc(w.requests, func(r request) bool { return r.by == i })
		p.told(w, Result{Outcome: Denied, Code: -1})
		m.settle("is told that the platform is busy", i, w, "busy", false)
	}
}

// reject lets an API reject the token of process i.
func (m *mover) reject(i int, old *proc) {
	held, usable := old.Held(noon)
	if !usable || held.Token == m.w.latest.Token || old.paused || old.phase != idle && old.phase != fetching {
		return
	}
	w, p := m.w.with(i)
	if _, decided := p.Reject(held.Token, noon); !decided && old.phase == idle {
		p.begin(true)
		p.ask(w, i)
	}
	m.out = append(m.out, move{deed: deed{what: "has its token rejected", proc: i + 1}, call: true, world: w})
}

// land lets request r reach the platform, which issues a token.
func (m *mover) land(r int) {
	req := m.w.requests[r]
	w, p := m.w.with(max(req.by, 0))
	w.requests = slices.Delete(w.requests, r, r+1)
	if w.repeatable && w.latest.left(noon) > aging {
		w.latest.IssuedAt++
	} else {
		w.latest = Record{Token: "t" + req.lease, IssuedAt: noon.UnixMilli(), ExpiresAt: noon.Add(fresh).UnixMilli()}
	}
	if req.age >= modelRules.verify() {
		req.excuse |= outlasted
	}
	if req.by >= 0 {
		p.phase, p.reply = fetched, w.latest
		p.debt |= req.excuse
		m.settle("has its fetch answered", req.by, w, "", false)
		return
	}
	w.excuse |= req.excuse
	m.out = append(m.out, move{deed: deed{what: "a late request lands"}, world: w})
}
