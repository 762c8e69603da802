package servers

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// readyTimeout bounds the wait for a server to answer, on a machine that is busy with
// other tests.
const readyTimeout = time.Minute

// askTimeout bounds one request.
const askTimeout = 500 * time.Millisecond

// errExited means that a server exited before it answered, as it does when its port
// is taken.
var errExited = errors.New("exited at once")

// program describes how to run a server and how to find out whether it is ready.
type program struct {
	path string
	args func(port int) []string
	ask  string   // sent over a new connection
	want []string // all must be in the answer; a %d stands for the process id

	dir   string             // "": one that is removed with the test
	ready func(pid int) bool // in place of ask and want, if not nil
	attr  func(*exec.Cmd)    // before each start; nil: nothing
}

// Server is one server process on a loopback port that stays the same for the
// Server's lifetime.
type Server struct {
	tb   TB
	prog program
	port int
	dir  string

	mu     sync.Mutex
	proc   *os.Process
	exited chan struct{} // closed when proc has ended and was waited for
}

// start runs p on a free port. If another process takes the port before p binds it,
// start tries the next one.
func start(tb TB, p program) *Server {
	tb.Helper()
	s := &Server{tb: tb, prog: p, dir: p.dir}
	if s.dir == "" {
		s.dir = tb.TempDir()
	}
	tb.Cleanup(s.Stop)
	err := errExited
	for try := 0; try < 5 && errors.Is(err, errExited); try++ {
		s.port = FreePort()
		err = s.restart()
	}
	if err != nil {
		tb.Fatalf("%v", err)
	}
	return s
}

// Addr returns the server's "127.0.0.1:port".
func (s *Server) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// Kill ends the server with SIGKILL and returns when it has exited. It does nothing
// if the server has already exited.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kill()
}

// Stop is Kill: a test's server has nothing to save.
func (s *Server) Stop() { s.Kill() }

// Restart kills the server if it runs and starts it again on the same port. Its data
// is lost, unless its arguments ask for persistence.
func (s *Server) Restart() {
	s.tb.Helper()
	deadline := time.Now().Add(readyTimeout)
	err := s.restart()
	for errors.Is(err, errExited) && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
		err = s.restart()
	}
	if err != nil {
		s.tb.Fatalf("%v", err)
	}
}

// Pause stops the server with SIGSTOP: connections stay open and nothing answers. Unix only.
func (s *Server) Pause() {
	s.tb.Helper()
	s.signal(pauseProcess)
}

// Resume continues a paused server, with SIGCONT. Unix only.
func (s *Server) Resume() {
	s.tb.Helper()
	s.signal(resumeProcess)
}

func (s *Server) signal(send func(*os.Process) error) {
	s.tb.Helper()
	s.mu.Lock()
	err := send(s.proc)
	s.mu.Unlock()
	if err != nil {
		s.tb.Fatalf("servers: signal %s: %v", s.Addr(), err)
	}
}

// restart ends the process if there is one, starts it and waits until it answers.
func (s *Server) restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kill()
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		return fmt.Errorf("servers: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(s.prog.path, s.prog.args(s.port)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, log, log
	if s.prog.attr != nil {
		s.prog.attr(cmd)
	}
	dieWithParent(cmd)

	started, exited := make(chan error), make(chan struct{})
	go func() {
		defer close(exited)
		// The kernel treats the end of the starting thread as the end of the parent:
		// keep that thread until the server has exited.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("servers: %w", err)
	}
	s.proc, s.exited = cmd.Process, exited
	if err := s.waitReady(); err != nil {
		s.kill()
		said, _ := os.ReadFile(log.Name())
		return fmt.Errorf("servers: %s on port %d: %w; it said:\n%s", s.prog.path, s.port, err, said)
	}
	return nil
}

// kill ends the process and waits for it; s.mu is held.
func (s *Server) kill() {
	if s.proc == nil {
		return
	}
	_ = s.proc.Kill() // fails only if it has exited
	<-s.exited
}

func (s *Server) waitReady() error {
	deadline := time.Now().Add(readyTimeout)
	for {
		answered := s.answers()
		select {
		case <-s.exited:
			return errExited
		default:
		}
		if answered {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready after %v", readyTimeout)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// answers asks whatever listens on the port, and looks for this server's process id,
// so that another server that took the port is not mistaken for it.
func (s *Server) answers() bool {
	conn, err := net.DialTimeout("tcp", s.Addr(), askTimeout)
	if err != nil {
		return false
	}
	defer conn.Close()
	if s.prog.ready != nil {
		return s.prog.ready(s.proc.Pid)
	}
	_ = conn.SetDeadline(time.Now().Add(askTimeout))
	if _, err := conn.Write([]byte(s.prog.ask)); err != nil {
		return false
	}
	var said []byte
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		said = append(said, buf[:n]...)
		if s.isReady(string(said)) {
			return true
		}
		if err != nil {
			return false
		}
	}
}

func (s *Server) isReady(said string) bool {
	for _, want := range s.prog.want {
		if !strings.Contains(said, strings.ReplaceAll(want, "%d", fmt.Sprint(s.proc.Pid))) {
			return false
		}
	}
	return true
}

// FreePort returns an unused port. It stays below the range from which systems pick
// local ports: otherwise a client that retries against a killed server could be given
// the server's own port, and Restart would fail. The same holds for the port 10000
// above it, where a cluster node also listens. No well-known server has its port in
// either range.
func FreePort() int { return unused(20000, 22700) }

// SparePort returns an unused port for a program that the test starts later, or for
// nobody. It is in a range of its own, so that no server that is started meanwhile
// picks it, and no client is given it.
func SparePort() int { return unused(22700, 30000) }

// unused returns an unused port from the first on, before the last.
func unused(first, last int) int {
	for {
		port := first + rand.IntN(last-first)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = l.Close()
			return port
		}
	}
}
