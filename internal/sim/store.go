package sim

import (
	"bytes"
	"strconv"
	"time"
)

// A store holds one key, since a credential has one record. Its methods are
// called with world.mu held. The bytes that it holds are never changed.
type store struct {
	now     version
	history []version // oldest first; what was there before now
}

type version struct {
	value   []byte // nil: absent
	expires time.Time
}

const keptVersions = 64

func (s *store) get(now time.Time) []byte {
	if s.now.value == nil || !now.Before(s.now.expires) {
		return nil
	}
	return s.now.value
}

func (s *store) cas(now time.Time, old, value []byte, ttl time.Duration) bool {
	if held := s.get(now); (held == nil) != (old == nil) || !bytes.Equal(held, old) {
		return false
	}
	if len(s.history) == keptVersions {
		s.history = append(s.history[:0], s.history[1:]...)
	}
	s.history = append(s.history, s.now)
	s.now = version{bytes.Clone(value), now.Add(ttl)}
	return true
}

func (s *store) flush() { *s = store{} }

// fallBack makes the store what it was before its last writes.
func (s *store) fallBack(writes int) bool {
	i := len(s.history) - writes
	if i < 0 {
		return false
	}
	s.now, s.history = s.history[i], s.history[:i]
	return true
}

// shift moves the wall-clock times in a record by d, byte for byte otherwise,
// so that shift(shift(b, d), -d) is b. That is how a node whose clock is off
// sees and writes a record.
func shift(b []byte, d time.Duration) []byte {
	if b == nil || d == 0 {
		return b
	}
	for _, field := range []string{`"issued_at":`, `"expires_at":`, `"until":`} {
		i := bytes.Index(b, []byte(field))
		if i < 0 {
			continue
		}
		from := i + len(field)
		to := from
		for to < len(b) && b[to] >= '0' && b[to] <= '9' {
			to++
		}
		ms, err := strconv.ParseInt(string(b[from:to]), 10, 64)
		if err != nil || ms == 0 {
			continue
		}
		moved := append([]byte(nil), b[:from]...)
		moved = strconv.AppendInt(moved, ms+d.Milliseconds(), 10)
		b = append(moved, b[to:]...)
	}
	return b
}
