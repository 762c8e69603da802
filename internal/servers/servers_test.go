package servers

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain lets the test binary act as a program that starts servers and is killed.
func TestMain(m *testing.M) {
	if os.Getenv("SERVERS_TEST_VICTIM") != "" {
		p := new(Program)
		fmt.Println(Redis(p).Addr())
		fmt.Println(Memcached(p).Addr())
		select {}
	}
	goleak.VerifyTestMain(m)
}

func TestKeepsItsPort(t *testing.T) {
	for name, start := range map[string]func(TB, ...string) *Server{"redis": Redis, "memcached": Memcached} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			addr := s.Addr()
			set := map[string]string{"redis": "SET k v\r\n", "memcached": "set k 0 0 1\r\nv\r\n"}[name]
			get := map[string]string{"redis": "GET k\r\n", "memcached": "get k\r\n"}[name]
			none := map[string]string{"redis": "$-1", "memcached": "END"}[name]
			say(t, addr, set)
			if got := say(t, addr, get); got == none {
				t.Fatalf("the value was not stored: %q", got)
			}

			s.Kill()
			s.Kill()
			if listening(addr) {
				t.Error("still listening after Kill")
			}
			s.Restart()
			if s.Addr() != addr {
				t.Errorf("Restart moved from %s to %s", addr, s.Addr())
			}
			if got := say(t, addr, get); got != none {
				t.Errorf("data survived Restart: %q", got)
			}
		})
	}
}

func TestRedisPersistsWhenAsked(t *testing.T) {
	s := Redis(t, "--appendonly", "yes")
	say(t, s.Addr(), "SET k v\r\n")
	s.Restart()
	if got := say(t, s.Addr(), "GET k\r\n"); got != "$1" {
		t.Errorf("GET after Restart: %q", got)
	}
}

func TestRedisWithPassword(t *testing.T) {
	s := Redis(t, "--requirepass", "hunter2")
	if got := say(t, s.Addr(), "PING\r\n"); !strings.HasPrefix(got, "-NOAUTH") {
		t.Errorf("PING without password: %q", got)
	}
}

// Another server on the port must not be mistaken for this one: a second one on the
// same port is an error.
func TestTakenPort(t *testing.T) {
	first := Redis(t)
	second := &Server{tb: t, prog: redisProgram(t, "redis-server", nil), dir: t.TempDir(), port: first.port}
	if err := second.restart(); err == nil {
		second.Kill()
		t.Fatal("started on a taken port")
	}
}

func TestPause(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no SIGSTOP on Windows")
	}
	s := Redis(t)
	s.Pause()
	if s.answers() {
		t.Error("answered while paused")
	}
	s.Resume()
	eventually(t, "answer after Resume", s.answers)
	s.Pause() // and a paused server can still be stopped
}

// The kernel reports the end of the starting thread as the parent's end, which must
// not end the server.
func TestOutlivesTheCallersThread(t *testing.T) {
	ch := make(chan *Server)
	go func() {
		runtime.LockOSThread() // the thread ends with this goroutine
		ch <- Redis(t)
	}()
	s := <-ch
	time.Sleep(50 * time.Millisecond)
	eventually(t, "answer of a server whose starting thread has ended", s.answers)
}

func TestServersDieWithAKilledParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells a process of its parent's death")
	}
	need(t, "redis-server")
	need(t, "memcached")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SERVERS_TEST_VICTIM=1", "TMPDIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var addrs []string
	for lines := bufio.NewScanner(out); len(addrs) < 2 && lines.Scan(); {
		addrs = append(addrs, lines.Text())
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if len(addrs) != 2 {
		t.Fatalf("the victim started only %v", addrs)
	}
	for _, addr := range addrs {
		eventually(t, "end of the server on "+addr, func() bool { return !listening(addr) })
	}
}

func TestProgram(t *testing.T) {
	p := new(Program)
	s := Redis(p)
	dir := s.dir
	p.Close()
	if listening(s.Addr()) {
		t.Error("still listening after Close")
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("directory left behind: %v", err)
	}
}

func TestMissingBinary(t *testing.T) {
	for env, want := range map[string]string{"true": "Fatalf", "": "Skipf", "true but known": "Skipf"} {
		t.Run("CI="+env, func(t *testing.T) {
			ci, without, known := strings.Cut(env, " but ")
			t.Setenv("CI", ci)
			if known {
				t.Setenv("WITHOUT_SERVERS", "some-other no-such-server "+without)
			}
			tb := &recorder{TB: t}
			need(tb, "no-such-server")
			if runtime.GOOS == "windows" {
				want = "Skipf"
			}
			if !strings.HasPrefix(tb.said, want) || !strings.Contains(tb.said, "install no-such") {
				t.Errorf("got %q, want %s with what to install", tb.said, want)
			}
		})
	}
}

// recorder records how a test was first ended.
type recorder struct {
	TB
	said string
}

func (r *recorder) Fatalf(format string, args ...any) { r.end("Fatalf", format, args...) }
func (r *recorder) Skipf(format string, args ...any)  { r.end("Skipf", format, args...) }

func (r *recorder) end(how, format string, args ...any) {
	if r.said == "" {
		r.said = how + " " + fmt.Sprintf(format, args...)
	}
}

// say sends a command and returns the first line of the answer.
func say(t *testing.T, addr, command string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(readyTimeout))
	if _, err := conn.Write([]byte(command)); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func listening(addr string) bool {
	conn, err := net.Dial("tcp", addr)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(readyTimeout); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", readyTimeout, what)
		}
	}
}
