package protocol

import (
	"slices"
	"time"
)

// A View is what one process knows: its own copy of the token, its own lease, and
// what it has watched in the record. Times are this process's own, taken after the read
// that showed what they date. The zero View knows nothing.
type View struct {
	copy     Record    // the newest record with a token, or a fetch owed, that this process has read or published
	copyRead time.Time // before the last read that confirmed copy
	copySeen time.Time // when this issue of copy's token was first seen
	born     string    // the epoch in which it was first seen
	resort   memo      // the rejected token that is handed out all the same, and until when the platform has no better one

	claim  *claim   // this process's lease; nil: none; never changed once it is here
	own    *failure // of this process's last fetch; nil after one that succeeded
	losses int      // fetches in a row because the store had lost the record

	observed
}

// observed is what a process has seen in the record, and since when.
type observed struct {
	lease      string
	leaseSeen  time.Time
	epoch      string
	seq        int64
	seqSeen    time.Time // since when epoch and seq are the same
	cooldown   *Cooldown // of the record, also if the store has lost it since; nil: none
	cooledSeen time.Time
	lostAt     time.Time     // when the record was last gone
	longer     time.Duration // how long the next lease is to last at least; 0 once a token is published or a lease given back
	settled    bool          // the last record had a token, and neither lease nor doubt
	unkept     int32         // times in a row that the copy was written back, with no token read since
}

// A memo is remembered of a token until a time.
type memo struct {
	token string
	until time.Time
}

func (m memo) holds(token string, now time.Time) bool {
	return token != "" && m.token == token && !Passed(now, m.until)
}

// keepsNone reports whether the store keeps leases at most, and loses each token
// that it says it has stored.
func (v *View) keepsNone() bool { return v.unkept >= 3 }

// unpublished reports whether this process has fetched a token and does not know
// yet that the record has it.
func (v *View) unpublished() bool { return v.claim != nil && v.claim.Outcome == Issued }

// observe notes a record that was read, or swapped in, between readAt and now. It
// returns Adopt if that brought another process's token, else no event.
func (p *Process) observe(r Record, swapped bool, readAt, now time.Time) (event string) {
	p.watch(r, swapped, now)
	v := &p.view
	v.copyRead = readAt
	if p.relate(r, now) != follows {
		return "" // the copy is better
	}
	if r.Token == "" {
		if r.Owed > 0 && (v.copy.Token == "" || v.copy.expired(now)) {
			r.Past = v.copy.pastAfter() // for the token that comes
			v.copy = r
		}
		return ""
	}
	if !r.sameIssue(v.copy) {
		v.copySeen, v.born, v.resort = now, r.Epoch, memo{}
		p.rejects.issues = min(p.rejects.issues+1, 100)
		if v.unkept == 0 {
			v.longer = 0
		}
		if v.claim == nil || r.Token != v.claim.Token.Token {
			event = Adopt
		}
	}
	v.copy = r
	return event
}

// watch notes what is in the record, but for its token.
func (p *Process) watch(r Record, swapped bool, now time.Time) {
	w := &p.view.observed
	switch {
	case r.Epoch == "": // the store dropped it
		w.lostAt = now
		if c := p.orphaned(w.lease, w.cooldown, now); c != nil {
			w.cooldown, w.cooledSeen = c, now
		}
	case now.Sub(w.lostAt) > time.Hour:
		p.view.losses = 0
	}
	p.watchLease(r, swapped, now)
	if r.Epoch != w.epoch || r.Seq != w.seq {
		w.epoch, w.seq, w.seqSeen = r.Epoch, r.Seq, now
	}
	switch c := r.Cooldown; {
	case c != nil && (w.cooldown == nil || *c != *w.cooldown):
		w.cooldown, w.cooledSeen = c, now
		if c.Lifted && c.Member == "" { // Retried
			p.Forgive()
		}
	case c == nil && r.Epoch != "": // its member has fetched since
		w.cooldown = nil
	}
	if r.Token != "" && !swapped {
		w.unkept = 0
	}
	w.settled = r.Token != "" && r.Lease == "" && r.Owed == 0 && !r.Rejected
}

// watchLease notes r's lease, and how long the next one is to last.
func (p *Process) watchLease(r Record, swapped bool, now time.Time) {
	w := &p.view.observed
	ended := w.lease != "" && r.Lease == "" && r.Epoch == w.epoch // published, or given back
	if r.Lease != w.lease {
		w.lease, w.leaseSeen = r.Lease, now
	}
	switch {
	case p.others(r.Lease) && p.brief(now): // they may be brief, too, and die: that is not the store's fault
		w.longer = max(w.longer, p.leaseOf(r))
	case r.Lease != "":
		w.longer = max(w.longer, p.leaseOf(r)*3/2)
	case ended && !(swapped && w.unkept > 0): // else the store may lose that, too
		w.longer = 0
	}
}

// Held returns the token that this process can hand out, with or without a cache.
func (p *Process) Held(now time.Time) (Record, bool) {
	r, usable := p.view.held(now)
	return r, usable && !p.withheld.holds(r.Token, now) && !p.deciding(r.Token)
}

// held is Held where nothing is withheld. An unpublished token is handed out under its
// lease, and after that only if the cache is to blame: a process that was paused must
// first see what happened.
func (v *View) held(now time.Time) (Record, bool) {
	if c := v.claim; v.unpublished() && c.Token.usable(now) && (c.kept || !Passed(now, c.ends)) {
		return c.Token, true
	}
	return v.copy, v.copy.usable(now) || v.lastResort(now)
}

// lastResort reports whether the copy is handed out although it was rejected.
func (v *View) lastResort(now time.Time) bool {
	return v.copy.Rejected && v.copy.Token == v.resort.token && !v.copy.expired(now)
}

// deciding reports whether the flight under way is about to decide on a report that
// token was rejected: it has read the record, and the cache works so far.
func (p *Process) deciding(token string) bool {
	return p.run != nil && p.run.known && p.run.failures == 0 && slices.Contains(p.pending, token)
}

// Withholds reports whether this process has a usable token, and withholds it.
func (p *Process) Withholds(now time.Time) bool {
	r, usable := p.view.held(now)
	return usable && p.withheld.holds(r.Token, now)
}

// Unpublished reports whether the held token is in no record yet, as far as this
// process knows.
func (p *Process) Unpublished() bool { return p.view.unpublished() }

// Ages returns until when the held token is fresh, and handed out without a look at
// the cache, and until when it is handed out without waiting for that look. Both are
// past for a token that is in no record and without which nobody has one, as a program
// that ends with it would leave the others without; and for a last resort when a
// better token may soon be there.
func (p *Process) Ages(now time.Time) (fresh, stale time.Time) {
	v := &p.view
	if v.unpublished() && !v.copy.usable(now) || v.lastResort(now) && (v.lease != "" || Passed(now, v.resort.until)) {
		return time.Time{}, time.Time{}
	}
	if c := v.claim; c != nil && c.lease == v.lease && c.Outcome == Pending && !p.Repeatable {
		return c.ends, c.ends // nobody else can fetch
	}
	if !v.settled {
		return v.copyRead.Add(p.Watch() * 2 / 3), v.copyRead.Add(p.Watch())
	}
	fresh, stale = v.copyRead.Add(p.fresh()), v.copyRead.Add(p.Local)
	for _, look := range []time.Time{p.refreshAt(v.copy), v.copy.expires()} { // at its expiry where it was not replaced in time
		if v.copyRead.Before(look) && look.Before(fresh) {
			fresh = look
		}
	}
	return fresh, stale
}

// Tolerable reports whether callers can have the copy before the flight under way has
// read the record: because it was confirmed within the time for which superseded
// tokens stay valid, or because the cache fails.
func (p *Process) Tolerable(now time.Time) bool {
	return p.run != nil && p.run.failures > 0 || !Passed(now, p.view.copyRead.Add(5*p.Local))
}

// Knows reports whether token is the copy, or one of the six before it.
func (p *Process) Knows(token string) bool {
	return token != "" && (token == p.view.copy.Token || p.view.copy.follows(token))
}

// Forgive ends the wait that this process's own failures impose on it alone.
func (p *Process) Forgive() { p.view.own = nil }
