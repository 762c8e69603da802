package wxtoken

import (
	"errors"
	"fmt"
	"time"

	"github.com/wxtoken/wxtoken/internal/errcode"
)

// ErrCacheUnavailable is wrapped, together with the cause, by the errors of
// Source.Token, if no usable token is at hand either, and Source.Invalidate: the
// cache did not answer, and a fetch without it could supersede the token of every
// other process.
var ErrCacheUnavailable = errors.New("wxtoken: cache unavailable; check its address and health")

// An APIError is the platform's denial of a request: errcode and errmsg as it
// sent them, with the secret scrubbed. No token was issued. Find it in an error
// by errors.As: the error around it says what to do on that platform.
type APIError struct {
	Code    int    // errcode, never 0
	Message string // errmsg, which often ends in the platform's request id (rid)
}

// Error returns code, message and, for the codes that are known, what to do on
// whatever platform it was.
func (e *APIError) Error() string { return e.text(errcode.Platform("").Advice(e.Code)) }

func (e *APIError) text(advice string) string {
	text := fmt.Sprintf("wxtoken: platform answered errcode %d", e.Code)
	if e.Message != "" {
		text += ": " + e.Message
	}
	if advice != "" {
		text += " (" + advice + ")"
	}
	return text
}

// Temporary reports whether the same request is worth sending again soon: the
// platform was busy (-1, -1000) or the limit per minute was reached (45011).
func (e *APIError) Temporary() bool { return errcode.Busy(e.Code) || e.Code == 45011 }

// A CooldownError says that a fetch failed, and that the platform is not asked
// again before Until.
type CooldownError struct {
	Until time.Time // wall clock
	Err   error     // the failure that began it, mostly an *APIError; never nil
}

func (e *CooldownError) Error() string {
	return fmt.Sprintf("%v (not asked again before %s)", e.Err, e.Until.UTC().Format(time.RFC3339))
}

// Unwrap returns Err.
func (e *CooldownError) Unwrap() error { return e.Err }

// IsTokenRejected reports whether a business API's errcode says that the access
// token is no longer good: 40001 (invalid or not latest), 40014 (invalid) or
// 42001 (expired). 42007, which concerns the tokens of users, is not among them.
func IsTokenRejected(code int) bool {
	return code == 40001 || code == 40014 || code == 42001
}
