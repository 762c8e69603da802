package serve

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A bucket allows perMinute events in a minute, and as many at once.
type bucket struct {
	mu   sync.Mutex
	left float64
	last time.Time // zero: full
}

// take reports whether one more event is allowed, and if not, after how long.
func (b *bucket) take(perMinute int, now time.Time) (ok bool, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rate := float64(perMinute) / 60 // a second
	if b.last.IsZero() {
		b.left = float64(perMinute)
	} else {
		b.left = min(b.left+max(now.Sub(b.last).Seconds(), 0)*rate, float64(perMinute))
	}
	b.last = now
	if b.left < 1 {
		return false, time.Duration((1 - b.left) / rate * float64(time.Second))
	}
	b.left--
	return true, 0
}

const (
	firstDelay = 50 * time.Millisecond // after the second wrong secret of an address
	lastDelay  = 2 * time.Second
	delayed    = 256    // requests that wait at a time
	addresses  = 10_000 // that are remembered
	named      = 100    // of them that the log names in a minute
)

// wrongSecrets slows down senders of wrong secrets: each further one from an address is
// answered later. A correct secret is never delayed, so clients behind one proxy with
// an attacker are not affected.
type wrongSecrets struct {
	slots chan struct{}

	mu     sync.Mutex
	count  float64
	known  map[netip.Prefix]*sender
	minute time.Time // when names was emptied
	names  map[string]bool
}

// A sender is an address, or a network of IPv6.
type sender struct {
	wrong int
	last  time.Time
}

func newWrongSecrets() *wrongSecrets {
	return &wrongSecrets{slots: make(chan struct{}, delayed), known: map[netip.Prefix]*sender{}, names: map[string]bool{}}
}

func (s *wrongSecrets) total() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// wait delays the answer to a wrong secret. It reports false if too many are waiting
// already: then the connection should be closed.
func (s *wrongSecrets) wait(ctx context.Context, remote string, now time.Time) bool {
	d := s.note(remote, now)
	if d == 0 {
		return true
	}
	select {
	case s.slots <- struct{}{}:
	default:
		return false
	}
	defer func() { <-s.slots }()
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	return true
}

// note counts a wrong secret and returns the delay of its answer.
func (s *wrongSecrets) note(remote string, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	from := network(remote)
	one := s.known[from]
	if one == nil {
		if len(s.known) >= addresses {
			s.forget(now)
		}
		one = new(sender)
		s.known[from] = one
	}
	if now.Sub(one.last) > time.Minute {
		one.wrong = 0
	}
	one.last = now
	one.wrong++
	if one.wrong == 1 {
		return 0
	}
	return min(firstDelay<<min(one.wrong-2, 10), lastDelay)
}

// forget makes room, by removing the addresses that have stopped or, if none has,
// all.
func (s *wrongSecrets) forget(now time.Time) {
	for from, one := range s.known {
		if now.Sub(one.last) > time.Minute {
			delete(s.known, from)
		}
	}
	if len(s.known) >= addresses {
		clear(s.known)
	}
}

// name returns what the log calls an address: itself, or that there are many.
func (s *wrongSecrets) name(remote string, now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.minute) > time.Minute {
		s.minute = now
		clear(s.names)
	}
	ip := hostOf(remote)
	if !s.names[ip] && len(s.names) >= named {
		return "many addresses"
	}
	s.names[ip] = true
	return ip
}

func hostOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote // a unix socket
	}
	return host
}

// network returns the address of a client or, for IPv6, its network, since one client
// has all addresses of it.
func network(remote string) netip.Prefix {
	addr, err := netip.ParseAddr(hostOf(remote))
	if err != nil {
		return netip.Prefix{}
	}
	bits := 32
	if addr = addr.Unmap().WithZone(""); addr.Is6() {
		bits = 64
	}
	prefix, _ := addr.Prefix(bits) // 32 and 64 fit
	return prefix
}
