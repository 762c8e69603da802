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
}

// scope says who must wait after a fetch failed.
type scope int

const (
	everyone   scope = iota // the app itself is refused: all processes
	sameSecret              // processes with the same secret, so that one with the mended secret goes ahead
	oneself                 // this process alone: its address, or its network
)

// A penalty is how long a failed fetch keeps the next one waiting: first, then
// twice as long with each failure, up to last.
type penalty struct {
	scope       scope
	first, last time.Duration
}

// penaltyFor judges a failed fetch by the codes in the platform's documentation
// of cgi-bin/token and cgi-bin/stable_token.
func penaltyFor(result Result) penalty {
	switch result.Outcome {
	case Unsent:
		return penalty{oneself, time.Second, 30 * time.Second}
	case Unknown:
		return penalty{everyone, time.Second, 30 * time.Second}
	}
	switch result.Code {
	case 40001, 40125: // wrong secret
		return penalty{sameSecret, time.Minute, 10 * time.Minute}
	case 40164, 61004, 89501, 89503: // IP not in the whitelist, or not confirmed yet
		return penalty{oneself, time.Minute, 5 * time.Minute}
	case 89506, 89507: // IP refused for 24 h, for 1 h: asked in steps, as an administrator can relent
		return penalty{oneself, 10 * time.Minute, 10 * time.Minute}
	case 40002, 40013, 40243, 41002, 41004, 50004, 50007, 61024: // bad AppID, frozen, forbidden
		return penalty{everyone, 10 * time.Minute, 10 * time.Minute}
	case 45009: // daily quota
		return penalty{everyone, 15 * time.Minute, 30 * time.Minute}
	case 45011: // quota of the minute
		return penalty{everyone, time.Minute, time.Minute}
	case -1, -1000: // busy
		return penalty{everyone, time.Second, 30 * time.Second}
	}
	return penalty{everyone, 5 * time.Second, 10 * time.Minute}
}

// delay is how long to wait after step failures before this one.
func (p penalty) delay(step int) time.Duration {
	return min(p.first<<min(step, 20), p.last)
}

// after gives the cooldown to share for a failed fetch, following prev.
func (p penalty) after(prev *Cooldown, result Result, fingerprint string, now time.Time) *Cooldown {
	c := &Cooldown{Code: result.Code, Message: result.Message}
	if result.Outcome != Denied {
		c.Message = "no answer that could be understood"
	}
	if p.scope == sameSecret {
		c.Scope = fingerprint
	}
	if prev != nil && prev.Scope == c.Scope && penaltyFor(prev.cause()) == p {
		c.Step = prev.Step + 1
	}
	c.Until = now.Add(p.delay(c.Step)).UnixMilli()
	return c
}

// cause is the failure that another process met, as far as the record tells it.
func (c *Cooldown) cause() Result {
	if c.Code == 0 {
		err := fmt.Errorf("wxtoken: the last fetch failed: %s; see the log of the process that made it", c.Message)
		return Result{Outcome: Unknown, Err: err}
	}
	return Result{Outcome: Denied, Code: c.Code, Message: c.Message}
}

// ends says when c is over for a process that first saw it at seen. The other
// machine's clock can shorten the wait, and never make it longer than it was
// meant to be.
func (c *Cooldown) ends(seen time.Time) time.Time {
	meant := penaltyFor(c.cause()).delay(c.Step)
	return seen.Add(min(meant, time.UnixMilli(c.Until).Sub(seen)))
}

// cooling gives the Fail that tells why the platform must not be asked now, and
// false if it may be.
func (ru Rules) cooling(r Record, v View, now time.Time) (Step, bool) {
	if !Passed(now, v.ownUntil) {
		return Step{Do: Fail, Until: v.ownUntil, Cause: Result{Err: v.failure}}, true
	}
	c := r.Cooldown
	if c == nil || c.Scope != "" && c.Scope != ru.Fingerprint || Passed(now, c.ends(v.cooledSeen)) {
		return Step{}, false
	}
	cause := c.cause()
	if v.failure != nil && v.failedTag == c.Until {
		cause.Err = v.failure // tells more than the record does
	}
	return Step{Do: Fail, Until: c.ends(v.cooledSeen), Cause: cause}, true
}

// Passed reports whether t is over by either clock: the monotonic one stands
// still while a machine is suspended, the wall clock may be set back.
func Passed(now, t time.Time) bool {
	return !now.Before(t) || !now.Round(0).Before(t.Round(0))
}
