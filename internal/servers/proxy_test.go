package servers

import (
	"bufio"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestProxyFaults(t *testing.T) {
	redis := Redis(t)
	const soon, never = readyTimeout, 100 * time.Millisecond

	t.Run("none", func(t *testing.T) {
		p := Proxy(t, redis.Addr())
		if got := say(t, p.Addr(), "PING\r\n"); got != "+PONG" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("cut", func(t *testing.T) {
		p := Proxy(t, redis.Addr())
		open := dial(t, p.Addr())
		mustSay(t, open, soon, "PING", "+PONG")
		p.Cut()
		mustSay(t, open, soon, "PING", "")
		mustSay(t, dial(t, p.Addr()), soon, "PING", "")
		p.Heal()
		mustSay(t, dial(t, p.Addr()), soon, "PING", "+PONG")
	})
	t.Run("lost replies", func(t *testing.T) {
		p := Proxy(t, redis.Addr())
		p.DropReplies(2)
		mustSay(t, dial(t, p.Addr()), soon, "INCR lost", "")
		mustSay(t, dial(t, p.Addr()), soon, "INCR lost", "")
		mustSay(t, dial(t, p.Addr()), soon, "INCR lost", ":3")
		if p.Dropped() != 2 {
			t.Errorf("dropped %d", p.Dropped())
		}
	})
	t.Run("replies lost at random", func(t *testing.T) {
		p := Proxy(t, redis.Addr())
		sequence := func(seed uint64) (s string) {
			p.DropRepliesRandomly(0.5, seed)
			for range 30 {
				s += "," + ask(dial(t, p.Addr()), soon, "PING")
			}
			return s
		}
		first := sequence(1)
		if n := p.Dropped(); n < 5 || n > 25 {
			t.Errorf("dropped %d of 30", n)
		}
		if sequence(1) != first || sequence(2) == first {
			t.Error("the seed does not set the sequence")
		}
	})
	t.Run("delay", func(t *testing.T) {
		p := Proxy(t, redis.Addr())
		p.Delay(50 * time.Millisecond)
		began := time.Now()
		mustSay(t, dial(t, p.Addr()), soon, "PING", "+PONG")
		if took := time.Since(began); took < 50*time.Millisecond {
			t.Errorf("took only %v", took)
		}
	})
	t.Run("black hole", func(t *testing.T) {
		p := Proxy(t, redis.Addr())
		open := dial(t, p.Addr())
		p.BlackHole()
		mustSay(t, open, never, "INCR held", "")
		mustSay(t, dial(t, redis.Addr()), soon, "GET held", "$-1")
		p.Heal()
		mustSay(t, open, soon, "PING", ":1") // the answer to the delayed request
	})
	t.Run("server gone", func(t *testing.T) {
		p := Proxy(t, "127.0.0.1:1")
		mustSay(t, dial(t, p.Addr()), soon, "PING", "")
	})
}

// Close leaves no goroutine behind, not even in the middle of a fault.
func TestProxyClose(t *testing.T) {
	redis := Redis(t)
	before := runtime.NumGoroutine()
	for _, fault := range []func(*FaultProxy){(*FaultProxy).BlackHole, func(p *FaultProxy) { p.Delay(time.Hour) }} {
		p := Proxy(t, redis.Addr())
		fault(p)
		ask(dial(t, p.Addr()), 50*time.Millisecond, "PING")
		p.Close()
	}
	eventually(t, "end of the proxy's goroutines", func() bool { return runtime.NumGoroutine() <= before })
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// ask returns the first line of the answer, or "" if none arrived in time.
func ask(conn net.Conn, wait time.Duration, command string) string {
	_ = conn.SetDeadline(time.Now().Add(wait))
	_, _ = conn.Write([]byte(command + "\r\n"))
	line, _ := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSpace(line)
}

func mustSay(t *testing.T, conn net.Conn, wait time.Duration, command, want string) {
	t.Helper()
	if got := ask(conn, wait, command); got != want {
		t.Errorf("%s: got %q, want %q", command, got, want)
	}
}
