package protocol

import (
	"fmt"
	"time"
)

// A Cooldown in the record says that the platform is not to be asked before Until.
type Cooldown struct {
	Until   int64  `json:"until"`             // unix ms
	Code    int    `json:"code"`              // errcode; 0 if there was no answer to understand
	Message string `json:"message,omitempty"` // errmsg
	Scope   string `json:"scope,omitempty"`   // fingerprint of the one secret concerned; empty: all
	Step    int    `json:"step,omitempty"`    // failures in a row before this one
	By      string `json:"by,omitempty"`      // id of the process that failed, or whose lease was abandoned
	Member  string `json:"member,omitempty"`  // if that had lived for minutes at most: what it shares with those started after it
	Row     int    `json:"row,omitempty"`     // failures in a row of that member before this one
	Before  string `json:"before,omitempty"`  // the members that failed before it, latest first, at most three
	Lifted  bool   `json:"lifted,omitempty"`  // another member has fetched since: it is kept for its members alone; without any, nobody waits
}

// Retried is r after an operator has removed the cause of what failed: every process
// may ask the platform again, also those whose own fetch failed.
func (r Record) Retried(now time.Time) Record {
	r.Cooldown, r.Seen = &Cooldown{Until: now.UnixMilli(), Lifted: true}, 0
	return r
}

func (c *Cooldown) until() time.Time { return time.UnixMilli(c.Until) }

// recent reports whether another failure is one more in a row: after an hour without
// one it is the first again.
func (c *Cooldown) recent(now time.Time) bool { return now.Sub(c.until()) < time.Hour }

// unanswered is the message where there is no errmsg.
const unanswered = "no answer that could be understood"

// scope says who must wait after a fetch failed.
type scope int

const (
	suspect    scope = iota // all processes; but it may be this one's own fault, so that the others first wait a second
	sameSecret              // the same, but only processes with the same secret, as another may have the corrected one
	oneself                 // this process alone: its address, or its network
)

// A penalty is how long a failed fetch blocks the next one: first, then twice as
// long with each failure, up to last.
type penalty struct {
	scope       scope
	first, last time.Duration
}

// penaltyFor classifies a failed fetch, by the codes in the platform's
// documentation of cgi-bin/token and cgi-bin/stable_token.
func (ru Rules) penaltyFor(result Result) penalty {
	switch result.Outcome {
	case Unsent:
		return penalty{oneself, time.Second, 30 * time.Second}
	case Unknown:
		return penalty{suspect, time.Second, 10 * time.Minute}
	}
	switch result.Code {
	case 40001, 40125: // wrong secret
		if ru.Fingerprint == "" {
			return penalty{oneself, time.Minute, 10 * time.Minute}
		}
		return penalty{sameSecret, time.Minute, 10 * time.Minute}
	case 40164, 61004, 89501, 89503: // IP not in the whitelist, or not confirmed yet
		return penalty{oneself, time.Minute, 5 * time.Minute}
	case 89506, 89507: // IP denied for 24 h, for 1 h: asked in steps, as an administrator can relent
		return penalty{oneself, 10 * time.Minute, 10 * time.Minute}
	case 40002, 40013, 40243, 41002, 41004, 43002, 50004, 50007, 61024: // malformed request, bad AppID, frozen, forbidden
		return penalty{suspect, 10 * time.Minute, 10 * time.Minute}
	case 45009: // daily quota
		return penalty{suspect, 15 * time.Minute, 30 * time.Minute}
	case 45011: // quota of the minute
		return penalty{suspect, time.Minute, time.Minute}
	case -1, -1000: // busy
		return penalty{suspect, time.Second, 30 * time.Second}
	}
	return penalty{suspect, 5 * time.Second, 10 * time.Minute}
}

// delay is how long to wait after step failures before this one.
func (p penalty) delay(step int) time.Duration {
	return min(p.first<<min(step, 20), p.last)
}

// after is the step at which to start after a failure of another kind, which was
// waited for so long: the first that takes twice that, or a minute.
func (p penalty) after(wait time.Duration) (step int) {
	for step < 20 && p.delay(step) < min(2*wait, time.Minute, p.last) {
		step++
	}
	return step
}

// shared is p as the other processes have it: the failure may be the fault of one, such
// as that of a proxy in front of it. Their longest wait is a fifth shorter, so that one
// that has not failed goes first, however many have.
func (p penalty) shared() penalty { return penalty{p.scope, time.Second, p.last * 4 / 5} }

// A failure is this process's own last one.
type failure struct {
	err   error
	pen   penalty
	at    time.Time
	wait  time.Duration
	step  int    // failures in a row before this one
	scope string // fingerprint of the secret that it was about; empty: it was not
	tag   int64  // Until of the cooldown that was shared for it; 0: none
}

// fail notes a failed fetch: in v what this process waits itself. It returns the
// cooldown to share, following prev, or prev if the failure concerns this process
// alone. If that may be its own fault, it waits longer than the others, so that the
// next fetch is another's.
func (p *Process) fail(v *View, prev *Cooldown, result Result, now time.Time) *Cooldown {
	pen := p.penaltyFor(result)
	own := failure{err: result.Err, pen: pen, at: now}
	if last := v.own; last != nil && now.Sub(last.at) < last.wait+time.Hour {
		if own.step = last.step + 1; last.pen != pen {
			own.step = pen.after(last.wait)
		}
	}
	own.wait = pen.delay(own.step)
	v.own = &own
	if pen.scope == oneself {
		return prev
	}
	c, wait := p.share(pen, prev, result, now)
	own.scope, own.tag = c.Scope, c.Until
	own.wait = max(own.wait, min(wait+wait/4, pen.last))
	return c
}

// stepAfter is the step of c if another process met prev before: one more or, if that
// was of another kind, the first that makes the others wait twice as long, or for a
// minute.
func (p *Process) stepAfter(prev, c *Cooldown) int {
	pen := p.penaltyFor(c.cause())
	if p.penaltyFor(prev.cause()) == pen && prev.Scope == c.Scope {
		return oneMore(prev.Step)
	}
	return pen.shared().after(p.sharedWait(prev))
}

// share returns the cooldown that all processes share after a failure with the penalty
// pen, and for how long it lasts. What may be one process's own fault gets worse only
// if another one met it, too.
func (p *Process) share(pen penalty, prev *Cooldown, result Result, now time.Time) (*Cooldown, time.Duration) {
	c := Cooldown{Code: result.Code, Message: CleanMessage(result.Message), By: p.id}
	if result.Outcome != Denied {
		c.Code, c.Message = 0, unanswered
	}
	if pen.scope == sameSecret {
		c.Scope = p.Fingerprint
	}
	if p.brief(now) {
		c.Member = p.member()
	}
	if prev != nil {
		last := p.penaltyFor(prev.cause())
		// This one failed last, too. A lifted one may have its id although it has fetched since.
		again := prev.By == p.id && !prev.Lifted || c.Member != "" && c.Member == prev.Member
		switch {
		case !again || c.Member == "" || !prev.recent(now):
		case last != pen && prev.Row > 0:
			c.Row = 1 + pen.after(last.delay(prev.Row-1))
		default:
			c.Row = oneMore(prev.Row)
		}
		switch {
		case prev.Lifted:
		case !again:
			c.Step = p.stepAfter(prev, &c)
		case prev.Scope == c.Scope && last == pen:
			c.Step = prev.Step
		}
		if prev.recent(now) {
			c.Before = prev.before(c.Member)
		}
	}
	wait := pen.shared().delay(c.Step)
	c.Until = now.Add(wait).UnixMilli()
	return &c, wait
}

// sharedWait is for how long c was to block all processes, from the failure on.
func (ru Rules) sharedWait(c *Cooldown) time.Duration {
	return ru.penaltyFor(c.cause()).shared().delay(c.Step)
}

// cause is the failure that c is about, as far as the record tells it.
func (c *Cooldown) cause() Result {
	if c.Code == 0 {
		return Result{Outcome: Unknown}
	}
	return Result{Outcome: Denied, Code: c.Code, Message: c.Message}
}

// cooling returns the Fail that says why the platform must not be asked now, and false
// if it may be. Another machine's clock can make the wait shorter than it was meant to
// be, never longer. Near the expiry of a usable token nobody waits long.
func (p *Process) cooling(r Record, now time.Time) (Step, bool) {
	v, most := &p.view, 24*time.Hour
	if r.usable(now) && r.left(now) <= p.Ahead {
		most = p.Ahead / 4
	}
	if f := v.own; f != nil && (f.scope == "" || f.scope == p.Fingerprint) {
		if until := f.at.Add(min(f.wait, most)); !Passed(now, until) {
			return Step{Do: Fail, Until: until, Cause: Result{Err: f.err}, secret: f.scope != ""}, true
		}
	}
	c := r.Cooldown
	if c == nil || !p.concerns(c, now) {
		return Step{}, false
	}
	from, wait := v.cooledSeen, min(p.meant(c, now), most)
	switch failed := c.until().Add(-p.sharedWait(c)); {
	case !p.ours(c, now):
		wait = min(wait, c.until().Sub(from))
	case failed.Before(from):
		from = failed // by the clock of this machine
	}
	if v.own != nil { // a process whose own last fetch did not fail comes first
		wait = min(wait+wait/4, p.penaltyFor(c.cause()).last, most)
	}
	until := from.Add(wait)
	if seen := r.seen().Add(wait); r.seenBy(now) && p.fromFuture(c, now) && seen.Before(until) {
		until = seen
	}
	if Passed(now, until) {
		return Step{}, false
	}
	cause := c.cause()
	switch {
	case v.own != nil && v.own.tag == c.Until && v.own.err != nil:
		cause.Err = v.own.err // says more than the record does
	case cause.Outcome == Unknown:
		cause.Err = fmt.Errorf("wxtoken: the last fetch failed: %s; see the log of the process that made it", c.Message)
	}
	return Step{Do: Fail, Until: until, Cause: cause, secret: c.Scope != ""}, true
}

// concerns reports whether this process has to wait for c: unless that is about another
// process alone, another secret, or a member that is not this one.
func (p *Process) concerns(c *Cooldown, now time.Time) bool {
	scope := p.penaltyFor(c.cause()).scope
	theirs := scope == oneself || scope == sameSecret && c.Scope == ""
	return !theirs && (c.Scope == "" || c.Scope == p.Fingerprint) && (!c.Lifted || p.ours(c, now))
}

// fromFuture reports whether c ends later than it can by this process's clock: that or
// the clock of the process that failed is wrong, and its date says nothing.
func (p *Process) fromFuture(c *Cooldown, now time.Time) bool {
	return c.until().Sub(now) > p.sharedWait(c)+clockError
}

// withoutFetch is what to do while the platform must not be asked. If that takes long,
// a rejected token is handed out as the last resort, until another comes: the rejection
// may have been a mistake.
func (p *Process) withoutFetch(r Record, st Step, usable bool, now time.Time) Step {
	if st.secret && p.askSecret(now) {
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

// askSecret reports whether to look now whether the secret has changed: at most once
// in a flight, and in the watch age.
func (p *Process) askSecret(now time.Time) bool {
	if !p.Changeable || p.run.asked || now.Sub(p.secretAsked) < p.Watch() {
		return false
	}
	p.secretAsked, p.run.asked = now, true
	return true
}
