//go:build !race

package protocol

import (
	"fmt"
	"slices"
	"time"
)

// A small world around the real protocol: a store, the platform, and processes
// that do what decide says. TestEveryInterleaving visits every state of it. Its
// processes do what flight.run does, one atomic action at a time; all else that
// they do is the code under test.
//
// Time stands still at noon: to let time pass, all that bears a date is moved
// back. Ages count in whole ticks, a little longer than a lease lasts, and only
// up to the longest that the protocol looks at; so states repeat, and the search
// ends although every process makes as many calls as it likes.

const (
	maxProcs = 3
	tick     = 16 * time.Second
)

// modelRules keep the order of the default durations, with fewer ticks between.
var modelRules = Rules{Fetch: 10 * time.Second, Local: 27 * time.Second, Ahead: 5 * time.Minute}

var jumps = []struct {
	d    time.Duration
	name string
}{
	{4 * time.Second, "a moment passes"}, // a cooldown, nothing else
	{tick, "16 s pass"},
	{fresh - aging, "tokens come near their end"},
	{aging - dying, "tokens near their end come nearer"},
	{fresh, "tokens expire"},
}

var (
	noon = time.Unix(1_700_000_000, 0)

	leaseTicks = 3 * tick // past lease + announce; 1 is past lease
	watchTicks = 4 * tick // past verify; 2 is past announce
)

// A token's remaining life stays what it is until a long jump lowers it.
const (
	fresh = 2 * time.Hour
	aging = 290 * time.Second // less than ahead
	dying = 60 * time.Second  // less than ample
)

// A request is a fetch that has not reached the platform.
type request struct {
	nonce  string
	by     int // -1: its process has given up
	age    time.Duration
	excuse excuse // for a silence if it lands
}

// A cast is a CAS whose process has given up on it, and that may yet take effect.
type cast struct{ old, next Record }

// excuse says which of the causes that protocol.md admits for a silent state
// has come about since the record last held the latest token.
type excuse int8

const (
	outlasted excuse = 1 << iota // a request landed later than a doubt is watched
	forgotten                    // a request landed after the store had lost the doubt
	wentBack                     // the store went back, and nobody who knew better came first
)

type world struct {
	store, prev Record
	latest      Record // the token issued last
	procs       [maxProcs]*proc
	n           int  // how many there are
	leases      int  // how many more may be taken; none: -1
	refuses     bool // APIs refuse superseded tokens
	requests    []request
	casts       []cast
	nonces      int
	excuse      excuse
	lost        Record // what the store held before it went back, while a process knows it
	wrong       string // a rule broken by the last action
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

func newWorld(n, leases int, refuses bool) *world {
	w := &world{n: n, leases: leases, refuses: refuses}
	for i := range n {
		w.procs[i] = &proc{}
	}
	return w
}

// with is w with a proc i of its own, to be changed.
func (w *world) with(i int) (*world, *proc) {
	c := *w
	c.requests, c.casts = slices.Clone(w.requests), slices.Clone(w.casts)
	p := *w.procs[i]
	c.procs[i] = &p
	return &c, &p
}

// moves are all that can happen next. Without faults, nothing breaks any more.
func (w *world) moves(faults bool) []move {
	m := mover{w: w, faults: faults}
	for i, p := range w.procs[:w.n] {
		m.steps(i, p)
	}
	for i := range w.requests {
		m.land(i)
	}
	for i, p := range w.procs[:w.n] {
		if w.refuses && p.phase == idle && !p.paused && p.view.Copy.Token != w.latest.Token {
			m.refuse(i)
		}
	}
	for i, c := range w.casts {
		n, _ := w.with(0)
		n.casts = slices.Delete(n.casts, i, i+1)
		n.write(c.next, false)
		m.out = append(m.out, move{deed: deed{what: "a late CAS takes effect"}, world: n})
	}
	if w.quiet() {
		for _, j := range jumps {
			m.out = append(m.out, move{deed: deed{what: j.name}, call: true, world: w.after(j.d)})
		}
	}
	if faults {
		for i, p := range w.procs[:w.n] {
			m.breakages(i, p)
		}
		if !same(w.store, Record{}) {
			m.storeTo(Record{}, "flush", "the store loses the record")
		}
		if !same(w.prev, w.store) {
			m.storeTo(w.prev, "fall-back", "the store goes back")
		}
	}
	for _, m := range m.out {
		m.world.absolve()
	}
	return m.out
}

// absolve ends the excuses when nothing is left of what went wrong before.
func (w *world) absolve() {
	if w.store.Token == w.latest.Token && len(w.requests) == 0 && len(w.casts) == 0 && !w.claimed() {
		w.excuse = 0
	}
}

// claimed reports whether a process still has a lease to settle.
func (w *world) claimed() bool {
	return slices.ContainsFunc(w.procs[:w.n], func(p *proc) bool { return p.view.claim != nil })
}

// quiet reports whether all processes have leisure, so that time can pass.
func (w *world) quiet() bool {
	return !slices.ContainsFunc(w.procs[:w.n], func(p *proc) bool { return p.phase != idle && !p.paused })
}

type mover struct {
	w      *world
	faults bool
	out    []move
}

// settle lets process i do all that nobody else can see, and, as a fault, pauses
// it before that. (A pause before a reply of the cache is dated does no more than
// one after it: the process has watched for less long.)
func (m *mover) settle(what string, i int, w *world, fault string) {
	a := deed{what: what, proc: i + 1}
	for w.procs[i].phase.local() && !w.procs[i].paused {
		if at := w.procs[i].phase; m.faults && fault == "" && at != heard && at != swapped {
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
	m.out = append(m.out, move{deed: a, world: w, fault: fault})
}

// steps are the actions of process i.
func (m *mover) steps(i int, old *proc) {
	w, p := m.w.with(i)
	switch {
	case p.paused && p.phase >= sending && p.view.claim.late():
		if p.phase != fetching {
			p.paused = false
			m.settle("wakes up in time after all", i, w, "")
			w, p = m.w.with(i)
		}
		if p.phase == sending {
			p.send(w, i)
		}
		p.paused = false
		p.unanswered(w, i)
		m.settle("wakes up and has no reply", i, w, "")
	case p.paused:
		p.paused = false
		m.settle("wakes up", i, w, "")
	case p.phase == idle || p.phase == reading:
		p.phase, p.reply = heard, w.store
		m.settle("reads", i, w, "")
		m.out[len(m.out)-1].call = old.phase == idle
	}
	if old.phase == swapping {
		w, p = m.w.with(i)
		p.phase, p.stored = swapped, same(p.record, w.store)
		what := "swaps in vain"
		if p.stored {
			what = p.purpose()
			w.checkWrite(p)
			w.write(p.st.Next, p.st.Event == Restore)
		}
		m.settle(what, i, w, "")
	}
}

// breakages are the faults that can befall process i.
func (m *mover) breakages(i int, old *proc) {
	w, p := m.w.with(i)
	fault := func(kind, what string) {
		m.out = append(m.out, move{deed: deed{what: what, proc: i + 1}, world: w, fault: kind})
	}
	if old.phase != idle || old.view.Copy.Token != "" || old.view.claim != nil {
		w.crash(i, p)
		fault("crash", "crashes and restarts")
	}
	if old.paused {
		return
	}
	if old.phase != idle {
		w, p = m.w.with(i)
		p.paused = true
		fault("pause", pauses[p.phase])
	}
	w, p = m.w.with(i)
	switch old.phase {
	case reading:
		p.land()
		fault("no cache", "cannot reach the cache")
	case swapping:
		if same(p.record, w.store) {
			w.casts = append(w.casts, cast{p.record, p.st.Next})
		}
		p.miss()
		fault("CAS unanswered", "gets no reply to its CAS")
	case fetching:
		p.unanswered(w, i)
		m.settle("gets no reply to its fetch", i, w, "fetch unanswered")
		w, p = m.w.with(i)
		w.requests = slices.DeleteFunc(w.requests, func(r request) bool { return r.by == i })
		p.fetched(Result{Outcome: Denied, Code: -1})
		m.settle("is told that the platform is busy", i, w, "busy")
	}
}

// land lets request r reach the platform, which issues a token.
func (m *mover) land(r int) {
	req := m.w.requests[r]
	w, p := m.w.with(max(req.by, 0))
	w.requests = slices.Delete(w.requests, r, r+1)
	w.latest = issue(req.nonce)
	if req.age >= modelRules.verify() {
		req.excuse |= outlasted
	}
	if req.by >= 0 {
		p.phase, p.reply = fetched, w.latest
		p.debt |= req.excuse
		m.settle("has its fetch answered", req.by, w, "")
		return
	}
	w.excuse |= req.excuse
	m.out = append(m.out, move{deed: deed{what: "a late request lands"}, world: w})
}

// refuse lets an API refuse the token of process i, which says so to all. That is
// made one action: of two who do so at once, one has its CAS refused.
func (m *mover) refuse(i int) {
	w, p := m.w.with(i)
	token := p.view.Copy.Token
	p.view.Observe(w.store, noon, noon)
	st := modelRules.Refuse(w.store, p.view, token, noon)
	if st.Do != Swap {
		return
	}
	w.write(st.Next, false)
	p.view.Observe(st.Next, noon, noon)
	m.out = append(m.out, move{deed: deed{what: "has its token refused", proc: i + 1}, call: true, world: w})
}

// storeTo is a fault of the store.
func (m *mover) storeTo(r Record, kind, what string) {
	w, _ := m.w.with(0)
	was := w.store
	w.write(r, false)
	if r.Epoch == "" {
		w.forget()
	} else if w.lost = was; !w.knows() {
		w.lost, w.excuse = Record{}, w.excuse|wentBack
	}
	m.out = append(m.out, move{deed: deed{what: what}, world: w, fault: kind})
}

// knows reports whether a process still knows what the store has lost.
func (w *world) knows() bool {
	return slices.ContainsFunc(w.procs[:w.n], func(p *proc) bool {
		c := p.view.Copy
		return c.Epoch == w.lost.Epoch && c.Seq == w.lost.Seq && p.view.newer(w.store, noon)
	})
}

// issue makes the token of the fetch under the lease nonce. Its name tells.
func issue(nonce string) Record {
	return Record{Token: "t" + nonce, IssuedAt: noon.UnixMilli(), ExpiresAt: noon.Add(fresh).UnixMilli()}
}

// write changes the store. A late CAS that meets another record than its own has
// been refused. A store that went back is put right only by who restores it first.
func (w *world) write(r Record, restored bool) {
	w.prev, w.store = w.store, r
	w.casts = slices.DeleteFunc(w.casts, func(c cast) bool { return !same(c.old, r) })
	if w.lost.Epoch != "" && (!restored || r.Seq <= w.lost.Seq) {
		w.excuse |= wentBack
	}
	w.lost = Record{}
}

// checkWrite looks at what p is about to store: a token may be written only
// under the lease that fetched it (I1), or back into a store that lost it.
func (w *world) checkWrite(p *proc) {
	next := p.st.Next
	next.Version = recordVersion
	switch {
	case !next.sane():
		w.wrong = "wrote what it would not read"
	case next.Token == w.store.Token || p.st.Event == Restore:
	case next.Token != "t"+w.store.Lease:
		w.wrong = "I1: wrote a token under another lease than its own"
	}
}

// forget notes what the store no longer tells. A process with a claim can still
// make up for it; where there is none, nobody can.
func (w *world) forget() {
	for i := range w.requests {
		w.requests[i].excuse |= forgotten
	}
	for i, p := range w.procs[:w.n] {
		if p.view.claim == nil {
			continue
		}
		c := *p
		c.debt |= forgotten
		w.procs[i] = &c
		if r := w.request(c.view.claim); r != nil {
			r.excuse &^= forgotten
		}
	}
}

// crash ends process i, whose claim nobody settles now.
func (w *world) crash(i int, p *proc) {
	w.disown(i)
	if r := w.request(p.view.claim); r != nil {
		r.excuse |= p.debt
	} else {
		w.excuse |= p.debt
	}
	*p = proc{}
	if w.lost.Epoch != "" && !w.knows() {
		w.lost, w.excuse = Record{}, w.excuse|wentBack
	}
}

// request is the one under c that is still on its way, or nil.
func (w *world) request(c *claim) *request {
	if c == nil {
		return nil
	}
	if i := slices.IndexFunc(w.requests, func(r request) bool { return r.nonce == c.nonce }); i >= 0 {
		return &w.requests[i]
	}
	return nil
}

// disown leaves the request of process i on its way without it.
func (w *world) disown(i int) {
	for j, r := range w.requests {
		if r.by == i {
			w.requests[j].by = -1
		}
	}
}
