package wxtoken

import (
	"errors"
	"fmt"
	"time"

	"github.com/wxtoken/wxtoken/internal/endpoint"
)

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

// penaltyFor judges a fetch's error by the codes in the platform's
// documentation of cgi-bin/token and cgi-bin/stable_token.
func penaltyFor(err error) penalty {
	var refusal *APIError
	var unsent *endpoint.Unsent
	switch {
	case errors.As(err, &unsent):
		return penalty{oneself, time.Second, 30 * time.Second}
	case !errors.As(err, &refusal):
		return penalty{everyone, time.Second, 30 * time.Second}
	}
	switch refusal.Code {
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
func (p penalty) after(prev *cooldown, err error, fingerprint string, now time.Time) *cooldown {
	c := &cooldown{Message: "no answer that could be understood"}
	var refusal *APIError
	if errors.As(err, &refusal) {
		c.Code, c.Message = refusal.Code, refusal.Message
	}
	if p.scope == sameSecret {
		c.Scope = fingerprint
	}
	if prev != nil && prev.Scope == c.Scope && penaltyFor(prev.err()) == p {
		c.Step = prev.Step + 1
	}
	c.Until = now.Add(p.delay(c.Step)).UnixMilli()
	return c
}

// err is the failure that another process met, as far as the record tells it.
func (c *cooldown) err() error {
	if c.Code == 0 {
		return fmt.Errorf("wxtoken: the last fetch failed: %s; see the log of the process that made it", c.Message)
	}
	return &APIError{Code: c.Code, Message: c.Message}
}

// ends says when c is over for a process that first saw it at seen. The other
// machine's clock can shorten the wait, and never make it longer than it was
// meant to be.
func (c *cooldown) ends(seen time.Time) time.Time {
	meant := penaltyFor(c.err()).delay(c.Step)
	return seen.Add(min(meant, time.UnixMilli(c.Until).Sub(seen)))
}
