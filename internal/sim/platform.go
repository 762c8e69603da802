package sim

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/wxtoken/wxtoken"
)

// Grace is how the platform treats a token after the next one was issued.
type Grace int

const (
	Lenient  Grace = iota // each superseded token stays valid for 5 minutes
	Strict                // the same, but only the latest two are honoured
	Stable                // stable_token: the same token until its last 5 minutes
	WeCom                 // the same token, with its remaining lifetime, until its last second
	WeComEnd              // the same, with 0 s left in its last second
	Renewed               // the same token forever, each time with its full lifetime
)

func (g Grace) String() string {
	return [...]string{"lenient", "strict", "stable", "WeCom", "WeCom to 0 s", "renewed"}[g]
}

// repeats reports whether a second fetch is harmless.
func (g Grace) repeats() bool { return g >= Stable }

// repeatedUntil returns how much lifetime a token must have left to be repeated.
func (g Grace) repeatedUntil() time.Duration {
	switch g {
	case Stable:
		return graceTime
	case WeCom:
		return time.Second
	}
	return 0
}

const (
	graceTime  = 5 * time.Minute
	dailyQuota = 2000
)

// A platform issues tokens. Its methods are called with world.mu held.
type platform struct {
	grace    Grace
	lifetime time.Duration
	quota    int
	secret   int
	tokens   []issued // by number

	answered, denied, foreign int // requests of the nodes; and of others
	day, today, maxToday      int // requests from all systems that were answered
}

type issued struct {
	end     time.Time
	foreign bool
}

// issue answers one successful request, with the seconds that the token has left.
func (p *platform) issue(now time.Time, foreign bool) (token string, expiresIn int) {
	p.count(now, foreign)
	last := len(p.tokens) - 1
	if p.grace == Renewed && last >= 0 {
		p.tokens[last].end = now.Add(p.lifetime)
	}
	if p.grace.repeats() && last >= 0 && p.tokens[last].end.Sub(now) > p.grace.repeatedUntil() {
		return name(last), int(p.tokens[last].end.Sub(now) / time.Second)
	}
	if last >= 0 && !p.grace.repeats() {
		if grace := now.Add(graceTime); p.tokens[last].end.After(grace) {
			p.tokens[last].end = grace
		}
	}
	p.tokens = append(p.tokens, issued{end: now.Add(p.lifetime), foreign: foreign})
	return name(last + 1), int(p.lifetime / time.Second)
}

func (p *platform) count(now time.Time, foreign bool) {
	if day := int(now.Unix() / 86400); day != p.day {
		p.day, p.today = day, 0
	}
	p.today++
	p.maxToday = max(p.maxToday, p.today)
	if foreign {
		p.foreign++
	} else {
		p.answered++
	}
}

// denies checks a request in the platform's order: IP, secret, quota.
func (p *platform) denies(now time.Time, listed bool, secret int) *wxtoken.APIError {
	switch {
	case !listed:
		return &wxtoken.APIError{Code: 40164, Message: "invalid ip, not in whitelist"}
	case secret != p.secret:
		return &wxtoken.APIError{Code: 40125, Message: "invalid appsecret"}
	case p.today >= p.quota && int(now.Unix()/86400) == p.day:
		return &wxtoken.APIError{Code: 45009, Message: "reach max api daily quota limit"}
	}
	return nil
}

// accepts is a business call's check of its token.
func (p *platform) accepts(token string, now time.Time) bool {
	n := number(token)
	if n < 0 || n >= len(p.tokens) || !now.Before(p.tokens[n].end) {
		return false
	}
	return p.grace != Strict || n >= len(p.tokens)-2
}

// latest returns the token issued last, and whether another system has it.
func (p *platform) latest() (token string, foreign bool) {
	if len(p.tokens) == 0 {
		return "", false
	}
	return name(len(p.tokens) - 1), p.tokens[len(p.tokens)-1].foreign
}

const tokenMark = "SIMTOKEN_"

func name(n int) string { return fmt.Sprintf(tokenMark+"%06d_abcdefghijklmnopqrstuvwxyz", n) }

// number is the inverse of name, or -1.
func number(token string) int {
	rest, ok := strings.CutPrefix(token, tokenMark)
	digits, _, ok2 := strings.Cut(rest, "_")
	n, err := strconv.Atoi(digits)
	if !ok || !ok2 || err != nil {
		return -1
	}
	return n
}
