package protocol

import (
	"slices"
	"time"
)

// A Process is one Source's part in the protocol. It is asked for the next step
// of a flight, and told what came of it:
//
//	p.Begin(false, now)
//	for {
//		switch st := p.Next(nonce, now); st.Do {
//		case Read:   // read the record after st.Pause; then DidRead or CacheFailed
//		case Swap:   // put st.Next in place of what was read; then DidSwap or CacheFailed
//		case Fetch:  // fetch after st.Pause, by st.Until; then DidFetch
//		case Secret: // look whether the secret has changed; then set Fingerprint
//		case Return, Fail: // the flight is over
//		}
//	}
//
// It is not safe for concurrent use.
type Process struct {
	Rules
	Unwanted   bool // no caller waits for the flight under way
	declined   bool // it has left a fetch that no caller waited for; callers who come back want one
	swapFailed bool // the last swap has no outcome

	id    string    // of its leases; "" until the first
	began time.Time // when its first flight began
	view  View
	run   *run // the flight under way; nil: none

	// Rejections: see reject.go.
	pending  []string // reported tokens to decide on
	withheld memo     // the reported token that is not handed out
	ignored  memo     // the token whose rejection was not believed
	old      memo     // a reported token that neither the record nor this process knows
	rejects  rejects  // of its own that were believed

	secretAsked time.Time // when it last looked whether the secret has changed
}

// A run is what a Process knows during one flight.
type run struct {
	verdictsOnly bool   // it ends once no report is pending
	record       Record // what the cache holds; zero: nothing
	known        bool   // record is what this process last read or stored
	swap         *Step  // under way; nil: none
	verdicts     map[string]Verdict

	readPause  time.Duration // before the next read
	fetchPause time.Duration // before the next fetch: there is one if the last token had expired when it came
	last       time.Time     // of the last step
	spent      time.Duration // since Begin; a pause of the process counts as no more than one fetch

	failures   int  // of the cache, since it last stored or another's fetch was waited for
	offline    bool // the flight goes on without the cache
	leaveAlone bool // and without a fetch: the record must not be touched
	tried      bool // it has fetched without the cache
	asked      bool // for the secret
	wroteBack  bool // it has written the copy to a record without a token
}

// A Step is what to do next.
type Step struct {
	Do      Action
	Pause   time.Duration // for Read and Fetch: to wait first
	Next    Record        // for Swap: what to put in the record's place
	TTL     time.Duration // for Swap: for how long the store has to keep it
	Event   string        // for Swap: what to report once it is stored; mostly none
	Age     time.Duration // for Swap with the event Reject: of the token
	Until   time.Time     // for Fetch: when it must have ended; for Fail: when the platform may be asked again
	Cause   Result        // for Fail: why the platform must not be asked; zero: the cache is at fault
	Spent   bool          // for Fail: the flight has taken too long
	Dropped bool          // before this step, the process dropped a token that it had fetched

	after  View // for Swap: what this process knows then
	take   bool // for Swap: after holds even if it is not known to be stored
	back   bool // for Swap: it writes the copy to a record without a token
	secret bool // for Fail: it is about the secret
}

// An Action is one that a Step asks for.
type Action int

const (
	Return Action = iota // the flight is over: hand out the held token, or nothing if it was only about rejections
	Read
	Swap
	Fetch
	Secret
	Fail // the flight is over: there is no new token, for now
	drop // only what this process knows changes; Next never returns it
)

// Begin starts a flight: only to decide on rejections, if verdictsOnly is true.
func (p *Process) Begin(verdictsOnly bool, now time.Time) {
	if p.began.IsZero() {
		p.began = now
	}
	p.run = &run{verdictsOnly: verdictsOnly, last: now}
}

// Seek turns a flight that was only to decide on rejections into one for a token.
func (p *Process) Seek() { p.run.verdictsOnly = false }

// Seeks reports whether the flight is for a token.
func (p *Process) Seeks() bool { return !p.run.verdictsOnly }

// End ends the flight, and returns what it decided on reported tokens. A report on
// the copy that it did not come to is left to the next flight.
func (p *Process) End() map[string]Verdict {
	verdicts := p.run.verdicts
	if !p.run.offline && !p.swapFailed {
		p.withheld = memo{} // the cache works: another report is decided on
	}
	left := p.pending
	p.run, p.pending = nil, nil
	if token := p.view.copy.Token; slices.Contains(left, token) {
		p.pending = []string{token}
	}
	return verdicts
}

// Next returns the next step of the flight. nonce is a fresh random string.
func (p *Process) Next(nonce string, now time.Time) Step {
	run := p.run
	run.spent += min(now.Sub(run.last), p.Fetch)
	run.last = now
	switch {
	case run.offline:
		return p.nextOffline(now)
	case run.spent >= p.Flight():
		run.offline, run.leaveAlone = true, true
		p.keep()
		return Step{Do: Fail, Spent: true}
	}
	dropped := false
	for run.known {
		st := p.step(run.record, nonce, now)
		st.Dropped = dropped
		switch st.Do {
		case drop: // which ends the claim: there is one at most
			p.view, dropped = st.after, st.Event == LeaseLost
			continue
		case Read:
			run.known, run.failures = false, 0
			run.readPause = st.Pause
			return st
		case Swap:
			st.Next.limit()
			st.TTL = p.ttl(st.Next, now)
			if st.take {
				p.view = st.after // the lease may be there although the swap does not say so
			}
			swap := st // the other steps need not be on the heap
			run.swap = &swap
		}
		return st
	}
	st := Step{Do: Read, Pause: run.readPause}
	run.readPause = max(min(run.readPause*3/2, p.Patience()), 5*time.Millisecond)
	return st
}

// step decides by the record r.
func (p *Process) step(r Record, nonce string, now time.Time) Step {
	v, c := &p.view, p.view.claim
	r = p.recall(r, now)
	if c == nil && p.owns(r.Lease) { // of a swap that took effect late, or was undone: nobody fetches under it
		r = r.unleased()
	}
	mine := c != nil && c.lease == r.Lease
	switch {
	case mine && c.Outcome != Pending:
		return p.publish(r, now)
	case mine && Passed(now, p.fetchBy(c)):
		return p.giveBack(r)
	case v.unpublished() && r.Epoch == "":
		return p.lost(r, nonce, now) // before the copy, which is older, is written back
	}
	if !v.unpublished() && p.relate(r, now) != inferior { // else r is yet to get what was rejected
		if st, ok := p.decideRejections(r, now); ok {
			return st
		}
	}
	if st, ok := p.reconcile(r, nonce, now); ok {
		return st
	}
	switch {
	case mine:
		return p.fetch(now)
	case c != nil:
		return p.lost(r, nonce, now)
	case p.run.verdictsOnly:
		return Step{Do: Return}
	}
	return p.decide(r, nonce, now)
}

// recall is r with the failure that the store has lost together with the record. One of
// a vague member is left out, since healthy processes would wait for it, too.
func (p *Process) recall(r Record, now time.Time) Record {
	if c := p.view.cooldown; r.Epoch == "" && c != nil && c.recent(now) && !p.VagueMember {
		r.Cooldown = c
	}
	return r
}

// decide is for a record that lacks nothing that this process knows, and in which it
// has no lease.
func (p *Process) decide(r Record, nonce string, now time.Time) Step {
	if !p.due(r, now) {
		return Step{Do: Return}
	}
	v := &p.view
	held, usable := p.Held(now)
	good := usable && !held.Rejected // not a last resort
	watched := now.Sub(v.leaseSeen)
	left := p.abandoned(r, now) - watched
	taken := r.Lease != "" && left > 0
	switch {
	case good && (taken || r.Token == "" && v.keepsNone()): // another will fetch, or the store would lose that token, too
		return Step{Do: Return}
	case taken && !r.Noted && watched >= p.Patience():
		// The store may keep the record for long, and this process may not live to see
		// the lease abandoned.
		r.Noted = true
		return Step{Do: Swap, Next: r, after: *v}
	case taken:
		return Step{Do: Read, Pause: min(pace(watched), left)}
	}
	if c := r.Cooldown; c != nil && !c.Lifted && c.Scope != "" && p.Fingerprint == "" && p.askSecret(now) {
		return Step{Do: Secret} // this process has not fetched yet, and must know whether that concerns it
	}
	st, cools := p.cooling(r, now)
	switch {
	case r.Epoch == "" && r.Cooldown != nil && (cools || p.tooYoung(r, now)): // those that are started after this one must know
		r.Epoch = nonce
		return Step{Do: Swap, Next: r, after: *v}
	case cools:
		if c := r.Cooldown; c != nil && p.young(now) && p.fromFuture(c, now) && !r.seenBy(now) {
			return p.see(r, now)
		}
		return p.withoutFetch(r, st, usable, now)
	case p.tooYoung(r, now):
		p.declined = p.declined || !r.usable(now)
		return Step{Do: Return}
	}
	return p.take(r, nonce, now)
}

// tooYoung reports whether this process is too young to fetch: it may not live to
// publish a token, and another will fetch, or this one once the token has expired.
func (p *Process) tooYoung(r Record, now time.Time) bool {
	return p.young(now) && !p.FullLife && (r.usable(now) || p.Unwanted && !p.declined)
}

// see writes down when this process saw r, whose token or cooldown is from the future:
// this process may not live to see that get old, and those after it count from then.
func (p *Process) see(r Record, now time.Time) Step {
	r.Seen = now.UnixMilli()
	return Step{Do: Swap, Next: r, after: p.view}
}

// pace is the pause between two reads of a process that has watched another's lease
// for so long. Most fetches take 40 ms: until then it is half of what is left of that.
// Later it is an eighth of the time since 30 ms, so that the end of a short fetch is
// seen soon and a long one costs few reads; but at most 20 ms or, as no fetch may be
// under way any more, a 750th of the time.
func pace(watched time.Duration) time.Duration {
	return max((40*time.Millisecond-watched)/2, min((watched-30*time.Millisecond)/8, max(20*time.Millisecond, watched/750)))
}

// fetch asks for a fetch under the lease that this process has.
func (p *Process) fetch(now time.Time) Step {
	run := p.run
	st := Step{Do: Fetch, Pause: run.fetchPause, Until: p.view.claim.ends}
	if p.Repeatable {
		st.Until = now.Add(run.fetchPause + p.Fetch)
	}
	run.fetchPause = min(max(2*run.fetchPause, p.Patience()/10), p.Patience())
	return st
}

// DidRead notes the record that was read; the zero Record if there is none, or a
// corrupt one. It returns Adopt if that brought another process's token.
func (p *Process) DidRead(r Record, readAt, now time.Time) (event string) {
	p.run.record, p.run.known = r, true
	return p.observe(r, false, readAt, now)
}

// DidSwap notes what came of the swap that began at sentAt. Unless it stored, its
// outcome is unknown, and the record must be read again. It returns the event of
// the step, if it stored.
func (p *Process) DidSwap(stored bool, sentAt, now time.Time) (event string) {
	run := p.run
	st := run.swap
	run.swap, p.swapFailed = nil, false
	if !stored {
		run.known = false
		return ""
	}
	run.failures = 0
	run.record, p.view = st.Next, st.after
	p.observe(st.Next, true, sentAt, now)
	if st.back {
		run.wroteBack = true
		p.view.unkept = min(p.view.unkept+1, maxCount)
		run.known = !p.view.keepsNone()
	}
	if st.Event == Reject {
		p.rejects.count(now)
		p.conclude(Verdict{Believed: true, Age: st.Age, Early: st.Next.Early})
	}
	return st.Event
}

// DidFetch notes what came of the fetch that Next asked for.
func (p *Process) DidFetch(result Result, now time.Time) {
	v := &p.view
	if p.run.offline {
		if result.Outcome != Issued {
			p.fail(v, nil, result, now)
			return
		}
		v.own = nil
		v.takeOffline(result.Token, now)
		return
	}
	c := *v.claim
	c.Result = result
	v.claim = &c
}

// CacheFailed notes that the cache failed. If leaveAlone is true, the cache holds
// a record that this process cannot read and must not touch. It reports whether
// the flight goes on without the cache.
func (p *Process) CacheFailed(leaveAlone bool) bool {
	run := p.run
	p.swapFailed = p.swapFailed || run.swap != nil
	run.swap, run.known = nil, false
	run.failures++
	run.offline = leaveAlone || run.failures >= 2
	run.leaveAlone = leaveAlone
	p.keep()
	return run.offline
}
