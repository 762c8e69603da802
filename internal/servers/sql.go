package servers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// postgresPlaces returns where Debian has the binaries of PostgreSQL, the newest
// last.
func postgresPlaces() []string {
	places, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // fails only for a bad pattern
	return places
}

// Postgres starts a PostgreSQL server with a new database cluster, whose user and
// database are both postgres, without a password. Restart finds the data again.
func Postgres(tb TB) *Server {
	tb.Helper()
	initdb, postgres := need(tb, "initdb", postgresPlaces()...), need(tb, "postgres", postgresPlaces()...)
	dir, data := shortDir(tb), ""
	data = filepath.Join(dir, "data")
	setup := exec.Command(initdb, "-D", data, "-U", "postgres", "--auth=trust", "--no-sync", "--locale=C", "-E", "UTF8")
	setup.Dir = dir
	if err := notAsRoot(setup, dir); err != nil {
		tb.Fatalf("servers: %v", err)
	}
	run(tb, setup)
	return start(tb, program{
		path: postgres,
		dir:  dir,
		args: func(port int) []string {
			return []string{"-D", data, "-p", fmt.Sprint(port), "-h", "127.0.0.1", "-k", dir, "-c", "shared_buffers=16MB"}
		},
		attr: func(cmd *exec.Cmd) { _ = notAsRoot(cmd, dir) },
		ready: func(pid int) bool {
			lines, _ := os.ReadFile(filepath.Join(data, "postmaster.pid"))
			said := strings.Fields(string(lines))
			return len(said) > 0 && said[0] == fmt.Sprint(pid) && said[len(said)-1] == "ready"
		},
	})
}

// MariaDB starts a MariaDB server with a database named test, open to every user of
// this machine. Restart finds the data again.
func MariaDB(tb TB) *Server {
	tb.Helper()
	install, mariadbd := need(tb, "mariadb-install-db"), need(tb, "mariadbd", "/usr/sbin")
	dir := shortDir(tb)
	data, pidFile := filepath.Join(dir, "data"), filepath.Join(dir, "pid")
	setup := exec.Command(install, "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal")
	setup.Dir = dir
	if os.Geteuid() == 0 {
		setup.Args = append(setup.Args, "--user=root")
	}
	run(tb, setup)
	return start(tb, program{
		path: mariadbd,
		dir:  dir,
		args: func(port int) []string {
			args := []string{"--no-defaults", "--datadir=" + data, "--port=" + fmt.Sprint(port), "--bind-address=127.0.0.1",
				"--socket=" + filepath.Join(dir, "socket"), "--pid-file=" + pidFile, "--skip-grant-tables",
				"--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M"}
			if os.Geteuid() == 0 {
				args = append(args, "--user=root")
			}
			return args
		},
		ready: func(pid int) bool {
			said, _ := os.ReadFile(pidFile)
			return strings.TrimSpace(string(said)) == fmt.Sprint(pid)
		},
	})
}

// shortDir creates a directory that is removed at the end, with a path that is short
// enough for a socket in it.
func shortDir(tb TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "wxtoken-")
	if err != nil {
		tb.Fatalf("servers: %v", err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func run(tb TB, cmd *exec.Cmd) {
	tb.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("servers: %s: %v\n%s", cmd.Path, err, out)
	}
}
