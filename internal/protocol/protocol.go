// Package protocol decides how processes share one token. It does no I/O and
// reads no clock. A Process is asked for the next step, and told what came of it;
// the flights of package wxtoken do what it says. docs/design.md explains why
// it is right.
package protocol

import (
	"strings"
	"time"
)

// Rules are the durations of the protocol and the traits of the credential.
type Rules struct {
	Fetch       time.Duration // F: a fetch's deadline
	Local       time.Duration // M: how long a copy is trusted
	Ahead       time.Duration // how long before its expiry a token is replaced
	Repeatable  bool          // a fetch does not supersede the token before
	AtExpiry    bool          // the platform repeats the token until it expires
	FullLife    bool          // it repeats it with its full life each time
	Changeable  bool          // Fingerprint may have changed: see Secret
	Fingerprint string        // of this process's secret, for the scope of cooldowns
}

// The exported ones are called without a lock, and must not read Fingerprint: so
// they take no copy of all.

func (ru *Rules) Watch() time.Duration     { return min(max(ru.Local/22, time.Millisecond), 5*time.Second) } // 2 s: M while something is going on
func (ru *Rules) Patience() time.Duration  { return max(ru.Fetch/10, time.Millisecond) }                     // 1 s: how long a flight takes until callers get an old copy; the age of a token whose rejection is believed
func (ru *Rules) CacheCall() time.Duration { return ru.Fetch / 5 }                                           // 2 s: one call of the cache
func (ru Rules) fresh() time.Duration      { return ru.Local * 2 / 3 }                                       // 30 s: copies older are read again
func (ru Rules) lease() time.Duration      { return min(ru.Fetch*3/2, 45*time.Second) }                      // 15 s: a lease watched for longer is abandoned
func (ru Rules) verify() time.Duration     { return 2*ru.Local + ru.Fetch }                                  // 100 s: when an unknown request has landed
func (ru Rules) ample() time.Duration      { return ru.verify() + 2*ru.Fetch }                               // 120 s: a token with more left need not be replaced in a hurry
func (ru Rules) announce() time.Duration   { return ru.Local + ru.Watch() }                                  // 47 s: by then every process reads the record often
func (ru Rules) respite() time.Duration    { return 3*ru.verify() - ru.Fetch }                               // 290 s: between two fetches because the store lost the record
func (ru Rules) clockError() time.Duration { return 2 * time.Minute }                                        // by which another machine's clock may be wrong
func (ru Rules) whole() time.Duration      { return 6 * ru.Fetch }                                           // 60 s: one flight
func (ru Rules) recheck() time.Duration    { return 5 * time.Minute }                                        // after which the platform is asked for a token of FullLife again
func (ru Rules) overtime() time.Duration   { return time.Minute }                                            // the life of one that is repeated past its expiry

// The events of a Step and of DidRead.
const (
	Adopt     = "adopt"
	Takeover  = "takeover"
	LeaseLost = "lease_lost"
	Restore   = "restore"
	Reject    = "reject"
	Lost      = "lost" // the store lost the record
)

// due reports whether r's token must be replaced.
func (p *Process) due(r Record, v *View, now time.Time) bool {
	switch {
	case !r.usable(now):
		return true
	case r.Owed > 0 && r.left(now) > p.ample():
		// A doubt that comes of a lost record can come again at any time.
		wait := p.verify()
		if v.own != nil { // its last fetch failed: the others settle this first
			wait *= 2
		}
		return now.Sub(v.seqSeen) >= wait && (v.born == r.Epoch || now.Sub(v.copySeen) >= p.respite())
	}
	return !now.Before(p.turn(r, v)) || p.outlived(r, v, now)
}

// turn is when this process is to replace r's token. One whose own last fetch
// failed, before that or with an outcome that is still unknown, is the last to try.
func (p *Process) turn(r Record, v *View) time.Time {
	turn := p.refreshAt(r)
	if f := v.own; f != nil && (f.at.Before(turn) || r.Owed > 0) {
		turn = turn.Add(time.UnixMilli(r.ExpiresAt).Sub(turn) * 3 / 4)
	}
	return turn
}

// outlived reports whether this process has seen r's token for almost as long as
// it lives, although it is not to expire yet: the issuer's clock was ahead. If the
// issuer lives, it is first given the time to replace the token.
func (p *Process) outlived(r Record, v *View, now time.Time) bool {
	issued := time.UnixMilli(r.IssuedAt)
	life := max(time.UnixMilli(r.ExpiresAt).Sub(issued)-p.ample(), p.turn(r, v).Sub(issued))
	return r.Token == v.copy.Token && r.IssuedAt == v.copy.IssuedAt && now.Sub(v.copySeen) >= life
}

// refreshAt is when r's token is to be replaced, if nothing is the matter. One
// that the platform would only repeat is replaced when it expires, or as soon as
// the platform no longer repeats it, if nobody knows when it expires.
func (ru Rules) refreshAt(r Record) time.Time {
	if ru.FullLife {
		return time.UnixMilli(min(r.IssuedAt+ru.recheck().Milliseconds(), r.ExpiresAt))
	}
	life := time.Duration(r.ExpiresAt-r.IssuedAt) * time.Millisecond
	ahead := ru.Ahead
	if ru.Repeatable && life <= ahead*5/4 { // it may have been repeated: stable_token issues another in the last 5 minutes
		ahead = min(ahead, 5*time.Minute)
	}
	if ru.AtExpiry || ru.Repeatable && life <= ahead*5/4 {
		return time.UnixMilli(r.ExpiresAt)
	}
	return time.UnixMilli(r.ExpiresAt).Add(-min(ahead, life/4))
}

// leaseOf is how long r's lease lasts.
func (ru Rules) leaseOf(r Record) time.Duration {
	if r.LeaseFor > 0 {
		return min(time.Duration(r.LeaseFor)*time.Millisecond, maxLease)
	}
	return ru.lease()
}

// abandoned is how long a process watches another's lease before it treats it as
// abandoned. If the token is not close to expiry, every process is first given
// the time to see the lease, and to read the record often.
func (ru Rules) abandoned(r Record, now time.Time) time.Duration {
	if r.usable(now) && r.left(now) > ru.ample() {
		return ru.leaseOf(r) + ru.announce()
	}
	return ru.leaseOf(r)
}

// ttl is for how long the store has to keep r: for an hour past all that it
// speaks of, since a doubt or a growing cooldown outlives the token. A record
// without a usable token is kept for little longer than its lease, so that the
// lease of a process that died expires even if nobody lives to watch it.
func (ru Rules) ttl(r Record, now time.Time) time.Duration {
	if r.Lease != "" {
		ttl := ru.leaseOf(r) + ru.CacheCall()
		if r.usable(now) {
			ttl = max(ttl, min(r.left(now), MaxLifetime))
		}
		return ttl
	}
	last := max(r.ExpiresAt, now.UnixMilli())
	if r.Cooldown != nil {
		last = max(last, r.Cooldown.Until)
	}
	return min(time.UnixMilli(last).Sub(now), MaxLifetime) + time.Hour
}

// owe is n fetches owed, or none where fetches do not supersede one another.
func (ru Rules) owe(n int) int {
	if ru.Repeatable {
		return 0
	}
	return n
}

// decide is the protocol for a record in which this process has no lease, and
// which lacks nothing that it knows. nonce is a fresh random string.
func (p *Process) decide(r Record, nonce string, now time.Time) Step {
	v := &p.view
	if !p.due(r, v, now) {
		return Step{Do: Return}
	}
	held, usable := p.Held(now)
	watched := now.Sub(v.leaseSeen)
	left := p.abandoned(r, now) - watched
	taken := r.Lease != "" && left > 0
	switch {
	case usable && !held.Rejected && r.Token == "" && v.keepsNone():
		return Step{Do: Return}
	case taken && usable && !held.Rejected: // else the fetch may soon bring a better one
		return Step{Do: Return}
	case taken && !r.Noted && watched >= p.Patience():
		// Its store may keep the record for long, and this process may not live
		// to see the lease abandoned.
		r.Noted = true
		return Step{Do: Swap, Next: r, after: *v}
	case taken:
		return Step{Do: Read, Pause: min(pace(watched), left)}
	}
	if c := r.Cooldown; c != nil && c.Scope != "" && p.Fingerprint == "" && p.asksSecret(now) {
		return Step{Do: Secret} // this process has not fetched yet, and must know whether that concerns it
	}
	if st, cools := p.cooling(r, v, now); cools {
		return p.cool(r, st, usable, now)
	}
	if r.usable(now) && now.Sub(p.began) < p.lease() {
		return Step{Do: Return} // it may not live to publish a token: let another fetch, or wait until the token expires
	}
	return p.take(r, nonce, now)
}

// pace is the pause between two reads of a process that has watched another's
// lease for so long. Most fetches take 40 ms, as they have to connect first: until
// then the pause is half of what is left of that. Later it is an eighth of the time
// that the platform has had since some 30 ms, at most 20 ms: the end of a short
// fetch is seen soon, and a long one costs few reads. A lease that is longer than
// the usual 15 s is watched more slowly still, as no fetch may be under way.
func pace(watched time.Duration) time.Duration {
	return max((40*time.Millisecond-watched)/2, min((watched-30*time.Millisecond)/8, max(20*time.Millisecond, watched/750)))
}

// cool is what to do while the platform must not be asked. A rejected token is
// the last resort where that takes long: the rejection may have been a mistake. It
// stays that until another comes: the next fetch may fail, too, and take long.
func (p *Process) cool(r Record, st Step, usable bool, now time.Time) Step {
	if st.secret && p.asksSecret(now) {
		return Step{Do: Secret}
	}
	v := &p.view
	long := st.Until.Sub(now) > p.Watch() || v.resort.token == r.Token
	if long && v.copy.Token == r.Token && r.Rejected && !r.Doubted && !r.expired(now) {
		v.resort = memo{r.Token, st.Until}
		_, usable = p.Held(now)
	}
	if usable {
		return Step{Do: Return}
	}
	return st
}

// asksSecret reports whether it is time to look whether the secret has changed: at
// most once in a flight, and in the watch age.
func (p *Process) asksSecret(now time.Time) bool {
	if !p.Changeable || p.run.asked || now.Sub(p.secretAsked) < p.Watch() {
		return false
	}
	p.secretAsked, p.run.asked = now, true
	return true
}

// owns reports whether lease is one of this process's.
func (p *Process) owns(lease string) bool {
	return p.id != "" && strings.HasPrefix(lease, p.id+".")
}

// take asks for the lease, and takes an abandoned one over: the fetch under that
// may have been served, or may yet be. Each lease that ends without a token makes
// the next one longer, so that a store which cannot keep a token is asked for
// less and less often.
func (p *Process) take(r Record, nonce string, now time.Time) Step {
	v := p.view
	if p.id == "" {
		p.id = nonce
	}
	length := p.lease()
	if p.Repeatable && r.Cooldown == nil {
		length = min(p.Patience(), length)
	}
	if v.longest > 0 {
		length = max(length, min(v.longest*3/2, maxLease))
	}
	if v.keepsNone() {
		length = maxLease
	}
	next := r
	next.Lease, next.LeaseFor, next.Noted = p.id+"."+nonce, length.Milliseconds(), !r.usable(now)
	st := Step{Do: Swap, take: true}
	c := claim{lease: next.Lease, asked: now, ends: now.Add(length), base: r.Token, settles: -1}
	if r.Lease != "" {
		next.Owed = max(r.Owed, p.owe(2))
		next.Seq++
		st.Event = Takeover
	} else if now.Sub(v.seqSeen) >= p.verify() {
		c.settles = r.Seq
	}
	if next.Epoch == "" {
		next.Epoch = nonce
		if p.Repeatable && v.copy.Token != "" { // the first record of all was not lost
			v.losses++
		}
	}
	v.claim = &c
	st.Next, st.after = next, v
	return st
}

// fetchBy is the last moment to send a fetch under c, so that it ends within the
// lease. Where a second fetch does no harm there is none.
func (p *Process) fetchBy(c *claim) time.Time {
	if p.Repeatable {
		return c.asked.Add(p.Fetch)
	}
	return c.asked.Add(min(p.Fetch/2, c.ends.Sub(c.asked)/3))
}

// publish ends this process's lease with what came of its fetch.
func (p *Process) publish(r Record, now time.Time) Step {
	v := p.view
	c := v.claim
	next := r
	next.Lease, next.LeaseFor, next.Noted, v.claim = "", 0, false, nil
	switch c.Outcome {
	case Issued:
		v.own = nil
		if c.isIn(r) {
			break // the store lost it, and another process wrote it back
		}
		next = p.withToken(next, c)
		if v.copy.Token == "" {
			v.copy = Record{} // it says only what was owed
		}
		next.Owed = max(r.Owed-1, 0)
		if c.settles == r.Seq {
			next.Owed = 0
		}
		if v.keepsNone() { // the lease goes on, and spaces the fetches of all
			v.copy, v.copyRead, v.copySeen, v.born = next, now, now, next.Epoch
			return Step{Do: drop, after: v}
		}
	case Unknown:
		next.Owed = max(r.Owed, p.owe(2))
		next.Seq++
		next.Cooldown = p.fail(&v, r.Cooldown, c.Result, now)
	case Denied, Unsent:
		next.Cooldown = p.fail(&v, r.Cooldown, c.Result, now)
	}
	return Step{Do: Swap, Next: next, after: v}
}

// withToken is r with the token of c in place of its own.
func (p *Process) withToken(r Record, c *claim) Record {
	if !r.Rejected && r.Owed == 0 {
		r.Early = 0 // it lived its life
	}
	token := c.Token
	if token.Token != r.Token {
		before := r
		if before.Token == "" {
			before = p.view.copy
		}
		r.Past = before.pastAfter()
	} else if p.FullLife && r.IssuedAt < token.IssuedAt {
		known := r.ExpiresAt
		if known <= token.IssuedAt { // it may expire at any moment
			known = token.IssuedAt + p.overtime().Milliseconds()
		}
		token.ExpiresAt = min(token.ExpiresAt, known)
	}
	r.Seq++
	r.Token, r.IssuedAt, r.ExpiresAt = token.Token, token.IssuedAt, token.ExpiresAt
	r.Rejected, r.Doubted, r.Cooldown = false, false, nil
	return r
}

// lost ends a claim whose lease is no longer in the record. Where the store lost
// the lease and nobody fetches, the token is published, with a fetch owed. Where
// another process took over, it cannot be ordered against that one's fetch: so it
// is never written, and a fetch sent after both is owed. The one now under way,
// if there is one, does not count.
func (p *Process) lost(r Record, nonce string, now time.Time) Step {
	v := p.view
	c := v.claim
	v.claim = nil
	st := Step{Do: Swap, Next: r, after: v}
	owed := 0
	switch c.Outcome {
	case Issued:
		st.after.own = nil
		if c.isIn(r) {
			st.Do = drop // published; only the reply was lost
			return st
		}
		gone := r.Lease == "" && !Passed(now, c.ends) && (r.Epoch == "" || r.Token == c.base)
		lasts := r.usable(now) && r.ExpiresAt >= c.Token.ExpiresAt
		if gone || p.Repeatable && !lasts {
			st.Next = p.withToken(r, c)
			st.Next.Owed = max(r.Owed, p.owe(1))
			if r.Epoch == "" {
				st.Next.Epoch = nonce
			}
			return st
		}
		st.Event = LeaseLost
		if r.Epoch == "" { // the next fetch comes after this one; the copy is older than the token that is dropped
			st.after.copy = v.copy.debt()
		} else {
			owed = p.owe(1)
		}
	case Unknown:
		owed = p.owe(2)
		p.fail(&st.after, nil, c.Result, now)
	case Denied, Unsent:
		p.fail(&st.after, nil, c.Result, now)
	}
	if owed == 0 {
		st.Do = drop
		return st
	}
	if r.Lease != "" && !p.owns(r.Lease) {
		owed++
	}
	if r.Epoch == "" {
		st.Next.Epoch = nonce // the store lost the record, and what it knew of the request
	}
	st.Next.Owed = max(r.Owed, owed)
	st.Next.Seq++
	return st
}
