package sim

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"time"
)

// A store holds one key, since a credential has one record. Its methods are called
// with world.mu held. The bytes that it holds are never changed.
type store struct {
	now     version
	history []version // oldest first; what was there before now
	branch  *store    // during a split: the other master
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

// split starts a period with two masters.
func (s *store) split() { s.branch = &store{now: s.now} }

// join ends it, and drops what one of them stored.
func (s *store) join(other bool) {
	if other {
		s.now, s.history = s.branch.now, nil
	}
	s.branch = nil
}

func (w *world) storeOf(n *node) *store {
	if n.away && w.store.branch != nil {
		return w.store.branch
	}
	return &w.store
}

// A Small is how a store that keeps only small values treats a record with a token.
type Small int

const (
	AllValues Small = iota // keeps it
	Fails                  // with an error
	SaysFalse
	Drops  // reports true, and keeps the old value
	Evicts // reports true, and keeps nothing
)

var errFull = errors.New("sim: SERVER_ERROR object too large for cache")

func (s Small) swap(st *store, matches bool) (bool, error) {
	switch {
	case s == Fails:
		return false, errFull
	case s == SaysFalse, !matches:
		return false, nil
	case s == Evicts:
		st.flush()
	}
	return true, nil
}

// fallBack restores the store as it was before its last writes.
func (s *store) fallBack(writes int) bool {
	i := len(s.history) - writes
	if i < 0 {
		return false
	}
	s.now, s.history = s.history[i], s.history[:i]
	return true
}

// setClock corrects a clock that is wrong only until a token was published.
func (n *node) setClock(published []byte) {
	if n.m.SkewOnce && decode(published).token() != "" {
		n.skew = 0
	}
}

// preset puts a record into the store before the run.
func (w *world) preset(text string) {
	if text == "" {
		return
	}
	now := time.Now()
	if strings.Contains(text, "TOKEN") {
		token, _ := w.platform.issue(now, false)
		text = strings.ReplaceAll(text, "TOKEN", token)
	}
	text = strings.ReplaceAll(text, "NOW", strconv.FormatInt(now.UnixMilli(), 10))
	text = strings.ReplaceAll(text, "LATER", strconv.FormatInt(now.Add(w.platform.lifetime).UnixMilli(), 10))
	w.store.now = version{[]byte(text), now.Add(w.platform.lifetime + time.Hour)}
	w.watch.rec = decode(w.store.now.value)
	w.watch.published[w.watch.rec.token()] = true
}

// shift moves the wall-clock times in a record by d, and is byte for byte otherwise,
// so that shift(shift(b, d), -d) is b. That is how a node with a wrong clock reads
// and writes a record.
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
