//go:build !race

package protocol

import (
	"slices"
	"strconv"
	"time"
)

// phase is what a process is about to do. Upon the ones marked local it goes
// ahead at once, unless it is paused, since nobody else can tell.
type phase int8

const (
	idle     phase = iota // no flight
	asking                // local: to ask for the next step
	reading               // to ask the cache for the record
	swapping              // a CAS is on its way
	sending               // local: the fetch is to begin
	fetching              // a request is on its way
	fetched               // local: its reply is there
)

func (p phase) local() bool { return p == asking || p == sending || p == fetched }

// A proc is a Process and what it is about to do. It is never changed once it is
// part of a world that has been seen, so that worlds can share it.
type proc struct {
	Process
	phase  phase
	paused bool
	side   int       // of the store, while that is split
	until  time.Time // from sending on: when the fetch must have ended
	reply  Record    // in fetched: the token
	debt   excuse    // for a silence if the process dies before it settles its claim
}

var pauses = [...]string{
	asking:   "is paused before it decides",
	reading:  "is paused before it reads",
	swapping: "is paused before its CAS is sent",
	sending:  "is paused before it fetches",
	fetching: "is paused while it fetches",
	fetched:  "is paused before the token is there",
}

func (p *proc) clone(from *pools) *proc {
	c := from.procs.copy(p)
	c.pending = slices.Clip(p.pending)
	if p.run != nil {
		c.run = from.runs.copy(p.run)
		c.run.verdicts = nil // nobody asks
		if p.run.swap != nil {
			c.run.swap = from.steps.copy(p.run.swap)
		}
	}
	return c
}

// pools hold the parts of worlds that are not needed any more. Most of the memory that a
// search takes is soon such a part, since most worlds have been found before.
type pools struct {
	worlds pool[world]
	procs  pool[proc]
	runs   pool[run]
	steps  pool[Step]
}

type pool[T any] []*T

// copy returns a copy of v, in the place of a part that is not needed.
func (p *pool[T]) copy(v *T) *T {
	free := *p
	if len(free) == 0 {
		free = pool[T]{new(T)}
	}
	last := len(free) - 1
	c := free[last]
	*p, *c = free[:last], *v
	return c
}

func (p *pool[T]) put(v *T) {
	if v != nil && len(*p) < 100 {
		*p = append(*p, v)
	}
}

// drop ends the use of w and of the processes that no other world has.
func (w *world) drop() {
	for i, p := range w.each() {
		if !w.own[i] {
			continue
		}
		if p.run != nil {
			w.pools.steps.put(p.run.swap)
			w.pools.runs.put(p.run)
		}
		w.pools.procs.put(p)
	}
	w.pools.worlds.put(w)
}

// begin starts a flight.
func (p *proc) begin(judging bool) {
	p.Begin(judging, noon)
	p.phase = asking
}

// land ends the flight.
func (p *proc) land() {
	p.End()
	p.phase, p.until = idle, time.Time{}
}

// local is what a flight does between two actions that others can see.
func (p *proc) local(w *world, i int) {
	switch p.phase {
	case asking:
		p.ask(w, i)
	case sending:
		if Passed(noon, p.until) {
			p.told(w, Result{Outcome: Unsent})
			return
		}
		p.send(w, i)
	case fetched:
		p.told(w, Result{Outcome: Issued, Token: p.reply})
	}
}

// ask does what flight.run does. A process that is to wait before it reads again
// ends its flight: it does nothing meanwhile.
func (p *proc) ask(w *world, i int) {
	before, known := *p, p.run.known
	st := p.Next("n"+strconv.Itoa(w.nonces), noon)
	w.checkStep(p, st)
	switch st.Do {
	case Read:
		p.phase = reading
		if known {
			p.land()
		}
	case Swap:
		if st.take && w.leases == 0 {
			*p = before
			p.land()
			return
		}
		if st.take {
			w.leases = max(w.leases-1, endless)
		}
		w.nonces++
		p.phase = swapping
	case Fetch:
		p.phase, p.until = sending, st.Until
		if p.run.leaveAlone {
			w.wrong = "fetched for a record that must be left alone"
		}
	case Return, Fail:
		p.land()
	}
}

// send lets a request set out. Its age counts from when the lease was asked for.
func (p *proc) send(w *world, i int) {
	r := request{by: i}
	if p.run.offline {
		r.lease = "n" + strconv.Itoa(w.nonces)
		w.nonces++
	} else {
		r.lease, r.age = p.view.claim.lease, min(noon.Sub(p.view.claim.asked), watched)
	}
	w.requests = append(w.requests, r)
	p.phase = fetching
}

// holds reports whether callers can have a token.
func (p *proc) holds() bool {
	_, usable := p.view.held(noon)
	return usable
}

// told notes what came of the fetch.
func (p *proc) told(w *world, result Result) {
	p.DidFetch(result, noon)
	p.phase, p.reply, p.until = asking, Record{}, time.Time{}
}

func (p *proc) unanswered(w *world, i int) {
	w.disown(i)
	p.told(w, Result{Outcome: Unknown})
}

// offline lets the cache fail until the process goes on without it.
func (p *proc) offline() {
	for !p.CacheFailed(false) {
	}
	p.phase = asking
}

// purpose names what p's CAS is for, for the traces.
func (p *proc) purpose() string {
	st := p.run.swap
	at, next := p.run.record, st.Next
	switch {
	case st.Event == Restore, st.Event == Lost:
		return "writes its newer token back"
	case st.Event == Takeover:
		return "takes the lease over"
	case st.Event == Reject:
		return "marks the token rejected"
	case st.take:
		return "takes the lease"
	case next.Token != at.Token:
		return "publishes its token"
	case next.Lease != at.Lease:
		return "gives the lease back"
	case next.Noted != at.Noted:
		return "prolongs the record"
	case next.Owed == at.Owed && next.Cooldown != at.Cooldown:
		return "writes the cooldown back"
	}
	return "adds to what is owed"
}
