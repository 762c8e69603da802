package wxtoken

import (
	"hash/maphash"
	"slices"
	"sync/atomic"
)

// A memory remembers the last values that a TokenSource handed out, as salted
// fingerprints, so that it holds no token. The zero memory is empty. It is safe for
// concurrent use.
type memory struct{ last atomic.Pointer[fingerprints] }

// fingerprints are immutable once they are published.
type fingerprints struct {
	salt maphash.Seed
	sums []uint64 // of the latest 16: half a day or more, at two hours each
}

func (m *memory) has(value string) bool {
	f := m.last.Load()
	return f != nil && slices.Contains(f.sums, maphash.String(f.salt, value))
}

func (m *memory) add(value string) {
	for {
		old := m.last.Load()
		if old == nil {
			old = &fingerprints{salt: maphash.MakeSeed()}
			if !m.last.CompareAndSwap(nil, old) {
				continue
			}
		}
		sum := maphash.String(old.salt, value)
		if slices.Contains(old.sums, sum) {
			return
		}
		latest := old.sums[max(0, len(old.sums)-15):]
		next := &fingerprints{old.salt, slices.Concat(latest, []uint64{sum})}
		if m.last.CompareAndSwap(old, next) {
			return
		}
	}
}

// handedOut reports whether value is one of the last that s handed out, to any
// caller, or one of the last in the record, which another process may have handed
// out. A Transport uses it to find out whose token a request carries.
func (s *Source) handedOut(value string) bool {
	if s.handed.has(value) {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process.Knows(value)
}
