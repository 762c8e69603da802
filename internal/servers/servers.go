// Package servers starts real Redis and Memcached servers for tests, benchmarks and the chaos program.
//
// Each server runs in a directory of its own on a free loopback port, never a standard one, and ends with the process
// that started it: by Stop, by the test's cleanup or, on Linux, by the kernel when that process is killed. Elsewhere a
// process that is killed hard leaves its servers behind.
//
// Failures end the test (or Program), so the methods here belong on the goroutine that runs it.
package servers

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
)

// TB is what the starters need of a *testing.T, *testing.B or *Program.
type TB interface {
	Helper()
	Cleanup(func())
	TempDir() string
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// Redis starts a standalone redis-server that keeps nothing on disk and waits until it answers.
// extraArgs are appended to its command line and win over the defaults: "--appendonly", "yes" makes Restart find its
// data again.
func Redis(tb TB, extraArgs ...string) *Server {
	tb.Helper()
	return start(tb, redisProgram(tb, extraArgs))
}

// Memcached starts a memcached with 64 MB of memory and waits until it answers. extraArgs are appended to its command
// line: "-m", "1" makes it evict early.
func Memcached(tb TB, extraArgs ...string) *Server {
	tb.Helper()
	args := []string{"-l", "127.0.0.1", "-m", "64", "-t", "2"}
	if os.Geteuid() == 0 {
		args = append(args, "-u", "root") // memcached refuses to run as root unless told so
	}
	return start(tb, program{
		path: need(tb, "memcached"),
		args: func(port int) []string {
			return slices.Concat(args, []string{"-p", fmt.Sprint(port)}, extraArgs)
		},
		ask:  "stats\r\nversion\r\nquit\r\n",
		want: []string{"STAT pid %d\r\n", "VERSION "},
	})
}

// redisProgram describes a redis-server in any role; its readiness is asked with INFO, which names the process, and
// PING, which is refused while data is loading.
func redisProgram(tb TB, extraArgs []string) program {
	tb.Helper()
	ask := "INFO server\r\nPING\r\nQUIT\r\n"
	for i, arg := range extraArgs {
		if arg == "--requirepass" && i+1 < len(extraArgs) {
			ask = "AUTH " + extraArgs[i+1] + "\r\n" + ask
		}
	}
	return program{
		path: need(tb, "redis-server"),
		args: func(port int) []string {
			return append([]string{"--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"},
				extraArgs...)
		},
		ask:  ask,
		want: []string{"process_id:%d\r\n", "+PONG"},
	}
}

// need returns the path of a server's binary. This is the one rule for a machine without it: under CI=true the test
// fails, so that no green run hides an untested backend, and elsewhere it is skipped. Windows has neither server.
func need(tb TB, binary string) string {
	tb.Helper()
	path, err := exec.LookPath(binary)
	if err == nil {
		return path
	}
	install := fmt.Sprintf("servers: %s is not installed: `make servers` or `apt-get install %[1]s` installs it", binary)
	if runtime.GOOS == "darwin" {
		install = fmt.Sprintf("servers: %s is not installed: `brew install %s` installs it", binary,
			strings.TrimSuffix(binary, "-server"))
	}
	if os.Getenv("CI") == "true" && runtime.GOOS != "windows" {
		tb.Fatalf("%s", install)
	}
	tb.Skipf("%s", install)
	return ""
}
