package wxtoken

import (
	"errors"
	"fmt"
	"time"

	"github.com/wxtoken/wxtoken/internal/endpoint"
)

// This file decides. It does no I/O and reads no clock: what to do next follows
// from the record, from what this process has observed, and from the time. The
// loop in flight.go does it. docs/protocol.md explains why it is right.

// rules are the durations of the protocol and the traits of the credential.
type rules struct {
	fetch       time.Duration // F: a fetch's deadline
	local       time.Duration // M: how long a copy is trusted
	ahead       time.Duration // how long before its end a token is replaced
	repeatable  bool          // a second fetch harms nobody
	fingerprint string        // of this process's secret, for the scope of cooldowns
}

func (ru rules) soft() time.Duration      { return ru.local * 2 / 3 }         // 30 s: copies older are read again
func (ru rules) watch() time.Duration     { return ru.local / 22 }            // 2 s: M while something is going on
func (ru rules) lease() time.Duration     { return ru.fetch * 3 / 2 }         // 15 s: a lease older is abandoned
func (ru rules) sendBy() time.Duration    { return ru.fetch / 2 }             // 5 s: the lease's age at which a fetch may still start
func (ru rules) verify() time.Duration    { return 2*ru.local + ru.fetch }    // 100 s: when an unknown request has landed
func (ru rules) ample() time.Duration     { return ru.verify() + 2*ru.fetch } // 120 s: what is left of a token that nobody need hurry to replace
func (ru rules) announce() time.Duration  { return ru.local + ru.watch() }    // 47 s: by then every process keeps close to the record
func (ru rules) patience() time.Duration  { return ru.fetch / 10 }            // 1 s: what a caller with an old copy waits for the cache
func (ru rules) cacheCall() time.Duration { return ru.fetch / 5 }             // 2 s: one call of the cache
func (ru rules) youngest() time.Duration  { return ru.fetch }                 // 10 s: no refusal of a younger token is believed

// A view is what one process knows: its own copy of the token, what it has
// watched in the record and since when, and the lease that it asked for. Times
// are this process's own, taken after the read that showed what they date.
type view struct {
	copy     record    // the newest record with a token that this process has read or published
	copyRead time.Time // before the last read that confirmed copy
	copySeen time.Time // when this issue of copy's token was first seen

	calm       bool // the last record read had a token and neither lease nor doubt
	lease      string
	leaseSeen  time.Time
	epoch      string
	seq        int64
	seqSeen    time.Time
	cooldown   cooldown
	cooledSeen time.Time

	claim claim

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
	settles int64     // a fetch under this lease pays all that is owed at this seq
	outcome fetchOutcome
	token   record // Token, IssuedAt and ExpiresAt of what was fetched
	err     error
	kept    bool // the cache failed when token was to be published
}

type fetchOutcome int

const (
	pending fetchOutcome = iota
	issued
	denied  // an errcode: no token was issued
	unsent  // nothing left the process
	unknown // the request may have been served, or may yet be
)

func outcomeOf(err error) fetchOutcome {
	var refusal *APIError
	var notSent *endpoint.Unsent
	switch {
	case err == nil:
		return issued
	case errors.As(err, &notSent):
		return unsent
	case errors.As(err, &refusal):
		return denied
	}
	return unknown
}

// observe notes a record whose read began at readAt and ended at now. It reports
// whether it brought another process's token.
func (v *view) observe(r record, readAt, now time.Time) bool {
	if r.Lease != v.lease {
		v.lease, v.leaseSeen = r.Lease, now
	}
	if r.Epoch != v.epoch || r.Seq != v.seq {
		v.epoch, v.seq, v.seqSeen = r.Epoch, r.Seq, now
	}
	if r.Cooldown != nil && *r.Cooldown != v.cooldown {
		v.cooldown, v.cooledSeen = *r.Cooldown, now
	}
	v.calm = r.Token != "" && r.Lease == "" && r.Owed == 0
	if r.Token == "" || v.newer(r, now) {
		return false // the copy outlives a store that lost the record
	}
	brought := r.Token != v.copy.Token || r.IssuedAt != v.copy.IssuedAt
	if brought {
		v.copySeen = now
	}
	v.copy, v.copyRead = r, readAt
	return brought && r.Token != v.claim.token.Token
}

// newer reports whether this process knows of a newer state than r: the store
// went back in time.
func (v view) newer(r record, now time.Time) bool {
	return r.Epoch == v.copy.Epoch && r.Seq < v.copy.Seq && !v.copy.expired(now)
}

// held is the token that this process can hand out, with or without a cache. One
// that is not published yet is given out under its lease, and after that only if
// the cache is to blame: a process that was paused must first see what happened.
func (v view) held(now time.Time) (record, bool) {
	if c := v.claim; c.outcome == issued && c.token.usable(now) && (c.kept || now.Before(c.ends)) {
		return c.token, true
	}
	return v.copy, v.copy.usable(now)
}

// fetchedAlone notes what came of a fetch without the cache.
func (v *view) fetchedAlone(r record, err error, now time.Time) {
	if v.failure = err; err != nil {
		v.ownUntil = now.Add(penaltyFor(err).delay(v.ownStep))
		v.ownStep++
		return
	}
	v.ownUntil, v.ownStep = time.Time{}, 0
	v.copy, v.copyRead, v.copySeen, v.calm = r, now, now, true
}

// ages says until when the held token is given out without a look at the cache,
// and until when without waiting for that look.
func (ru rules) ages(v view) (soft, hard time.Time) {
	if v.claim.nonce != "" && v.claim.nonce == v.lease && v.claim.outcome == pending {
		return v.claim.ends, v.claim.ends // nobody else can fetch
	}
	if v.calm {
		soft, hard = v.copyRead.Add(ru.soft()), v.copyRead.Add(ru.local)
		if refresh := ru.refreshAt(v.copy); v.copyRead.Before(refresh) && refresh.Before(soft) {
			soft = refresh
		}
		return soft, hard
	}
	return v.copyRead.Add(ru.watch() * 2 / 3), v.copyRead.Add(ru.watch())
}

// A step is what to do next.
type step struct {
	do    action
	next  record    // for swap: what to put in the record's place
	after view      // for swap: what this process knows when next is stored
	event EventKind // for swap: what to report then; mostly empty
	err   error     // for fail
}

type action int

const (
	use  action = iota // hand out the held token
	wait               // another process fetches: read again soon
	take               // ask for the lease: like swap, but after holds whatever comes of it
	swap               // change the record
	drop               // only what this process knows changes
	ask                // the lease is this process's: fetch
	fail               // there is no token to hand out, for now
)

// decide is the protocol. nonce is a fresh random string, for the lease if one
// is to be asked for.
func (ru rules) decide(r record, v view, nonce string, now time.Time) step {
	mine := v.claim.nonce != "" && r.Lease == v.claim.nonce
	_, usable := v.held(now)
	switch {
	case v.claim.outcome != pending && mine:
		return ru.publish(r, v, now)
	case v.claim.nonce != "" && !mine:
		return ru.lost(r, v)
	case mine && now.Sub(v.claim.asked) > ru.sendBy():
		r.Lease = ""
		v.claim = claim{}
		return step{do: swap, next: r, after: v}
	case mine:
		return step{do: ask}
	case v.newer(r, now):
		return ru.restore(r, v)
	case !ru.due(r, v, now):
		return step{do: use}
	}
	if err := ru.cooling(r, v, now); err != nil {
		if usable {
			return step{do: use}
		}
		return step{do: fail, err: err}
	}
	next := r
	event := EventKind("")
	if r.Lease != "" {
		if now.Sub(v.leaseSeen) < ru.abandoned(r, now) {
			if usable {
				return step{do: use}
			}
			return step{do: wait}
		}
		next.Owed, event = ru.owe(2), EventTakeover
		next.Seq++
	}
	if next.Epoch == "" {
		next.Epoch = nonce
	}
	next.Lease = nonce
	v.claim = claim{nonce: nonce, asked: now, ends: now.Add(ru.lease()), settles: -1}
	if r.Lease == "" && now.Sub(v.seqSeen) >= ru.verify() {
		v.claim.settles = r.Seq
	}
	return step{do: take, next: next, after: v, event: event}
}

// due reports whether r's token must be replaced.
func (ru rules) due(r record, v view, now time.Time) bool {
	switch {
	case !r.usable(now):
		return true
	case r.Owed > 0 && r.left(now) > ru.ample():
		return now.Sub(v.seqSeen) >= ru.verify()
	}
	return !now.Before(ru.refreshAt(r))
}

// refreshAt is when r's token is to be replaced, if nothing is the matter.
func (ru rules) refreshAt(r record) time.Time {
	life := time.Duration(r.ExpiresAt-r.IssuedAt) * time.Millisecond
	return time.UnixMilli(r.ExpiresAt).Add(-min(ru.ahead, life/4))
}

// abandoned is how long a process watches another's lease before it calls it
// so. Where nobody need hurry, every process is first given the time to
// come close to the record.
func (ru rules) abandoned(r record, now time.Time) time.Duration {
	if r.usable(now) && r.left(now) > ru.ample() {
		return ru.lease() + ru.announce()
	}
	return ru.lease()
}

// owe is n fetches owed, or none where fetches do not supersede one another.
func (ru rules) owe(n int) int {
	if ru.repeatable {
		return 0
	}
	return n
}

// publish ends this process's lease with what came of its fetch.
func (ru rules) publish(r record, v view, now time.Time) step {
	c := v.claim
	next := r
	next.Lease = ""
	v.claim = claim{}
	switch c.outcome {
	case issued:
		if !r.Rejected && r.Owed == 0 {
			next.Early = 0 // it lived its life
		}
		expires := c.token.ExpiresAt
		if c.token.Token == r.Token {
			expires = min(expires, r.ExpiresAt) // a repeat can not live longer than was said first
		}
		next.Seq++
		next.Token, next.IssuedAt, next.ExpiresAt = c.token.Token, c.token.IssuedAt, expires
		next.Rejected, next.Cooldown = false, nil
		next.Owed = max(r.Owed-1, 0)
		if c.settles == r.Seq {
			next.Owed = 0
		}
		v.failure, v.ownUntil, v.ownStep = nil, time.Time{}, 0
	case unknown:
		next.Owed = ru.owe(2)
		next.Seq++
		fallthrough
	case denied, unsent:
		p := penaltyFor(c.err)
		v.failure = c.err
		if p.scope != oneself {
			next.Cooldown = p.after(r.Cooldown, c.err, ru.fingerprint, now)
			v.failedTag = next.Cooldown.Until
		}
		if p.scope != everyone {
			v.ownUntil = now.Add(p.delay(v.ownStep))
			v.ownStep++
		}
	}
	return step{do: swap, next: next, after: v}
}

// lost ends a claim whose lease is no longer in the record: what it fetched can
// not be ordered against the fetch of whoever took over, so it is never written,
// and a fetch sent after both is owed. The one now under way, if there is one,
// does not count.
func (ru rules) lost(r record, v view) step {
	c := v.claim
	v.claim = claim{}
	owed := 0
	switch c.outcome {
	case issued:
		if r.Epoch != "" { // else whoever fetches next does so after this
			owed = ru.owe(1)
		}
	case unknown:
		owed = ru.owe(2)
	}
	if owed > 0 && r.Lease != "" {
		owed++
	}
	st := step{do: drop, after: v}
	if c.outcome == issued {
		if r.Token == c.token.Token {
			return st // published; only the reply was lost
		}
		st.event = EventLeaseLost
	}
	if owed > 0 {
		st.do, st.next = swap, r
		if r.Epoch == "" {
			st.next.Epoch = c.nonce // the store lost the record, and what it knew of the request
		}
		st.next.Owed = max(r.Owed, owed)
		st.next.Seq++
	}
	return st
}

// restore writes a newer token back into a store that went back in time.
func (ru rules) restore(r record, v view) step {
	next := v.copy
	next.Lease, next.Cooldown = r.Lease, r.Cooldown
	next.Owed = max(next.Owed, r.Owed, ru.owe(1))
	next.Seq++
	return step{do: swap, next: next, after: v, event: EventRestore}
}

// cooling says why the platform must not be asked now, or nil if it may be.
func (ru rules) cooling(r record, v view, now time.Time) error {
	if !passed(now, v.ownUntil) {
		return &CooldownError{v.ownUntil, v.failure}
	}
	c := r.Cooldown
	if c == nil || c.Scope != "" && c.Scope != ru.fingerprint {
		return nil
	}
	until := c.ends(v.cooledSeen)
	if passed(now, until) {
		return nil
	}
	if v.failure != nil && v.failedTag == c.Until {
		return &CooldownError{until, v.failure} // tells more than the record does
	}
	return &CooldownError{until, c.err()}
}

// errConflict is in the error of Invalidate, and in the Event, when tokens are
// refused more often than can be put right by fetching.
var errConflict = errors.New("wxtoken: tokens are refused again and again soon after their issue; another system probably fetches for the same app: let it use this cache or a token server, or change to NewStableFetcher")

// judge decides on an API's refusal of a token. believed: mark the record.
// Otherwise nothing is to be done, or err says why the refusal is not believed.
//
// The platform now and then refuses a good token, and a foreign system that
// fetches makes every token die early. So the age from which a refusal is
// believed doubles with each token in a row that was refused: at most some 300
// fetches a day come of it, of the platform's 2,000.
func (ru rules) judge(r record, v view, token string, now time.Time) (believed bool, err error) {
	if token == "" || r.Token != token || r.Rejected {
		return false, nil
	}
	age := now.Sub(v.copySeen)
	if r.Early == 0 {
		// One refusal may be believed on the word of the issuer's clock, so that
		// a process that has just started need not wait.
		age = max(age, now.Sub(time.UnixMilli(r.IssuedAt)))
	}
	if believe := ru.youngest() << min(r.Early, 5); age < believe {
		err := fmt.Errorf("wxtoken: an API refused the token, which is not believed before it is %s old", believe)
		if r.Early > 0 {
			err = fmt.Errorf("%w: %w", err, errConflict)
		}
		return false, err
	}
	return true, nil
}
