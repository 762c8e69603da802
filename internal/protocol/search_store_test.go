//go:build !race

package protocol

import "slices"

// This file has the store of a world, its faults, and what may be written to it.

// write changes the store, or one half of it. A late CAS that meets another
// record than its own has failed.
func (w *world) write(side int, m master) {
	if m.Lease == "" || m.usable(noon) {
		m.ttl = 0
	}
	if !w.split {
		w.prev = w.stores[side].Record
	}
	w.stores[side] = m
	w.casts = slices.DeleteFunc(w.casts, func(c cast) bool { return !same(c.old, m.Record) })
}

// breakStore are the faults of the store.
func (m *mover) breakStore() {
	fault := func(w *world, kind, what string) {
		m.out = append(m.out, move{deed: deed{what: what}, world: w, fault: kind})
	}
	if m.w.split {
		return
	}
	if m.w.stores[0].Epoch != "" {
		w, _ := m.w.with(0)
		w.write(0, master{})
		w.forget(m.w.stores[0].Record)
		fault(w, "flush", "the store loses the record")
	}
	if !same(m.w.prev, m.w.stores[0].Record) {
		w, _ := m.w.with(0)
		w.write(0, master{Record: m.w.prev})
		w.prev = w.stores[0].Record
		w.forget(m.w.stores[0].Record)
		w.goBack(m.w.stores[0].Record)
		fault(w, "fall-back", "the store goes back")
	}
	if !m.w.splits {
		return
	}
	for i := range m.w.n {
		w, p := m.w.with(i)
		p.side, w.split, w.stores[1], w.casts = 1, true, w.stores[0], nil
		w.prev = w.stores[0].Record
		m.out = append(m.out, move{deed: deed{what: "is alone with another master", proc: i + 1}, world: w, fault: "split"})
	}
}

// join ends a split: what was written to one side only is lost.
func (m *mover) join(kept int) {
	w, _ := m.w.with(0)
	for i, p := range w.each() {
		if p.side == 1 {
			c := p.clone(w.pools)
			c.side, w.procs[i] = 0, c
		}
	}
	was := w.stores
	w.split, w.casts = false, nil
	w.stores = [2]master{was[kept]}
	w.prev = was[kept].Record
	if !same(was[0].Record, was[1].Record) {
		w.forget(was[1-kept].Record)
		w.goBack(was[1-kept].Record)
	}
	m.out = append(m.out, move{deed: deed{what: []string{"the first master wins", "the other master wins"}[kept]}, world: w})
}

// goBack notes that the store has lost a token, or what was known about it, which
// is admitted where no process knows.
func (w *world) goBack(was Record) {
	is := w.stores[0]
	if was.Token == is.Token && was.Owed <= is.Owed && (is.Rejected || !was.Rejected) {
		return
	}
	if w.back = w.knows(); !w.back {
		w.regress()
	}
}

func (w *world) regress() {
	w.excuse |= wentBack
	for i := range w.requests {
		w.requests[i].excuse |= wentBack
	}
}

// forget notes that the store has lost a lease. A process with a claim can still
// make up for it; where it has died, nobody can.
func (w *world) forget(was Record) {
	for i, r := range w.requests {
		if r.orphan {
			w.requests[i].excuse |= unwatched
		}
	}
	for i, p := range w.each() {
		if p.view.claim != nil {
			c := p.clone(w.pools)
			c.debt |= unwatched
			w.procs[i] = c
		}
	}
	if was.Lease != "" && !slices.ContainsFunc(w.each(), func(p *proc) bool { return p.owns(was.Lease) }) {
		w.excuse |= unwatched
	}
}

// losses reports whether the store has lost the record or, without a further fault, can
// drop it with an abandoned lease: only then it matters who had the lease.
func (w *world) losses() bool {
	late := slices.ContainsFunc(w.casts, func(c cast) bool { return c.next.Lease != "" })
	lost := func(m master) bool { return m.Epoch == "" || w.abandoned(m.Lease) }
	return late || lost(w.stores[0]) || w.split && lost(w.stores[1])
}

// abandoned reports whether no process is about to end lease.
func (w *world) abandoned(lease string) bool {
	return lease != "" && !slices.ContainsFunc(w.each(), func(p *proc) bool {
		c := p.view.claim
		return p.phase != idle && !p.paused && c != nil && c.lease == lease
	})
}

// failures reports whether a fetch can fail without a further fault, or the member of
// one that did is known: only then it matters how long processes have lived.
func (w *world) failures() bool {
	named := func(r *Record) bool { return r.Cooldown != nil && r.Cooldown.Member != "" }
	for _, p := range w.each() {
		c := p.view.claim
		switch {
		case p.paused, p.view.cooldown != nil, c != nil && c.Outcome != Pending && c.Outcome != Issued:
			return true
		case p.run != nil && (named(&p.run.record) || p.run.swap != nil && named(&p.run.swap.Next)):
			return true
		}
	}
	late := slices.ContainsFunc(w.casts, func(c cast) bool { return named(&c.next) })
	return late || named(&w.stores[0].Record) || w.split && named(&w.stores[1].Record)
}

// crash ends process i, whose claim nobody settles now.
func (w *world) crash(i int, p *proc) {
	onWay := false
	for j, r := range w.requests {
		if r.by == i || p.view.claim != nil && r.lease == p.view.claim.lease {
			onWay = true
			w.requests[j].orphan = true
			w.requests[j].excuse |= p.debt
		}
	}
	if !onWay {
		w.excuse |= p.debt
	}
	w.disown(i)
	side := p.side
	*p = *w.newProc(i)
	p.side = side
}

// disown leaves the request of process i on its way without it.
func (w *world) disown(i int) {
	for j, r := range w.requests {
		if r.by == i {
			w.requests[j].by = -1
		}
	}
}

// checkStep looks at what p is about to do.
func (w *world) checkStep(p *proc, st Step) {
	r := p.run.record
	switch {
	case p.run.offline:
	case st.Do == Return && p.relate(r, noon) != follows:
		w.wrong = "left the store as it went back"
	case st.Do == Return && p.Seeks() && !p.Unwanted && !p.holds():
		w.wrong = "returned without a token although a caller waits"
	case st.Dropped && p.Repeatable && !r.usable(noon):
		w.wrong = "dropped a token although there is none in the record"
	}
}

// checkWrite looks at what p is about to store in place of at: a token may be
// written only under the lease that fetched it, or, with a fetch owed, where the
// store lost the lease and nobody fetches, or lost the token (I1).
func (w *world) checkWrite(p *proc, at Record, st *Step) {
	next := st.Next
	next.Version = recordVersion
	same := next.Token == at.Token && next.IssuedAt == at.IssuedAt
	switch {
	case !next.sane():
		w.wrong = "wrote what it would not read"
	case w.repeatable && next.Owed > 0:
		w.wrong = "owes a fetch although fetches supersede nothing"
	case same && next.Owed < at.Owed, same && at.Rejected && !next.Rejected:
		w.wrong = "forgot what was known about the token"
	case at.usable(noon) && !next.usable(noon) && !next.Rejected:
		w.wrong = "I6: took a usable token away"
	case next.Rejected && next.Token == w.latest.Token:
		w.wrong = "I6: took the latest token out of use"
	case w.repeatable, same, at.Lease != "" && next.Token == "t"+at.Lease:
	case next.Owed == 0:
		w.wrong = "I1: wrote a token under no lease of its own, and owes nothing"
	case next.Token == p.view.copy.Token: // written back
	case at.Lease != "":
		w.wrong = "I1: wrote a token under another lease than its own"
	}
}
