package wxtoken

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// A Token is an access_token and the time at which it ends. The zero Token is
// no token, and not Valid. Every way of printing one hides its value.
type Token struct {
	// Value is what goes into ?access_token=, today 136 to 157 characters.
	Value string

	// ExpiresAt is a wall-clock time, counted from before the request for the
	// token was sent, so that it is never later than the platform's own.
	ExpiresAt time.Time
}

// Valid reports whether t has a value and is not past ExpiresAt. The platform
// may have revoked it all the same: see Source.Invalidate.
func (t Token) Valid() bool { return t.Value != "" && time.Now().Before(t.ExpiresAt) }

// String shows when t expires, and never its value.
func (t Token) String() string {
	if t.Value == "" {
		return "Token(none)"
	}
	return "Token(redacted, expires " + t.ExpiresAt.UTC().Format(time.RFC3339) + ")"
}

// GoString is String: %#v shows no value.
func (t Token) GoString() string { return t.String() }

// Format prints String for every verb of package fmt.
func (t Token) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(t.String())) }

// LogValue is String for log/slog.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText is String, so that JSON and its like show no value either.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// A TokenSource hands out a token that is valid now. It is safe for concurrent
// use. Source is one; so is whatever an application puts around it.
type TokenSource interface {
	Token(ctx context.Context) (Token, error)
}

// An invalidator is a TokenSource that can be told of a refused token, as Source can.
type invalidator interface {
	TokenSource
	Invalidate(ctx context.Context, rejected string) error
}
