package protocol

import (
	"fmt"
	"slices"
	"strings"
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
	Member  string `json:"member,omitempty"`  // if that had lived for minutes at most: what it shares with those started after it; after a space, the members that failed before it
	Row     int    `json:"row,omitempty"`     // failures in a row of that member before this one
	Lifted  bool   `json:"lifted,omitempty"`  // another member has fetched since: it is kept for its members alone; without any, nobody waits
}

func (c *Cooldown) members() []string { return strings.Fields(c.Member) }

// latest is the member that failed last.
func (c *Cooldown) latest() string {
	first, _, _ := strings.Cut(c.Member, " ")
	return first
}

func (c *Cooldown) membersBut(member string) []string {
	return slices.DeleteFunc(c.members(), func(m string) bool { return m == member })
}

// membersAfter is Member once member has failed.
func (c *Cooldown) membersAfter(member string) string {
	all := append([]string{member}, c.membersBut(member)...)
	return strings.Join(all[:min(len(all), maxMembers)], " ")
}

// Retried is r after an operator has removed the cause of what failed: every process
// may ask the platform again, also those whose own fetch failed.
func (r Record) Retried(now time.Time) Record {
	r.Cooldown, r.Seen = &Cooldown{Until: now.UnixMilli(), Lifted: true}, 0
	return r
}

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
// as that of a proxy in front of it.
func (p penalty) shared() penalty { return penalty{p.scope, time.Second, p.last} }

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

// orphaned returns the cooldown that the owner of an abandoned lease left, following
// prev, and nil if it left none: it may be one of a member whose processes die in each
// fetch, and note no failure. That counts as one with an unknown outcome, or as one more
// like the last of that member. The others wait only where members die in turn, and
// nobody has fetched in between: until about a minute after the lease began, so that all
// together stay within the daily quota, and a healthy one gets its turn.
func (p *Process) orphaned(lease string, prev *Cooldown, now time.Time) *Cooldown {
	by, member := owner(lease)
	if member == "" {
		return nil
	}
	c := Cooldown{Message: unanswered, Member: member}
	if prev != nil && now.Sub(time.UnixMilli(prev.Until)) < time.Hour {
		c.Member = prev.membersAfter(member)
		switch {
		case prev.latest() == member:
			c = *prev
			c.Row = min(c.Row+1, maxCount-1)
		case !prev.Lifted:
			c.Step = p.stepAfter(prev, p.penaltyFor(c.cause()))
		}
	}
	wait := min(p.penaltyFor(c.cause()).shared().delay(c.Step), time.Minute)
	c.By, c.Until, c.Lifted = by, now.Add(max(wait-p.lease(), 0)).UnixMilli(), false
	return &c
}

// stepAfter is the step of a failure with the penalty pen that another than prev's met:
// one more, or the first that makes the others wait twice as long, or for a minute.
func (p *Process) stepAfter(prev *Cooldown, pen penalty) int {
	last := p.penaltyFor(prev.cause())
	if last == pen {
		return min(prev.Step+1, maxCount-1)
	}
	return pen.shared().after(last.shared().delay(prev.Step))
}

// share returns the cooldown that all processes share after a failure with the penalty
// pen, and for how long it lasts. What may be one process's own fault gets worse only
// if another one met it, too.
func (p *Process) share(pen penalty, prev *Cooldown, result Result, now time.Time) (*Cooldown, time.Duration) {
	c := Cooldown{Code: result.Code, Message: CleanMessage(result.Message), By: p.id}
	if p.brief(now) {
		c.Member = p.member()
	}
	same := prev != nil && (prev.By == p.id || c.Member != "" && c.Member == prev.latest()) // as failed last
	if prev != nil && c.Member != "" && now.Sub(time.UnixMilli(prev.Until)) < time.Hour {
		c.Member = prev.membersAfter(c.Member)
		switch last := p.penaltyFor(prev.cause()); {
		case !same:
		case last == pen || prev.Row == 0:
			c.Row = min(prev.Row+1, maxCount-1)
		default:
			c.Row = 1 + pen.after(last.delay(prev.Row-1))
		}
	}
	if result.Outcome != Denied {
		c.Code, c.Message = 0, unanswered
	}
	if pen.scope == sameSecret {
		c.Scope = p.Fingerprint
	}
	switch {
	case prev == nil || prev.Lifted:
	case !same:
		c.Step = p.stepAfter(prev, pen)
	case prev.Scope == c.Scope && p.penaltyFor(prev.cause()) == pen:
		c.Step = prev.Step
	}
	wait := pen.shared().delay(c.Step)
	c.Until = now.Add(wait).UnixMilli()
	return &c, wait
}

// cause is the failure that another process met, as far as the record tells it.
func (c *Cooldown) cause() Result {
	if c.Code == 0 {
		err := fmt.Errorf("wxtoken: the last fetch failed: %s; see the log of the process that made it", c.Message)
		return Result{Outcome: Unknown, Err: err}
	}
	return Result{Outcome: Denied, Code: c.Code, Message: c.Message}
}

// cooling returns the Fail that says why the platform must not be asked now, and false
// if it may be. Another machine's clock can make the wait shorter than it was meant to
// be, never longer. Near the expiry of a usable token nobody waits long.
func (p *Process) cooling(r Record, v *View, now time.Time) (Step, bool) {
	most := 24 * time.Hour
	if r.usable(now) && r.left(now) <= p.Ahead {
		most = p.Ahead / 4
	}
	if f := v.own; f != nil && (f.scope == "" || f.scope == p.Fingerprint) {
		if until := f.at.Add(min(f.wait, most)); !Passed(now, until) {
			return Step{Do: Fail, Until: until, Cause: Result{Err: f.err}, secret: f.scope != ""}, true
		}
	}
	c := r.Cooldown
	if c == nil || c.Lifted && !p.ours(c, now) || c.Scope != "" && c.Scope != p.Fingerprint {
		return Step{}, false
	}
	pen := p.penaltyFor(c.cause())
	if pen.scope == oneself || pen.scope == sameSecret && c.Scope == "" {
		return Step{}, false // another process's own affair
	}
	from, wait := v.cooledSeen, min(p.meant(c, now), most)
	if failed := time.UnixMilli(c.Until).Add(-pen.shared().delay(c.Step)); !p.ours(c, now) {
		wait = min(wait, time.UnixMilli(c.Until).Sub(from))
	} else if failed.Before(from) {
		from = failed // by the clock of this machine
	}
	if v.own != nil {
		wait = min(wait+wait/4, pen.last, most) // a process whose own last fetch did not fail comes first
	}
	until := from.Add(wait)
	if seen := r.seen().Add(wait); r.seenBy(now) && p.undated(c, now) && seen.Before(until) {
		until = seen
	}
	if Passed(now, until) {
		return Step{}, false
	}
	cause := c.cause()
	if v.own != nil && v.own.tag == c.Until && v.own.err != nil {
		cause.Err = v.own.err // says more than the record does
	}
	return Step{Do: Fail, Until: until, Cause: cause, secret: c.Scope != ""}, true
}

// ours reports whether c is about this process's member: one whose processes live for
// seconds, and are started again and again, must not be the first to try each time.
func (p *Process) ours(c *Cooldown, now time.Time) bool {
	return c != nil && c.Member != "" && p.brief(now) && slices.Contains(c.members(), p.member())
}

// meant is how long a process that did not fail itself waits for c. What a brief
// process met says little to those that are not: the next may be another of its member.
// And the first failure of a member may be chance.
func (p *Process) meant(c *Cooldown, now time.Time) time.Duration {
	pen := p.penaltyFor(c.cause())
	wait := pen.shared().delay(c.Step)
	switch {
	case c.Member != "" && !p.brief(now):
		return pen.shared().first
	case !p.ours(c, now):
		return wait
	}
	latest := c.latest() == p.member()
	if c.Member != c.latest() && (latest || c.Row == 0) { // they fail in turn: one that has not failed goes first
		wait += min(wait, time.Minute)
	}
	if latest && c.Row > 0 {
		wait = max(wait, pen.delay(c.Row-1))
	}
	return wait
}

// undated reports whether c ends later than it can by this process's clock: that or
// the clock of the process that failed is wrong, and its date says nothing.
func (p *Process) undated(c *Cooldown, now time.Time) bool {
	return time.UnixMilli(c.Until).Sub(now) > p.meant(c, now)+clockError
}

// lifted is what remains of c when this process has fetched a token: what the member
// that failed has to remember, if that is another. By a clock that is ahead each token
// has expired.
func (p *Process) lifted(c *Cooldown, now time.Time) *Cooldown {
	if c == nil || now.Sub(time.UnixMilli(c.Until)) > time.Hour {
		return nil
	}
	l := *c
	l.Member = strings.Join(c.membersBut(p.member()), " ")
	if l.Member == "" {
		return nil
	}
	if l.latest() != c.latest() {
		l.Row = 0
	}
	pen := p.penaltyFor(c.cause()).shared()
	l.Until -= (pen.delay(c.Step) - pen.first).Milliseconds() // past for version 0.1, which does not know lifted
	l.Step, l.Lifted = 0, true
	return &l
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
