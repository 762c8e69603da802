// Package record reads the shared record of a token and describes it in words, for
// the commands and the page of wxtoken.
package record

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/protocol"
)

// A Reading is what the store has under a key.
type Reading struct {
	Key    string // in the store, prefix included
	Raw    []byte // nil: nothing
	Record protocol.Record
	Sealed bool
	Opened int   // which key opened it, from 1; 0: none, or it is plain
	Err    error // the store's, or why Raw cannot be read
}

// Read reads the record. Sealed records are opened with keys, if one of them fits.
func Read(ctx context.Context, c wxtoken.Cache, key string, keys [][32]byte) Reading {
	r := Reading{Key: key}
	raw, err := c.Get(ctx, key)
	if errors.Is(err, wxtoken.ErrCacheMiss) {
		return r
	}
	if err != nil {
		r.Err = err
		return r
	}
	r.Raw = append([]byte{}, raw...)
	var head struct {
		Sealed json.RawMessage `json:"sealed"`
	}
	if r.Sealed = json.Unmarshal(raw, &head) == nil && head.Sealed != nil; !r.Sealed {
		r.Record, r.Err = protocol.Decode(raw, protocol.Sealer{CacheKey: key})
		return r
	}
	r.Err = protocol.ErrNoKey
	for i, one := range keys {
		r.Record, r.Err = protocol.Decode(raw, protocol.Sealer{Keys: [][32]byte{one}, CacheKey: key})
		if !errors.Is(r.Err, protocol.ErrNoKey) {
			r.Opened = i + 1
			break
		}
	}
	return r
}

// Encode returns the record for the store, sealed as it was read.
func (r Reading) Encode(keys [][32]byte) []byte {
	seal := protocol.Sealer{CacheKey: r.Key}
	if r.Opened > 0 {
		seal.Keys = keys[r.Opened-1 : r.Opened]
	}
	return protocol.Encode(r.Record, seal)
}

// A State is the state of the token according to the record.
type State int

// The states.
const (
	Good       State = iota
	Replacing        // usable, and a fetch is in flight or due
	Doubtful         // usable, but perhaps not the platform's latest
	Rejected         // an API rejected it
	Expired          //
	Empty            // a record without a token
	Missing          // no record
	Unreadable       // sealed, of a newer version or garbage
	Unknown          // the store did not answer
)

// State returns the state at a time.
func (r Reading) State(now time.Time) State {
	t := r.Record
	switch {
	case r.Raw == nil && r.Err != nil:
		return Unknown
	case r.Raw == nil:
		return Missing
	case r.Err != nil:
		return Unreadable
	case t.Token == "":
		return Empty
	case t.Rejected:
		return Rejected
	case t.ExpiresAt <= now.UnixMilli():
		return Expired
	case t.Owed > 0:
		return Doubtful
	case t.Lease != "":
		return Replacing
	}
	return Good
}

// Usable reports whether the token can be handed out.
func (r Reading) Usable(now time.Time) bool {
	switch r.State(now) {
	case Good, Replacing, Doubtful:
		return true
	}
	return false
}

// Issued returns when the token was requested.
func (r Reading) Issued() time.Time { return time.UnixMilli(r.Record.IssuedAt) }

// Expires returns when the token expires.
func (r Reading) Expires() time.Time { return time.UnixMilli(r.Record.ExpiresAt) }

// Cooling reports whether a cooldown keeps processes from asking the platform. A
// lifted one keeps only the members that failed, or nobody.
func (r Reading) Cooling(now time.Time) bool {
	c := r.Record.Cooldown
	return r.Err == nil && c != nil && !c.Lifted && c.Until > now.UnixMilli()
}

// Cause is the failure that the record remembers, or nil.
func (r Reading) Cause() error {
	c := r.Record.Cooldown
	switch {
	case c == nil:
		return nil
	case c.Code != 0:
		return &wxtoken.APIError{Code: c.Code, Message: c.Message}
	}
	return errors.New("wxtoken: the platform gave no usable answer; see the log of the process that asked")
}

// Keep returns how long a store has to keep the record: until an hour after all times
// in it. A sealed record, whose times cannot be read, is kept for three hours.
func (r Reading) Keep(now time.Time) time.Duration {
	if r.Err != nil {
		return 3 * time.Hour
	}
	last := max(r.Record.ExpiresAt, now.UnixMilli())
	if c := r.Record.Cooldown; c != nil {
		last = max(last, c.Until)
	}
	return min(time.UnixMilli(last).Sub(now), protocol.MaxLifetime) + time.Hour
}
