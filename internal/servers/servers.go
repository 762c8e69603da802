// Package servers starts real servers for tests, benchmarks and the chaos program:
// Redis, Valkey, Memcached, PostgreSQL and MariaDB.
//
// Each server runs in a directory of its own on a free loopback port, never a
// standard one, and ends with the process that started it: by Stop, by the test's
// cleanup or, on Linux, by the kernel when that process is killed. On other systems a
// killed process leaves its servers behind.
//
// Failures end the test (or Program), so call the methods here on the goroutine that
// runs it.
package servers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// TB is the part of *testing.T, *testing.B or *Program that the starters need.
type TB interface {
	Helper()
	Cleanup(func())
	TempDir() string
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// Redis starts a standalone redis-server without persistence and waits until it
// answers. extraArgs are appended to its command line and override the defaults: with
// "--appendonly", "yes", Restart finds the data again.
func Redis(tb TB, extraArgs ...string) *Server {
	tb.Helper()
	return start(tb, redisProgram(tb, "redis-server", extraArgs))
}

// Valkey is Redis with a valkey-server.
func Valkey(tb TB, extraArgs ...string) *Server {
	tb.Helper()
	return start(tb, redisProgram(tb, "valkey-server", extraArgs))
}

// Memcached starts a memcached with 64 MB of memory and waits until it answers.
// extraArgs are appended to its command line: "-m", "1" makes it evict early.
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

// redisProgram describes a redis-server in any role; it is ready when INFO, which
// names the process, and PING, which fails while data is loading, succeed.
func redisProgram(tb TB, binary string, extraArgs []string) program {
	tb.Helper()
	ask := "INFO server\r\nPING\r\nQUIT\r\n"
	for i, arg := range extraArgs {
		if arg == "--requirepass" && i+1 < len(extraArgs) {
			ask = "AUTH " + extraArgs[i+1] + "\r\n" + ask
		}
	}
	return program{
		path: need(tb, binary),
		args: func(port int) []string {
			return append([]string{"--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"},
				extraArgs...)
		},
		ask:  ask,
		want: []string{"process_id:%d\r\n", "+PONG"},
	}
}

// Version returns the version that a server's binary prints, such as 7.0.15.
func Version(tb TB, binary string) string {
	tb.Helper()
	out, err := exec.Command(need(tb, binary), "--version").CombinedOutput()
	version := regexp.MustCompile(`\d+(\.\d+)+`).FindString(string(out))
	if err != nil || version == "" {
		tb.Fatalf("servers: %s --version: %v\n%s", binary, err, out)
	}
	return version
}

// need returns the path of a server's binary. If it is missing, the test fails under
// CI=true, so that no green run hides an untested backend, unless WITHOUT_SERVERS
// names the binary; elsewhere it is skipped. Windows has no servers. others are
// directories to search that may not be in PATH.
func need(tb TB, binary string, others ...string) string {
	tb.Helper()
	path, err := exec.LookPath(binary)
	for _, dir := range others {
		if err != nil {
			path, err = exec.LookPath(filepath.Join(dir, binary))
		}
	}
	if err == nil {
		return path
	}
	install := fmt.Sprintf("servers: %s is not installed: `make servers` or `apt-get install %s` installs it", binary, packageOf(binary))
	if runtime.GOOS == "darwin" {
		install = fmt.Sprintf("servers: %s is not installed: `brew install %s` installs it", binary,
			strings.TrimSuffix(packageOf(binary), "-server"))
	}
	known := slices.Contains(strings.Fields(os.Getenv("WITHOUT_SERVERS")), binary)
	if os.Getenv("CI") == "true" && runtime.GOOS != "windows" && !known {
		tb.Fatalf("%s", install)
	}
	tb.Skipf("%s", install)
	return ""
}

// packageOf names the Debian package that has a binary.
func packageOf(binary string) string {
	switch binary {
	case "initdb", "postgres":
		return "postgresql"
	case "mariadbd", "mariadb-install-db":
		return "mariadb-server"
	}
	return binary
}
