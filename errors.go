package wxtoken

import (
	"errors"
	"fmt"
	"time"

	"github.com/wxtoken/wxtoken/internal/errcode"
)

// ErrCacheUnavailable is wrapped, together with the cause, by errors of
// [Source.Invalidate], and of [Source.Token] when there is no usable token: the cache did
// not answer, and a fetch without it could supersede the token of every other
// process.
var ErrCacheUnavailable = errors.New("wxtoken: cache unavailable; check its address and health")

// An APIError is the platform's denial of a request: errcode and errmsg as it sent
// them, with the secret removed. No token was issued. Find it with errors.As; the
// error that wraps it says what to do on that platform.
type APIError struct {
	Code    int    // errcode, never 0
	Message string // errmsg, which often ends in the platform's request id (rid)
}

// Error returns the code, the message and, for known codes, what to do whatever the
// platform.
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

// Temporary reports whether the same request may succeed soon: the platform was busy
// (-1, -1000) or the limit per minute was reached (45011).
func (e *APIError) Temporary() bool { return errcode.Busy(e.Code) || e.Code == 45011 }

// A CooldownError reports that a fetch failed and that the platform is not asked
// again before Until.
type CooldownError struct {
	Until time.Time // wall clock
	Err   error     // the failure that started it, usually an *APIError; never nil
}

func (e *CooldownError) Error() string {
	return fmt.Sprintf("%v (not asked again before %s)", e.Err, e.Until.UTC().Format(time.RFC3339))
}

// Unwrap returns Err.
func (e *CooldownError) Unwrap() error { return e.Err }

// IsTokenRejected reports whether a business API's errcode means that the access
// token is no longer valid: 40001 (invalid or not the latest), 40014 (invalid) or
// 42001 (expired). 42007, which concerns users' tokens, is not included.
func IsTokenRejected(code int) bool {
	return code == 40001 || code == 40014 || code == 42001
}
