package protocol

import "time"

// A View is what one process knows: its own copy of the token, what it has
// watched in the record and since when, and the lease that it asked for. Times
// are this process's own, taken after the read that showed what they date. The
// zero View knows nothing.
type View struct {
	Copy     Record    // the newest record with a token that this process has read or published
	copyRead time.Time // before the last read that confirmed Copy
	copySeen time.Time // when this issue of Copy's token was first seen

	calm       bool // the last record read had a token and neither lease nor doubt
	lease      string
	leaseSeen  time.Time
	epoch      string
	seq        int64
	seqSeen    time.Time
	cooldown   *Cooldown // nil: none seen
	cooledSeen time.Time

	claim *claim // nil: none; never changed once it is here

	failure   error     // of this process's last fetch; nil after one that succeeded
	failedTag int64     // Until of the cooldown that this process shared for it
	ownUntil  time.Time // this process alone must not ask before; zero if it may
	ownStep   int       // failures in a row that concerned this process
}

// A claim is this process's own lease and what came of its fetch.
type claim struct {
	nonce   string
	asked   time.Time // before the lease was asked for
	ends    time.Time // when others may take the lease over
	settles int64     // a fetch under this lease pays all that is owed at this seq; -1: none
	kept    bool      // the cache failed when the token was to be published
	Result
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

// Observe notes a record whose read began at readAt and ended at now. It gives
// Adopt if that brought another process's token, else no event.
func (v *View) Observe(r Record, readAt, now time.Time) (event string) {
	if r.Lease != v.lease {
		v.lease, v.leaseSeen = r.Lease, now
	}
	if r.Epoch != v.epoch || r.Seq != v.seq {
		v.epoch, v.seq, v.seqSeen = r.Epoch, r.Seq, now
	}
	if c := r.Cooldown; c != nil && (v.cooldown == nil || *c != *v.cooldown) {
		v.cooldown, v.cooledSeen = c, now
	}
	v.calm = r.Token != "" && r.Lease == "" && r.Owed == 0
	better := v.Copy.Epoch == "" && v.Copy.usable(now) && r.Token != v.Copy.Token &&
		(!r.usable(now) || r.ExpiresAt < v.Copy.ExpiresAt)
	if r.Token == "" || v.newer(r, now) || better {
		// The copy outlives a store that lost the record, or that was out of reach
		// when the copy was fetched. There is nothing better for now.
		v.copyRead = readAt
		return ""
	}
	if r.Token != v.Copy.Token || r.IssuedAt != v.Copy.IssuedAt {
		v.copySeen = now
		if v.claim == nil || r.Token != v.claim.Token.Token {
			event = Adopt
		}
	}
	v.Copy, v.copyRead = r, readAt
	return event
}

// newer reports whether this process knows of a newer state than r: the store
// went back in time.
func (v *View) newer(r Record, now time.Time) bool {
	return r.Epoch == v.Copy.Epoch && r.Seq < v.Copy.Seq && !v.Copy.expired(now)
}

// Held is the token that this process can hand out, with or without a cache. One
// that is not published yet is given out under its lease, and after that only if
// the cache is to blame: a process that was paused must first see what happened.
func (v *View) Held(now time.Time) (Record, bool) {
	if c := v.claim; v.Unpublished() && c.Token.usable(now) && (c.kept || !Passed(now, c.ends)) {
		return c.Token, true
	}
	return v.Copy, v.Copy.usable(now)
}

// Unpublished reports whether this process has fetched a token and not heard
// yet that the record has it.
func (v *View) Unpublished() bool { return v.claim != nil && v.claim.Outcome == Issued }

// LeaseEnds is by when a fetch that Decide asks for must be over.
func (v *View) LeaseEnds() time.Time { return v.claim.ends }

// Fetched notes what came of the fetch that Decide asked for.
func (v *View) Fetched(result Result) {
	c := *v.claim
	c.Result = result
	v.claim = &c
}

// CacheFailed notes that the cache failed, which keeps nobody from a token that
// is to be published.
func (v *View) CacheFailed() {
	if v.Unpublished() {
		c := *v.claim
		c.kept = true
		v.claim = &c
	}
}

// FetchedAlone notes what came of the fetch that Alone asked for.
func (v *View) FetchedAlone(result Result, now time.Time) {
	if v.failure = result.Err; result.Outcome != Issued {
		v.ownUntil = now.Add(penaltyFor(result).delay(v.ownStep))
		v.ownStep++
		return
	}
	v.ownUntil, v.ownStep = time.Time{}, 0
	v.Copy, v.copyRead, v.copySeen, v.calm = result.Token, now, now, true
}

// Ages says until when the held token is given out without a look at the cache,
// and until when without waiting for that look.
func (ru Rules) Ages(v *View) (soft, hard time.Time) {
	if c := v.claim; c != nil && c.nonce == v.lease && c.Outcome == Pending {
		return c.ends, c.ends // nobody else can fetch
	}
	if !v.calm {
		return v.copyRead.Add(ru.Watch() * 2 / 3), v.copyRead.Add(ru.Watch())
	}
	soft, hard = v.copyRead.Add(ru.soft()), v.copyRead.Add(ru.Local)
	if refresh := ru.refreshAt(v.Copy); v.copyRead.Before(refresh) && refresh.Before(soft) {
		soft = refresh
	}
	return soft, hard
}

// Forgive ends the wait that this process's own failures impose on it alone.
func (v *View) Forgive() { v.ownUntil, v.ownStep = time.Time{}, 0 }
