package protocol

import "time"

// A relation says how a record stands to this process's copy.
type relation int

const (
	follows  relation = iota // it is at least as new, or there is no copy to defend
	behind                   // the store went back, or lost the record: the copy is newer
	forgets                  // a rejection of its token or a doubt about it was lost
	diverges                 // the store had two masters: nobody knows which token is newer
	inferior                 // the copy was fetched without the cache, and is better
)

// relate compares r with the copy.
func (p *Process) relate(r Record, now time.Time) relation {
	c := p.view.copy
	switch {
	case c.Token == "" && c.Owed > 0:
		return r.relateToDebt(c)
	case r.missed(c):
		return diverges // what is owed outlives the copy
	case c.Token == "" || c.expired(now):
		return follows
	case r.Token == c.Token && (r.IssuedAt == c.IssuedAt || c.Epoch != "" || p.FullLife):
		if r.IssuedAt == c.IssuedAt && (c.Rejected && !r.Rejected || c.Owed > r.Owed) {
			return forgets
		}
		return follows
	case c.Epoch == "":
		return r.relateToUnpublished(c, now)
	case r.Token == "":
		if r.Epoch == "" && p.Repeatable && now.Sub(p.view.copySeen) >= p.respite()<<min(p.view.losses, 6) {
			return follows // fetching at once does no harm, and is what deleting a record is for
		}
		return behind
	}
	ahead := r.follows(c.Token)
	switch {
	case c.follows(r.Token):
		if ahead && (r.Epoch != c.Epoch || r.Seq >= c.Seq) {
			return follows // the platform came back to a token that it issued before
		}
		return behind
	case ahead || r.Epoch != c.Epoch:
		return follows
	case r.Past == "" && r.Seq < c.Seq, !r.usable(now) && c.usable(now):
		return behind
	case p.Repeatable || r.Seq-c.Seq > r.pastCount():
		return follows // too much happened meanwhile to tell
	}
	return diverges
}

// relateToDebt is relate for a copy without a token, which says only that fetches are
// owed: nobody knows what came of the first request.
func (r Record) relateToDebt(c Record) relation {
	switch {
	case r.Token == "" && (r.Epoch == "" || r.Epoch == c.Epoch && r.Seq < c.Seq):
		return behind
	case r.Owed < c.Owed && (r.Epoch != c.Epoch || r.Seq-c.Seq < int64(c.Owed-r.Owed)):
		return diverges
	}
	return follows
}

// relateToUnpublished is relate for a copy that was fetched without the cache.
func (r Record) relateToUnpublished(c Record, now time.Time) relation {
	rejected := c.follows(r.Token) // in this process: see takeOffline
	switch {
	case !c.Rejected && (rejected || !r.usable(now) || r.ExpiresAt < c.ExpiresAt):
		return inferior
	case c.Rejected && rejected && !r.Rejected:
		return forgets
	}
	return follows
}

// missed reports whether r has a later token than c, and the store has lost that
// fetches were owed: with the record, or because it went back behind that.
func (r Record) missed(c Record) bool {
	switch {
	case r.Token == "" || r.Token == c.Token || c.follows(r.Token):
		return false
	case r.Epoch != c.Epoch:
		return r.Owed < c.Owed-r.fetchesAfter(c.Token)
	}
	return r.Owed < c.Owed && r.follows(c.Token) && r.Seq <= c.Seq // each later token adds one to Seq
}

// reconcile returns the record to write where r lacks what this process knows, and
// false where it lacks nothing.
func (p *Process) reconcile(r Record, nonce string, now time.Time) (Step, bool) {
	c := p.view.copy
	st := Step{Do: Swap, Next: r, after: p.view}
	next := &st.Next
	switch p.relate(r, now) {
	case follows:
		return Step{}, false
	case forgets:
		next.Rejected, next.Doubted = r.Rejected || c.Rejected, r.Doubted || c.Doubted
	case diverges:
		st.after.copySeen, st.after.born = now, r.Epoch
	case behind, inferior:
		if r.Token == "" && p.view.keepsNone() && (p.run.record.Lease != "" || p.run.wroteBack) {
			return Step{}, false // the store would lose the copy again, and the lease with it
		}
		*next = c.inPlaceOf(r)
		st.back = r.Token == ""
		switch {
		case c.Epoch == "", c.Token == "":
		case r.Epoch == "":
			st.Event = Lost
		default:
			st.Event = Restore
		}
		if r.Epoch == "" {
			next.Epoch = nonce
		}
	}
	owed := 1
	switch claim := p.view.claim; {
	case p.others(r.Lease):
		owed = 2 // another's fetch that is under way does not count
	case claim == nil || claim.lease != r.Lease: // nobody fetches under it any more
		*next = next.unleased()
	}
	next.Owed = max(r.Owed, c.Owed, p.owe(owed))
	next.Early = max(r.Early, c.Early)
	next.Seq = max(r.Seq, c.Seq) + 1
	st.after.copy = *next
	return st, true
}

// inPlaceOf is c with what r says of the fetches of all.
func (c Record) inPlaceOf(r Record) Record {
	switch {
	case c.Epoch != "":
	case c.Token == r.Token:
		c.Past = r.Past
	default: // never published: it comes after r's
		c.Past = r.pastAfter()
	}
	c.Epoch, c.Cooldown, c.Seen = r.Epoch, r.Cooldown, r.Seen
	c.Lease, c.LeaseFor, c.Noted = r.Lease, r.LeaseFor, r.Noted
	return c
}
