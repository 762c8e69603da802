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

// Reject notes that an API rejected token, which is not empty. It returns false if
// a flight has to decide on that; the Verdict is then for the case that none can.
// Meanwhile the token is withheld; at most for the watch age, since the platform now
// and then rejects a good one and the cache may be down, and only once until the
// cache answers again.
func (p *Process) Reject(token string, now time.Time) (Verdict, bool) {
	held, usable := p.view.held(now)
	switch {
	case held.Token != token && usable && !(p.view.unpublished() && p.view.claim.Token.Token == token):
		p.rejectCopy(token) // it must not come back when the held one is dropped
		if p.Knows(token) || p.old.holds(token, now) {
			return Verdict{Believed: true}, true
		}
		p.report(token) // it may be newer than the copy
		return Verdict{Believed: true}, false
	case held.Token == token && held.Rejected:
		return Verdict{Believed: !usable, Until: p.view.resort.until}, true
	case held.Token == token && p.ignored.holds(token, now):
		verdict, _ := p.judge(p.view.copy, token, now)
		verdict.Believed, verdict.Until = false, p.ignored.until
		return verdict, true
	}
	if held.Token == token && p.withheld.token == "" {
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

// judge decides on a rejection of r's token: is it old enough to be believed?
//
// The platform now and then rejects a good token, and a foreign system that
// fetches makes every token die early. So the age from which a rejection is
// believed doubles with each token in a row that was rejected: at most some 300
// fetches a day come of it, of the platform's 2,000. A process that has just
// started counts from when the token was issued, by the issuer's clock, and
// allows that to be wrong by two minutes where it matters.
func (p *Process) judge(r Record, token string, now time.Time) (verdict Verdict, believed bool) {
	young := p.Patience()
	age := now.Sub(time.UnixMilli(r.IssuedAt))
	switch {
	case r.Early > 0:
		young = p.Fetch << min(r.Early, 5)
		age -= p.clockError()
	case -age > p.clockError():
		age = young // the issuer's clock was ahead, and no process may live to see the token get old
	}
	if p.view.copy.Token == r.Token {
		age = max(age, now.Sub(p.view.copySeen))
	}
	verdict = Verdict{Age: max(age, 0), Early: r.Early}
	if rest := p.rejects.rest(p.Fetch, now); age < young || rest > 0 {
		verdict.Young = max(young, age+rest)
		verdict.Until = now.Add(min(verdict.Young-age, p.Watch()))
		if rest > 0 {
			verdict.Early = max(r.Early, p.rejects.row)
		}
		return verdict, false
	}
	verdict.Believed = true
	return verdict, true
}

// rejects are the rejections of one process that were believed. The next has to
// wait for as long after the last as its token would have to be old, whatever the
// record says: by clocks that are wrong every token can be old, or have lived its
// life, and what one process reports must not spend the quota of all.
type rejects struct {
	at     time.Time // of the last
	row    int       // how many came within an hour of the one before
	issues int       // tokens first seen since the last: where clocks differ, one rejection can lead to two fetches
}

func (r *rejects) count(now time.Time) {
	if now.Sub(r.at) > time.Hour {
		r.row = 0
	}
	r.row, r.at, r.issues = r.row+1, now, 0
}

func (r *rejects) rest(fetch time.Duration, now time.Time) time.Duration {
	if r.row == 0 {
		return 0
	}
	space := fetch << min(r.row, 5) * time.Duration(max(r.issues, 1))
	return max(min(space, max(time.Hour, fetch<<5))-now.Sub(r.at), 0)
}

// decideRejections decides on the pending reports by the record r, and returns
// false when none needs a step.
func (p *Process) decideRejections(r Record, now time.Time) (Step, bool) {
	for len(p.pending) > 0 {
		token := p.pending[0]
		if c := p.view.copy; token == c.Token && r.Token == "" && !c.Rejected && p.relate(r, now) == behind {
			verdict, believed := p.judge(c, token, now) // the store lost it
			if believed {
				p.rejectCopy(token)
				p.view.copy.Early++
				verdict.Early = p.view.copy.Early
				p.rejects.count(now)
			}
			p.conclude(verdict)
			continue
		}
		if token != r.Token || r.Rejected {
			p.rejectCopy(token) // else the store has not got it
			if token != r.Token && !p.Knows(token) {
				p.old = memo{token, now.Add(p.Watch())}
			}
			p.conclude(Verdict{Believed: true})
			continue
		}
		verdict, believed := p.judge(r, token, now)
		if !believed {
			p.conclude(verdict)
			continue
		}
		r.Rejected, r.Doubted = true, r.Owed > 0 // not in Seq: no request is in doubt, and what is owed need not be watched anew
		r.Early++
		return Step{Do: Swap, Next: r, after: p.view, Event: Reject, Age: verdict.Age}, true
	}
	return Step{}, false
}
