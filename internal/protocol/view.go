package protocol

import (
	"slices"
	"time"
)

// A View is what one process knows: its own copy of the token, what it has
// watched in the record and since when, and the lease that it asked for. Times
// are this process's own, taken after the read that showed what they date. The
// zero View knows nothing.
type View struct {
	copy     Record    // the newest record with a token, or a fetch owed, that this process has read or published
	copyRead time.Time // before the last read that confirmed copy
	copySeen time.Time // when this issue of copy's token was first seen
	born     string    // the epoch in which it was first seen
	losses   int       // fetches in a row because the store had lost the record
	lostAt   time.Time // when it was last seen to have lost it

	settled    bool // the last record read had a token, and neither lease nor doubt
	lease      string
	leaseSeen  time.Time
	longest    time.Duration // the longest lease since a token was last published or a lease given back
	unkept     int           // times in a row that the copy was written back, with no token read since
	epoch      string
	seq        int64
	seqSeen    time.Time
	cooldown   *Cooldown // nil: none seen
	cooledSeen time.Time

	claim *claim   // nil: none; never changed once it is here
	own   *failure // of this process's last fetch; nil after one that succeeded

	resort memo // the rejected token that is handed out all the same, and until when the platform has no better one
}

// A memo is remembered of a token until a time.
type memo struct {
	token string
	until time.Time
}

func (m memo) holds(token string, now time.Time) bool {
	return token != "" && m.token == token && !Passed(now, m.until)
}

// A claim is this process's own lease and what came of its fetch.
type claim struct {
	lease   string
	asked   time.Time // before the lease was asked for
	ends    time.Time // when others may take the lease over
	base    string    // the record's token when the lease was asked for
	settles int64     // a fetch under this lease pays all that is owed at this seq; -1: none
	kept    bool      // the cache failed when the token was to be published
	Result
}

// isIn reports whether r has the token that was fetched under c.
func (c *claim) isIn(r Record) bool {
	return r.Token == c.Token.Token && r.IssuedAt == c.Token.IssuedAt
}

// A Result is what came of a fetch.
type Result struct {
	Outcome Outcome
	Token   Record // if Issued: Token, IssuedAt and ExpiresAt
	Code    int    // if Denied: errcode
	Message string // if Denied: errmsg
	Err     error  // what callers are told; nil if another process was Denied
}

// An Outcome says what may have happened to the platform's token.
type Outcome int

const (
	Pending Outcome = iota
	Issued
	Denied  // an errcode: no token was issued
	Unsent  // nothing left the process
	Unknown // the request may have been served, or may yet be
)

// keepsNone reports whether the store keeps leases at most, and loses each token
// that it says it has stored.
func (v *View) keepsNone() bool { return v.unkept >= 3 }

// observe notes a record that was read, or swapped in, between readAt and now. It
// returns Adopt if that brought another process's token, else no event.
func (p *Process) observe(r Record, swapped bool, readAt, now time.Time) (event string) {
	v := &p.view
	if r.Lease != v.lease {
		v.lease, v.leaseSeen = r.Lease, now
	}
	switch {
	case r.Lease != "":
		v.longest = max(v.longest, p.leaseOf(r))
	case swapped && v.unkept > 0: // the store may lose that, too
	case r.Epoch != "" && r.Epoch == v.epoch: // published, or given back; else the store lost it
		v.longest = 0
	}
	switch {
	case r.Epoch == "":
		v.lostAt = now
	case now.Sub(v.lostAt) > time.Hour:
		v.losses = 0
	}
	if r.Epoch != v.epoch || r.Seq != v.seq {
		v.epoch, v.seq, v.seqSeen = r.Epoch, r.Seq, now
	}
	if c := r.Cooldown; c != nil && (v.cooldown == nil || *c != *v.cooldown) {
		v.cooldown, v.cooledSeen = c, now
	}
	if r.Token != "" && !swapped {
		v.unkept = 0
	}
	v.settled = r.Token != "" && r.Lease == "" && r.Owed == 0 && !r.Rejected
	v.copyRead = readAt
	if r.Token == "" && (r.Owed == 0 || v.copy.Token != "" && !v.copy.expired(now)) || p.relate(r, now) != follows {
		return "" // the copy is better, or there is nothing better for now
	}
	if r.Token == "" {
		past := v.copy.pastAfter()
		v.copy = r
		v.copy.Past = past // for the token that comes
		return ""
	}
	if r.Token != v.copy.Token || r.IssuedAt != v.copy.IssuedAt {
		v.copySeen, v.born, v.resort = now, r.Epoch, memo{}
		p.rejects.issues = min(p.rejects.issues+1, 100)
		if !swapped || v.unkept == 0 {
			v.longest = 0
		}
		if v.claim == nil || r.Token != v.claim.Token.Token {
			event = Adopt
		}
	}
	v.copy = r
	return event
}

// Held returns the token that this process can hand out, with or without a
// cache. An unpublished one is handed out under its lease, and after that only if
// the cache is to blame: a process that was paused must first see what happened.
func (p *Process) Held(now time.Time) (Record, bool) {
	r, usable := p.view.held(now)
	return r, usable && !p.withheld.holds(r.Token, now) && !p.deciding(r.Token)
}

// deciding reports whether the flight under way is about to decide on a report
// that token was rejected: it has read the record, and the cache works so far.
func (p *Process) deciding(token string) bool {
	return p.run != nil && p.run.known && p.run.failures == 0 && slices.Contains(p.pending, token)
}

// Withholds reports whether this process has a usable token, and withholds it.
func (p *Process) Withholds(now time.Time) bool {
	r, usable := p.view.held(now)
	return usable && p.withheld.holds(r.Token, now)
}

// held is Held where nothing is withheld.
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

// alone makes token, fetched just now, the copy of a process without a cache.
func (v *View) alone(token Record, now time.Time) {
	if v.copy.Rejected && v.copy.Token != token.Token { // it must not come back
		token.Past = v.copy.pastAfter()
	}
	if v.copy.Rejected {
		token.Early = v.copy.Early // it goes on, as in a record
	}
	v.copy, v.copyRead, v.copySeen, v.born, v.settled, v.resort = token, now, now, "", true, memo{}
}

// unpublished reports whether this process has fetched a token and does not know
// yet that the record has it.
func (v *View) unpublished() bool { return v.claim != nil && v.claim.Outcome == Issued }

// Unpublished reports whether the held token is in no record yet, as far as this
// process knows.
func (p *Process) Unpublished() bool { return p.view.unpublished() }

// Ages returns until when the held token is fresh, and handed out without a look
// at the cache, and until when it is handed out without waiting for that look. For
// a token that is in no record yet, and without which nobody has one, both are past:
// a program that ends with it would leave the others without. So are they for a last
// resort when a better one may soon be there.
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
	for _, look := range []time.Time{p.refreshAt(v.copy), time.UnixMilli(v.copy.ExpiresAt)} { // at its expiry where it was not replaced in time
		if v.copyRead.Before(look) && look.Before(fresh) {
			fresh = look
		}
	}
	return fresh, stale
}

// Tolerable reports whether the copy may be handed out before the flight under
// way has looked: because it was confirmed within the grace that superseded
// tokens have, or because the cache fails.
func (p *Process) Tolerable(now time.Time) bool {
	return p.run != nil && p.run.failures > 0 || !Passed(now, p.view.copyRead.Add(5*p.Local))
}

// Knows reports whether token is the copy, or one of the six before it.
func (p *Process) Knows(token string) bool {
	return token != "" && (token == p.view.copy.Token || p.view.copy.follows(token))
}

// Forgive ends the wait that this process's own failures impose on it alone.
func (p *Process) Forgive() { p.view.own = nil }
