package wxtoken

import (
	"errors"
	"fmt"
	"time"

	"github.com/wxtoken/wxtoken/internal/endpoint"
)

// ErrCacheUnavailable is wrapped, together with the cause, by the error of
// Source.Token when the cache does not answer and no usable token is at hand:
// a fetch without the cache could kill the token of every other process.
var ErrCacheUnavailable = errors.New("wxtoken: cache unavailable and no usable token at hand; check the cache's address and health")

// An APIError is the platform's refusal of a request: errcode and errmsg as it
// sent them, with the secret scrubbed. No token was issued.
type APIError struct {
	Code    int    // errcode, never 0
	Message string // errmsg, which often ends in the platform's request id (rid)
}

// Error gives code, message and, for the codes that are known, what to do.
func (e *APIError) Error() string {
	text := fmt.Sprintf("wxtoken: platform answered errcode %d", e.Code)
	if e.Message != "" {
		text += ": " + e.Message
	}
	if advice := e.advice(); advice != "" {
		text += " (" + advice + ")"
	}
	return text
}

// advice is what to do about the codes of the token endpoints, and about those
// of other APIs that concern the token.
func (e *APIError) advice() string {
	switch e.Code {
	case -1, -1000:
		return "the platform is busy: try again"
	case 40001:
		return "at a token endpoint the secret is wrong; elsewhere the token is not the latest: does another system fetch for this app?"
	case 40125:
		return "check the secret: it may have been reset"
	case 40002, 41002, 41004, 43002:
		return "the request arrived changed: check WithBaseURL and any proxy"
	case 40013:
		return "check the appID"
	case 40014, 42001:
		return "fetch a new access token"
	case 40164:
		return "add this machine's public IP address to the app's whitelist; edits take about 5 minutes"
	case 40243:
		return "the secret is frozen: an administrator must thaw it, which takes 10 minutes"
	case 41001:
		return "the request had no access_token: put one in"
	case 42007:
		return "the user must authorize again; the app's token is not at fault"
	case 45009:
		return "the daily quota is spent: look for other systems that fetch for this app, or use NewStableFetcher"
	case 45011:
		return "too many calls this minute: wait for the next"
	case 50004, 50007:
		return "the account is frozen or may not fetch tokens: see the platform's console"
	case 61024:
		return "the app is bound to a third-party platform: use that platform's token"
	case 61004, 89501, 89503:
		return "an administrator must confirm this machine's IP address"
	case 89506:
		return "an administrator refused this machine's IP address: wait 24 hours"
	case 89507:
		return "an administrator refused this machine's IP address: wait 1 hour"
	}
	return ""
}

// Temporary reports whether the same request is worth sending again soon: the
// platform was busy (-1, -1000) or the limit per minute was reached (45011).
func (e *APIError) Temporary() bool { return endpoint.Busy(e.Code) || e.Code == 45011 }

// A CooldownError says that the platform refused a fetch and is not asked again
// before Until. Unwrap gives the refusal, mostly an *APIError.
type CooldownError struct {
	Until time.Time // wall clock
	Err   error     // the first failure
}

func (e *CooldownError) Error() string {
	return fmt.Sprintf("%v (not asked again before %s)", e.Err, e.Until.UTC().Format(time.RFC3339))
}

// Unwrap gives the failure that began the cooldown.
func (e *CooldownError) Unwrap() error { return e.Err }

// IsTokenRejected reports whether a business API's errcode says that the access
// token is no longer good: 40001 (invalid or not latest), 40014 (invalid) or
// 42001 (expired). 42007, which concerns the tokens of users, is not among them.
func IsTokenRejected(code int) bool {
	return code == 40001 || code == 40014 || code == 42001
}
