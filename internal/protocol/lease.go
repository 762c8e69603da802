package protocol

import (
	"strings"
	"time"
)

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

// owns reports whether lease is one of this process's.
func (p *Process) owns(lease string) bool {
	return p.id != "" && strings.HasPrefix(lease, p.id+".")
}

// others reports whether lease is another process's, which may fetch under it.
func (p *Process) others(lease string) bool { return lease != "" && !p.owns(lease) }

// leaseOf is how long r's lease lasts.
func (ru Rules) leaseOf(r Record) time.Duration {
	if r.LeaseFor > 0 {
		return min(time.Duration(r.LeaseFor)*time.Millisecond, maxLease)
	}
	return min(ru.Fetch*3/2, 45*time.Second) // version 0.1
}

// abandoned is how long a process watches another's lease before it treats it as
// abandoned. If the token is not close to expiry, every process is first given the
// time to see the lease, and to read the record often.
func (ru Rules) abandoned(r Record, now time.Time) time.Duration {
	if r.usable(now) && r.left(now) > ru.ample() {
		return ru.leaseOf(r) + ru.announce()
	}
	return ru.leaseOf(r)
}

// fetchBy is the last moment to send a fetch under c, so that it ends within the
// lease. Where a second fetch does no harm there is none.
func (p *Process) fetchBy(c *claim) time.Time {
	if p.Repeatable {
		return c.asked.Add(p.Fetch)
	}
	return c.asked.Add(min(p.Fetch/2, c.ends.Sub(c.asked)/3))
}

// owe is n fetches owed, or none where fetches do not supersede one another.
func (ru Rules) owe(n int) int {
	if ru.Repeatable {
		return 0
	}
	return n
}

// ttl is how long the store has to keep r: an hour longer than all that r says holds.
// A lease without a usable token is kept little longer than it lasts: the lease of a
// process that died then expires even if nobody lives to watch it.
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

// take asks for the lease, and takes an abandoned one over: the fetch under that may
// have been served, or may yet be.
func (p *Process) take(r Record, nonce string, now time.Time) Step {
	if p.id == "" {
		p.id = nonce
	}
	length := p.nextLease(r)
	c := &claim{lease: p.leaseName(nonce, now), asked: now, ends: now.Add(length), base: r.Token, settles: -1}
	st := Step{Do: Swap, Next: r, after: p.view, take: true}
	st.after.claim = c
	next := &st.Next
	next.Lease, next.LeaseFor, next.Noted = c.lease, length.Milliseconds(), !r.usable(now)
	switch {
	case r.Lease != "":
		st.Event = Takeover
		next.Owed = max(r.Owed, p.owe(2))
		next.Seq++
		if failed := p.orphaned(r.Lease, r.Cooldown, now); failed != nil {
			next.Cooldown, next.Seen = failed, 0
		}
	case now.Sub(p.view.seqSeen) >= p.verify():
		c.settles = r.Seq
	}
	if r.Epoch == "" {
		next.Epoch = nonce
		if p.Repeatable && p.view.copy.Token != "" { // the first record of all was not lost
			st.after.losses++
		}
	}
	return st
}

// nextLease is how long the next lease lasts. Each one that ends without a token makes
// the next longer, so that a store which cannot keep a token costs few fetches.
func (p *Process) nextLease(r Record) time.Duration {
	length := p.lease()
	switch {
	case p.view.keepsNone():
		return maxLease
	case p.Repeatable && (r.Cooldown == nil || r.Cooldown.Lifted):
		length = min(p.Patience(), length)
	}
	return max(length, min(p.view.longer, maxLease))
}

// leaseName is the name of a new lease. If the process can be one that dies in each
// fetch, it says whose failure that would be: see orphaned.
func (p *Process) leaseName(nonce string, now time.Time) string {
	name := p.id + "." + nonce
	if p.brief(now) && p.Member != nil && !p.VagueMember && !p.Repeatable {
		name += "." + p.member()
	}
	return name
}

// giveBack frees this process's lease, under which it is too late to fetch.
func (p *Process) giveBack(r Record) Step {
	st := Step{Do: Swap, Next: r.unleased(), after: p.view}
	st.after.claim = nil
	return st
}

// publish ends this process's lease with what came of its fetch.
func (p *Process) publish(r Record, now time.Time) Step {
	v := p.view
	c := v.claim
	v.claim = nil
	next := r.unleased()
	switch c.Outcome {
	case Issued:
		v.own = nil
		if r.sameIssue(c.Token) {
			break // the store lost it, and another process wrote it back
		}
		next = p.withToken(next, c, now)
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
	if next.Cooldown != r.Cooldown {
		next.Seen = 0
	}
	return Step{Do: Swap, Next: next, after: v}
}

// withToken is r with the token of c in place of its own.
func (p *Process) withToken(r Record, c *claim, now time.Time) Record {
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
	} else if p.FullLife && r.IssuedAt < token.IssuedAt { // it was repeated: what is known of its expiry counts
		known := r.ExpiresAt
		if known <= token.IssuedAt { // it may expire at any moment
			known = token.IssuedAt + overtime.Milliseconds()
		}
		token.ExpiresAt = min(token.ExpiresAt, known)
	}
	r.Seq++
	r.Token, r.IssuedAt, r.ExpiresAt = token.Token, token.IssuedAt, token.ExpiresAt
	r.Rejected, r.Doubted, r.Cooldown, r.Seen = false, false, p.lifted(r.Cooldown, now), 0
	return r
}

// lost ends a claim whose lease is no longer in the record. If another process took
// over, nobody knows which of the two tokens is newer: this one is never written, and
// a fetch sent after both is owed.
func (p *Process) lost(r Record, nonce string, now time.Time) Step {
	c := p.view.claim
	st := Step{Do: Swap, Next: r, after: p.view}
	st.after.claim = nil
	if r.Epoch == "" {
		st.Next.Epoch = nonce // the store lost the record, and what it knew of the request
	}
	owed := 0
	switch c.Outcome {
	case Issued:
		st.after.own = nil
		switch {
		case r.sameIssue(c.Token): // published; only the reply was lost
		case p.publishable(c, r, now):
			st.Next = p.withToken(st.Next, c, now)
			st.Next.Owed = max(r.Owed, p.owe(1))
			return st
		case r.Epoch == "": // the next fetch comes after this one; the copy is older than the token that is dropped
			st.Event = LeaseLost
			st.after.copy = st.after.copy.debt()
		default:
			st.Event = LeaseLost
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
	if p.others(r.Lease) {
		owed++ // the fetch now under way does not count
	}
	st.Next.Owed = max(r.Owed, owed)
	st.Next.Seq++
	return st
}

// publishable reports whether the token of c can be written although its lease is
// lost: if the store lost that, in time, and nobody has fetched; and if fetches do not
// supersede one another, wherever r has no token that lasts as long.
func (p *Process) publishable(c *claim, r Record, now time.Time) bool {
	gone := r.Lease == "" && !Passed(now, c.ends) && (r.Epoch == "" || r.Token == c.base)
	lasts := r.usable(now) && r.ExpiresAt >= c.Token.ExpiresAt
	return gone || p.Repeatable && !lasts
}
