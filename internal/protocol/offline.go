package protocol

import "time"

// nextOffline goes on without the cache: with the token at hand, or with a fetch if
// that supersedes nothing.
func (p *Process) nextOffline(now time.Time) Step {
	run, v := p.run, &p.view
	if run.leaveAlone || !p.Repeatable {
		return Step{Do: Fail}
	}
	if v.unpublished() && v.claim.Token.usable(now) {
		v.takeOffline(v.claim.Token, now)
		v.claim = nil
	}
	for len(p.pending) > 0 {
		p.conclude(p.verdictOffline(p.pending[0], now))
	}
	held, usable := p.Held(now)
	switch {
	case run.verdictsOnly && !usable:
		return Step{Do: Return} // the next caller need not wait until the cache is tried again
	case run.verdictsOnly, !p.due(held, now):
		return Step{Do: Fail}
	}
	st, cools := p.cooling(Record{}, now)
	switch {
	case cools:
		return p.withoutFetch(Record{}, st, false, now)
	case run.tried:
		return Step{Do: Fail}
	}
	run.tried = true
	return Step{Do: Fetch, Until: now.Add(p.Fetch)}
}

// verdictOffline decides on a report by the copy. A rejection that is believed takes
// the copy out of use. If the token before it was rejected too, the reports may be
// wrong: the copy is handed out until the fetch has ended.
func (p *Process) verdictOffline(token string, now time.Time) Verdict {
	c := &p.view.copy
	if c.Token != token || c.Rejected {
		return Verdict{Believed: true}
	}
	verdict := p.verdictOnCopy(now)
	if verdict.Believed && c.Early > 1 {
		p.view.resort = memo{c.Token, now.Add(p.Fetch)}
		verdict.Believed, verdict.Until = false, p.view.resort.until
	}
	return verdict
}

// takeOffline makes token, fetched just now, the copy of a process without the cache.
func (v *View) takeOffline(token Record, now time.Time) {
	if v.copy.Rejected {
		token.Early = v.copy.Early // it goes on, as in a record
		if v.copy.Token != token.Token {
			token.Past = v.copy.pastAfter() // the copy must not come back
		}
	}
	v.copy, v.copyRead, v.copySeen, v.born, v.settled, v.resort = token, now, now, "", true, memo{}
}

// keep keeps an unpublished token usable beyond its lease: the cache is at fault.
func (p *Process) keep() {
	if p.view.unpublished() {
		c := *p.view.claim
		c.kept = true
		p.view.claim = &c
	}
}
