// Package protocol decides how processes share one token. It does no I/O and
// reads no clock: what to do next follows from the record in the cache, from
// what this process has observed, and from the time. The flights of package
// wxtoken do it. docs/protocol.md explains why it is right.
package protocol

import "time"

// Rules are the durations of the protocol and the traits of the credential.
type Rules struct {
	Fetch       time.Duration // F: a fetch's deadline
	Local       time.Duration // M: how long a copy is trusted
	Ahead       time.Duration // how long before its end a token is replaced
	Repeatable  bool          // a second fetch harms nobody
	Fingerprint string        // of this process's secret, for the scope of cooldowns
}

func (ru Rules) Watch() time.Duration     { return ru.Local / 22 }                      // 2 s: M while something is going on
func (ru Rules) Patience() time.Duration  { return max(ru.Fetch/10, time.Millisecond) } // 1 s: how long a flight takes until callers get an old copy
func (ru Rules) CacheCall() time.Duration { return ru.Fetch / 5 }                       // 2 s: one call of the cache
func (ru Rules) soft() time.Duration      { return ru.Local * 2 / 3 }                   // 30 s: copies older are read again
func (ru Rules) lease() time.Duration     { return ru.Fetch * 3 / 2 }                   // 15 s: a lease older is abandoned
func (ru Rules) sendBy() time.Duration    { return ru.Fetch / 2 }                       // 5 s: the lease's age at which a fetch may still start
func (ru Rules) verify() time.Duration    { return 2*ru.Local + ru.Fetch }              // 100 s: when an unknown request has landed
func (ru Rules) ample() time.Duration     { return ru.verify() + 2*ru.Fetch }           // 120 s: what is left of a token that nobody need hurry to replace
func (ru Rules) announce() time.Duration  { return ru.Local + ru.Watch() }              // 47 s: by then every process keeps close to the record
func (ru Rules) youngest() time.Duration  { return ru.Fetch }                           // 10 s: no refusal of a younger token is believed

// A Step is what to do next.
type Step struct {
	Do    Action
	Next  Record // for Take and Swap: what to put in the record's place
	After View   // for Take, Swap and Drop: what this process knows then
	Event string // what to report then; mostly none

	Cause Result        // for Fail: why the platform must not be asked
	Until time.Time     // for Fail: until when
	Young time.Duration // for Fail of Refuse: the age from which the refusal is believed
}

// An Action is one that a Step asks for.
type Action int

const (
	Use  Action = iota // hand out the held token; of Refuse: the refused one is out of use
	Wait               // another process fetches: read again soon
	Take               // ask for the lease: like Swap, but After holds whatever comes of it
	Swap               // change the record
	Drop               // only what this process knows changes
	Ask                // the lease is this process's: fetch
	Fail               // there is no token to hand out, for now
)

// The events of a Step and of Observe.
const (
	Adopt     = "adopt"
	Takeover  = "takeover"
	LeaseLost = "lease_lost"
	Restore   = "restore"
	Reject    = "reject"
)

// Decide is the protocol. nonce is a fresh random string, for the lease if one
// is to be asked for.
func (ru Rules) Decide(r Record, v View, nonce string, now time.Time) Step {
	c := v.claim
	mine := c != nil && c.nonce == r.Lease
	switch {
	case mine && c.Outcome != Pending:
		return ru.publish(r, v, now)
	case mine && Passed(now, c.asked.Add(ru.sendBy())):
		r.Lease, v.claim = "", nil
		return Step{Do: Swap, Next: r, After: v}
	case mine:
		return Step{Do: Ask}
	case c != nil:
		return ru.lost(r, v)
	case v.newer(r, now):
		return ru.restore(r, v)
	case !ru.due(r, v, now):
		return Step{Do: Use}
	}
	st, cools := ru.cooling(r, v, now)
	taken := r.Lease != "" && now.Sub(v.leaseSeen) < ru.abandoned(r, now)
	_, usable := v.Held(now)
	switch {
	case usable && (cools || taken):
		return Step{Do: Use}
	case cools:
		return st
	case taken:
		return Step{Do: Wait}
	}
	return ru.take(r, v, nonce, now)
}

// Alone decides without a cache: Use what is held, or Ask if a second fetch
// harms nobody, or Fail.
func (ru Rules) Alone(v View, now time.Time) Step {
	held, _ := v.Held(now)
	if !ru.Repeatable || !ru.due(held, v, now) {
		return Step{Do: Use}
	}
	if st, cools := ru.cooling(Record{}, v, now); cools {
		return st
	}
	return Step{Do: Ask}
}

// due reports whether r's token must be replaced.
func (ru Rules) due(r Record, v View, now time.Time) bool {
	switch {
	case !r.usable(now):
		return true
	case r.Owed > 0 && r.left(now) > ru.ample():
		return now.Sub(v.seqSeen) >= ru.verify()
	}
	return !now.Before(ru.refreshAt(r))
}

// refreshAt is when r's token is to be replaced, if nothing is the matter.
func (ru Rules) refreshAt(r Record) time.Time {
	life := time.Duration(r.ExpiresAt-r.IssuedAt) * time.Millisecond
	return time.UnixMilli(r.ExpiresAt).Add(-min(ru.Ahead, life/4))
}

// abandoned is how long a process watches another's lease before it calls it
// so. Where nobody need hurry, every process is first given the time to
// come close to the record.
func (ru Rules) abandoned(r Record, now time.Time) time.Duration {
	if r.usable(now) && r.left(now) > ru.ample() {
		return ru.lease() + ru.announce()
	}
	return ru.lease()
}

// owe is n fetches owed, or none where fetches do not supersede one another.
func (ru Rules) owe(n int) int {
	if ru.Repeatable {
		return 0
	}
	return n
}

// take asks for the lease, and takes an abandoned one over: the fetch under that
// may have been served, or may yet be.
func (ru Rules) take(r Record, v View, nonce string, now time.Time) Step {
	next := r
	next.Lease = nonce
	st := Step{Do: Take}
	v.claim = &claim{nonce: nonce, asked: now, ends: now.Add(ru.lease()), settles: -1}
	if r.Lease != "" {
		next.Owed = ru.owe(2)
		next.Seq++
		st.Event = Takeover
	} else if now.Sub(v.seqSeen) >= ru.verify() {
		v.claim.settles = r.Seq
	}
	if next.Epoch == "" {
		next.Epoch = nonce
	}
	st.Next, st.After = next, v
	return st
}

// publish ends this process's lease with what came of its fetch.
func (ru Rules) publish(r Record, v View, now time.Time) Step {
	c := v.claim
	next := r
	next.Lease, v.claim = "", nil
	switch c.Outcome {
	case Issued:
		if !r.Rejected && r.Owed == 0 {
			next.Early = 0 // it lived its life
		}
		expires := c.Token.ExpiresAt
		if c.Token.Token == r.Token {
			expires = min(expires, r.ExpiresAt) // a repeat can not live longer than was said first
		}
		next.Seq++
		next.Token, next.IssuedAt, next.ExpiresAt = c.Token.Token, c.Token.IssuedAt, expires
		next.Rejected, next.Cooldown = false, nil
		next.Owed = max(r.Owed-1, 0)
		if c.settles == r.Seq {
			next.Owed = 0
		}
		v.failure, v.ownUntil, v.ownStep = nil, time.Time{}, 0
	case Unknown:
		next.Owed = ru.owe(2)
		next.Seq++
		fallthrough
	case Denied, Unsent:
		p := penaltyFor(c.Result)
		v.failure = c.Err
		if p.scope != oneself {
			next.Cooldown = p.after(r.Cooldown, c.Result, ru.Fingerprint, now)
			v.failedTag = next.Cooldown.Until
		}
		if p.scope != everyone {
			v.ownUntil = now.Add(p.delay(v.ownStep))
			v.ownStep++
		}
	}
	return Step{Do: Swap, Next: next, After: v}
}

// lost ends a claim whose lease is no longer in the record: what it fetched can
// not be ordered against the fetch of whoever took over, so it is never written,
// and a fetch sent after both is owed. The one now under way, if there is one,
// does not count.
func (ru Rules) lost(r Record, v View) Step {
	c := v.claim
	v.claim = nil
	owed := 0
	switch c.Outcome {
	case Issued:
		if r.Epoch != "" { // else whoever fetches next does so after this
			owed = ru.owe(1)
		}
	case Unknown:
		owed = ru.owe(2)
	}
	if owed > 0 && r.Lease != "" {
		owed++
	}
	st := Step{Do: Drop, After: v}
	if c.Outcome == Issued {
		if r.Token == c.Token.Token {
			return st // published; only the reply was lost
		}
		st.Event = LeaseLost
	}
	if owed > 0 {
		st.Do, st.Next = Swap, r
		if r.Epoch == "" {
			st.Next.Epoch = c.nonce // the store lost the record, and what it knew of the request
		}
		st.Next.Owed = max(r.Owed, owed)
		st.Next.Seq++
	}
	return st
}

// restore writes a newer token back into a store that went back in time.
func (ru Rules) restore(r Record, v View) Step {
	next := v.Copy
	next.Lease, next.Cooldown = r.Lease, r.Cooldown
	next.Owed = max(next.Owed, r.Owed, ru.owe(1))
	next.Seq++
	return Step{Do: Swap, Next: next, After: v, Event: Restore}
}

// Refuse decides on an API's refusal of token: Swap or Drop takes it out of use,
// Use says that it is out of use, and Fail that the refusal is not believed.
//
// The platform now and then refuses a good token, and a foreign system that
// fetches makes every token die early. So the age from which a refusal is
// believed doubles with each token in a row that was refused: at most some 300
// fetches a day come of it, of the platform's 2,000.
func (ru Rules) Refuse(r Record, v View, token string, now time.Time) Step {
	if token == v.Copy.Token && token != r.Token { // the store has not got it
		v.Copy.Rejected = true
		return Step{Do: Drop, After: v}
	}
	if token != r.Token || r.Rejected {
		return Step{Do: Use}
	}
	age := now.Sub(v.copySeen)
	if r.Early == 0 {
		// One refusal may be believed on the word of the issuer's clock, so that
		// a process that has just started need not wait.
		age = max(age, now.Sub(time.UnixMilli(r.IssuedAt)))
	}
	if young := ru.youngest() << min(r.Early, 5); age < young {
		return Step{Do: Fail, Young: young}
	}
	r.Rejected = true
	r.Seq++
	r.Early++
	return Step{Do: Swap, Next: r, After: v, Event: Reject}
}
