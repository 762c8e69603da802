package wxtoken

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// A Token is an access_token and its expiry. The zero Token is no token, and not
// Valid. Every way of printing a Token hides its value.
type Token struct {
	// Value is what goes into ?access_token=, today 136 to 157 characters.
	Value string

	// ExpiresAt is a wall-clock time, counted from before the request for the token
	// was sent, so it is never later than the platform's own expiry.
	ExpiresAt time.Time
}

// Valid reports whether t has a value and is not past ExpiresAt. The platform
// may have revoked it all the same: see [Source.Invalidate].
func (t Token) Valid() bool { return t.Value != "" && time.Now().Before(t.ExpiresAt) }

// String shows when t expires, but not its value.
func (t Token) String() string {
	if t.Value == "" {
		return "Token(none)"
	}
	return "Token(redacted, expires " + t.ExpiresAt.UTC().Format(time.RFC3339) + ")"
}

// GoString returns String, so that %#v hides the value too.
func (t Token) GoString() string { return t.String() }

// Format prints String for every verb of package fmt.
func (t Token) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(t.String())) }

// LogValue returns String for log/slog.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText returns String, so that JSON and the like hide the value too.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// A TokenSource returns a token that is valid now. It must be safe for concurrent
// use. A [Source] is a TokenSource, and an application can wrap one in its own.
type TokenSource interface {
	Token(ctx context.Context) (Token, error)
}

// An invalidator is a TokenSource that accepts reports of rejected tokens, as a
// Source does.
type invalidator interface {
	TokenSource
	Invalidate(ctx context.Context, rejected string) error
}
