package protocol

import (
	"slices"
	"time"
)

// A Verdict is what came of a reported rejection.
type Verdict struct {
	Believed bool          // the token is out of use; else, if Young is 0, it is handed out as a last resort, and the platform is asked again after Until
	Age      time.Duration // of the token when it was reported
	Young    time.Duration // if not Believed: the age from which a rejection is believed
	Until    time.Time     // if not Believed and Young is over 0: when it is worth reporting again
	Early    int           // tokens in a row that were rejected before their time
}

// Reject notes that an API rejected token, which is not empty. It returns false if a
// flight has to decide on that; the Verdict is then for the case that none can. Until
// then the token is withheld: at most for the watch age, and once until the cache
// answers again, since the platform now and then rejects a good one.
func (p *Process) Reject(token string, now time.Time) (Verdict, bool) {
	held, usable := p.view.held(now)
	unpublished := p.view.unpublished() && p.view.claim.Token.Token == token // it may be in the record soon
	switch {
	case held.Token != token && usable && !unpublished:
		p.rejectCopy(token) // it must not come back when the held one is dropped
		if p.Knows(token) || p.old.holds(token, now) {
			return Verdict{Believed: true}, true
		}
		p.report(token) // it may be newer than the copy
		return Verdict{Believed: true}, false
	case held.Token == token && held.Rejected:
		return Verdict{Believed: !usable, Until: p.view.resort.until}, true
	case held.Token == token && p.ignored.holds(token, now):
		verdict := p.verdictOn(p.view.copy, now)
		verdict.Believed, verdict.Until = false, p.ignored.until
		return verdict, true
	case held.Token == token && p.withheld.token == "":
		p.withheld = memo{token, now.Add(p.Watch())}
	}
	p.report(token)
	return Verdict{}, false
}

// report lets the next flight, or the one under way, decide on token.
func (p *Process) report(token string) {
	if !slices.Contains(p.pending, token) {
		p.pending = append(p.pending, token)
	}
}

// rejectCopy takes token out of use in this process, where it is the copy.
func (p *Process) rejectCopy(token string) {
	views := []*View{&p.view}
	if p.run != nil && p.run.swap != nil {
		views = append(views, &p.run.swap.after)
	}
	for _, v := range views {
		if v.copy.Token == token {
			v.copy.Rejected, v.copy.Doubted = true, v.copy.Doubted || v.copy.Owed > 0
		}
	}
}

// conclude ends the first pending report.
func (p *Process) conclude(verdict Verdict) {
	token := p.pending[0]
	p.pending = p.pending[1:]
	if p.run.verdicts == nil {
		p.run.verdicts = map[string]Verdict{}
	}
	p.run.verdicts[token] = verdict
	if verdict.Young > 0 {
		p.ignored = memo{token, verdict.Until}
	}
	if p.withheld.token == token {
		p.withheld.until = time.Time{} // but not again, until the cache works
	}
}

// verdictOn decides whether r's token is old enough for a rejection to be believed.
// That age doubles with each token in a row that was rejected: the platform now and
// then rejects a good token, and another system that fetches must not make this one
// spend the quota.
func (p *Process) verdictOn(r Record, now time.Time) Verdict {
	age, young := now.Sub(r.issued()), p.Patience() // a process that has just started has nothing else to go by
	switch {
	case !r.fromFuture(now):
	case r.seenBy(now):
		age = now.Sub(r.seen())
	case r.Early == 0:
		age = young // no process may live to see the token get old
	default:
		age = 0 // centuries ahead, the difference would overflow
	}
	if r.Early > 0 {
		age -= clockError
		young = inARow(p.Fetch, r.Early)
	}
	if p.view.copy.Token == r.Token {
		age = max(age, now.Sub(p.view.copySeen))
	}
	verdict := Verdict{Age: max(age, 0), Early: r.Early}
	rest := p.rejects.rest(p.Fetch, now)
	if age >= young && rest == 0 {
		verdict.Believed = true
		return verdict
	}
	verdict.Young = max(young, age+rest)
	verdict.Until = now.Add(min(verdict.Young-age, p.Watch()))
	if rest > 0 {
		verdict.Early = max(r.Early, int(p.rejects.row))
	}
	return verdict
}

// verdictOnCopy decides by the copy, where the record does not have it, and takes it out
// of use if the rejection is believed.
func (p *Process) verdictOnCopy(now time.Time) Verdict {
	c := &p.view.copy
	verdict := p.verdictOn(*c, now)
	if verdict.Believed {
		p.rejectCopy(c.Token)
		c.Early++
		verdict.Early = c.Early
	}
	return verdict
}

// inARow is how old a token must be before the rejection of one more in a row is
// believed. It grows to 5 minutes at least, however short the fetch timeout is: else one
// process that reports valid tokens could spend the quota.
func inARow(fetch time.Duration, n int) time.Duration {
	return min(fetch<<min(n, 16), max(30*fetch, 5*time.Minute))
}

// rejects are the rejections of one process that were believed. It spaces them by its
// own clock, whatever the record says: by a clock that is wrong every token can be
// old, and one process must not spend the quota of all.
type rejects struct {
	at     time.Time // of the last
	row    int32     // how many came within an hour of the one before
	issues int32     // tokens first seen since the last: where clocks differ, one rejection can lead to two fetches
}

func (r *rejects) count(now time.Time) {
	if now.Sub(r.at) > time.Hour {
		r.row = 0
	}
	r.row, r.at, r.issues = r.row+1, now, 0
}

// rest is how long the next rejection is not believed; the zero at is long ago.
func (r *rejects) rest(fetch time.Duration, now time.Time) time.Duration {
	space := inARow(fetch, int(r.row))
	space = max(space, min(space*time.Duration(r.issues), time.Hour))
	return max(space-now.Sub(r.at), 0)
}

// decideRejections decides on the pending reports by the record r, and returns false
// when none needs a step.
func (p *Process) decideRejections(r Record, now time.Time) (Step, bool) {
	for len(p.pending) > 0 {
		token, c := p.pending[0], &p.view.copy
		switch {
		case token == c.Token && r.Token == "" && !c.Rejected && p.relate(r, now) == behind: // the store lost it
			verdict := p.verdictOnCopy(now)
			if verdict.Believed {
				p.rejects.count(now)
			}
			p.conclude(verdict)
			continue
		case token != r.Token || r.Rejected:
			p.rejectCopy(token) // else the store has not got it
			if token != r.Token && !p.Knows(token) {
				p.old = memo{token, now.Add(p.Watch())}
			}
			p.conclude(Verdict{Believed: true})
			continue
		}
		verdict := p.verdictOn(r, now)
		if verdict.Believed {
			r.Rejected, r.Doubted = true, r.Owed > 0 // not in Seq: no request is in doubt, and what is owed need not be watched from the start again
			r.Early++
			return Step{Do: Swap, Next: r, after: p.view, Event: Reject, Age: verdict.Age}, true
		}
		if r.fromFuture(now) && !r.seenBy(now) {
			return p.see(r, now), true
		}
		p.conclude(verdict)
	}
	return Step{}, false
}
