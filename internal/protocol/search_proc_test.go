//go:build !race

package protocol

import (
	"strconv"
)

// phase is what a process is about to do. Upon the ones marked local it goes
// ahead at once, unless it is paused, since nobody else can tell.
type phase int8

const (
	idle     phase = iota // no flight
	reading               // to ask the cache for the record
	heard                 // local: the record has been read
	deciding              // local
	swapping              // a CAS is on its way
	swapped               // local: its reply is there
	sending               // local: the fetch is to begin
	fetching              // a request is on its way
	fetched               // local: its reply is there
)

func (p phase) local() bool {
	return p != idle && p != reading && p != swapping && p != fetching
}

// A proc is one process. A proc is never changed once it is part of a world
// that has been seen, so that worlds can share it.
type proc struct {
	phase  phase
	paused bool
	view   View
	record Record // flight.record, and flight.raw; zero: absent
	reply  Record // in heard: what was read; in fetched: the token
	stored bool   // in swapped: the reply
	st     *Step  // in swapping and swapped

	debt excuse // for a silence if the process dies before it settles its claim
}

var pauses = [...]string{
	reading:  "is paused before it reads",
	deciding: "is paused before it decides",
	swapping: "is paused before its CAS is sent",
	sending:  "is paused before it fetches",
	fetching: "is paused before its request is sent",
	fetched:  "is paused before the token is there",
}

// local is what flight.run does between two actions that others can see.
func (p *proc) local(w *world, i int) {
	switch p.phase {
	case heard:
		p.record, p.reply = p.reply, Record{}
		p.view.Observe(p.record, noon, noon)
		p.phase = deciding
	case deciding:
		p.decide(w)
	case swapped:
		if !p.stored {
			p.miss()
			return
		}
		p.record, p.view, p.phase, p.st, p.stored = p.st.Next, p.st.After, deciding, nil, false
		p.view.Observe(p.record, noon, noon)
	case sending:
		if p.view.claim.late() {
			p.fetched(Result{Outcome: Unsent})
			return
		}
		p.send(w, i)
	case fetched:
		p.fetched(Result{Outcome: Issued, Token: p.reply})
		p.reply = Record{}
	}
}

func (p *proc) decide(w *world) {
	st := modelRules.Decide(p.record, p.view, "n"+strconv.Itoa(w.nonces), noon)
	switch p.st = &st; st.Do {
	case Use, Wait, Fail: // one that waits does nothing between two reads
		if p.view.newer(p.record, noon) {
			w.wrong = "left the store as it went back"
		}
		p.land()
	case Ask:
		p.phase = sending
	case Take:
		if w.leases == 0 {
			p.land()
			return
		}
		w.leases = max(w.leases-1, -1)
		w.nonces++
		p.view = p.st.After
		p.phase = swapping
	case Swap:
		p.phase = swapping
	case Drop:
		p.view = p.st.After
	}
}

// late reports whether the deadline of c's fetch has passed.
func (c *claim) late() bool { return !noon.Before(c.ends) }

// send lets a request set out. Its age counts from when the lease was asked for.
func (p *proc) send(w *world, i int) {
	c := p.view.claim
	w.requests = append(w.requests, request{nonce: c.nonce, by: i, age: noon.Sub(c.asked)})
	p.phase = fetching
}

// fetched notes what came of the fetch.
func (p *proc) fetched(result Result) {
	p.view.Fetched(result)
	p.phase = deciding
}

func (p *proc) unanswered(w *world, i int) {
	w.disown(i)
	p.fetched(Result{Outcome: Unknown})
}

// miss ends a CAS that did not say that it stored: the record must be read again.
func (p *proc) miss() {
	p.land()
	p.phase = reading
}

// land ends the flight.
func (p *proc) land() { *p = proc{view: p.view, debt: p.debt} }

// purpose names what p's CAS is for, for the traces.
func (p *proc) purpose() string {
	switch next := p.st.Next; {
	case p.st.Event == Restore:
		return "writes its newer token back"
	case p.st.Event == Takeover:
		return "takes the lease over"
	case p.st.Do == Take:
		return "takes the lease"
	case next.Token != p.record.Token:
		return "publishes its token"
	case next.Lease == p.record.Lease:
		return "adds to what is owed"
	}
	return "gives the lease back"
}
