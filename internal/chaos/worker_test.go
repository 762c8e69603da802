//go:build linux

package chaos

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/wxtoken/wxtoken/internal/servers"
)

// A window is a span of time; a zero To means that it has not ended.
type window struct{ From, To time.Time }

func (w window) meets(o window) bool {
	return (o.To.IsZero() || !w.From.After(o.To)) && (w.To.IsZero() || !o.From.After(w.To))
}

// stalled is how long nothing here ran when it should have, to be worth a word.
const stalled = fetchTimeout / 4

// watchStalls tells of each time that this process was held up, until done.
func watchStalls(done <-chan struct{}, tell func(window)) {
	for last := time.Now(); ; {
		select {
		case <-done:
			return
		case <-time.After(5 * time.Millisecond):
		}
		now := time.Now()
		if now.Sub(last) > stalled {
			tell(window{last, now})
		}
		last = now
	}
}

// A worker is one of the processes that share the token. One that ended can be
// started again, as another generation.
type worker struct {
	id     int
	config string
	hear   func(w *worker, generation int, l line)
	proxy  []*servers.FaultProxy // one to each server

	mu         sync.Mutex
	proc       *os.Process
	in         io.Closer
	exited     chan struct{}
	how        error // valid when exited is closed
	stderr     *bytes.Buffer
	generation int
}

func (w *worker) start() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), workerEnv+"="+w.config, "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	w.stderr = new(bytes.Buffer)
	cmd.Stderr = w.stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	w.generation++
	w.in, w.exited = in, make(chan struct{})
	generation, exited := w.generation, w.exited

	heard := make(chan struct{})
	started := make(chan error)
	go func() {
		// The kernel takes the end of the starting thread for the parent's end.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		<-heard
		w.how = cmd.Wait()
		close(exited)
	}()
	if err := <-started; err != nil {
		return err
	}
	w.proc = cmd.Process
	go func() {
		defer close(heard)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var l line
			if json.Unmarshal(lines.Bytes(), &l) == nil { // the last one of a killed worker is cut short
				w.hear(w, generation, l)
			}
		}
	}()
	return nil
}

// signal sends s to the worker, and waits for its end if that is what s does.
func (w *worker) signal(s syscall.Signal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.proc.Signal(s) // fails only if it has ended
	if s == syscall.SIGKILL {
		<-w.exited
	}
}

// finish lets the worker return from main.
func (w *worker) finish() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.in.Close()
	select {
	case <-w.exited:
	case <-time.After(10 * time.Second):
		_ = w.proc.Kill()
		<-w.exited
		return fmt.Errorf("worker %d did not end; it said:\n%s", w.id, w.stderr)
	}
	if w.how != nil {
		return fmt.Errorf("worker %d: %w; it said:\n%s", w.id, w.how, w.stderr)
	}
	return nil
}
