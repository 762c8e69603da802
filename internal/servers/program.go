package servers

import (
	"fmt"
	"log"
	"os"
	"sync"
)

// Program is the TB of a plain program, such as a benchmark or the chaos run:
//
//	p := new(servers.Program)
//	defer p.Close()
//	addr := servers.Redis(p).Addr()
//
// Its zero value is ready to use. Fatalf and Skipf clean up and end the program with
// status 1.
type Program struct {
	mu       sync.Mutex
	cleanups []func()
}

// Close runs the cleanups, the last one first: it stops every server and removes its
// directory.
func (p *Program) Close() {
	for {
		p.mu.Lock()
		n := len(p.cleanups)
		if n == 0 {
			p.mu.Unlock()
			return
		}
		last := p.cleanups[n-1]
		p.cleanups = p.cleanups[:n-1]
		p.mu.Unlock()
		last()
	}
}

// Cleanup registers f to be called by Close.
func (p *Program) Cleanup(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleanups = append(p.cleanups, f)
}

// TempDir creates a directory that Close removes.
func (p *Program) TempDir() string {
	dir, err := os.MkdirTemp("", "wxtoken-servers-")
	if err != nil {
		p.Fatalf("servers: %v", err)
	}
	p.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Helper does nothing.
func (p *Program) Helper() {}

// Logf writes to standard error.
func (p *Program) Logf(format string, args ...any) { log.Printf(format, args...) }

// Fatalf cleans up, writes to standard error and exits with status 1.
func (p *Program) Fatalf(format string, args ...any) {
	p.Logf("%s", fmt.Sprintf(format, args...))
	p.Close()
	os.Exit(1)
}

// Skipf is Fatalf: a program without its server has nothing to do.
func (p *Program) Skipf(format string, args ...any) { p.Fatalf(format, args...) }
