package servers

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// awaitTimeout bounds the wait for a group of servers to agree.
const awaitTimeout = 2 * time.Minute

// cli sends one command with redis-cli, which comes with the server, and returns the
// answer, one line for each value.
func (s *Server) cli(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout/2)
	defer cancel()
	args = append([]string{"-e", "-p", s.portString()}, args...)
	out, err := exec.CommandContext(ctx, "redis-cli", args...).CombinedOutput()
	said := strings.TrimSpace(strings.ReplaceAll(string(out), "\r", ""))
	if err != nil {
		return "", fmt.Errorf("servers: redis-cli %s: %w: %s", strings.Join(args, " "), err, said)
	}
	return said, nil
}

// says reports whether the answer to a command contains want; without an answer it
// does not.
func (s *Server) says(want string, args ...string) bool {
	said, err := s.cli(args...)
	return err == nil && strings.Contains(said, want)
}

func (s *Server) portString() string { return fmt.Sprint(s.port) }

// must sends a command that has to succeed.
func must(tb TB, s *Server, args ...string) string {
	tb.Helper()
	said, err := s.cli(args...)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	return said
}

// await polls until ok.
func await(tb TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.Now().Add(awaitTimeout)
	for !ok() {
		if time.Now().After(deadline) {
			tb.Fatalf("servers: no %[2]s within %[1]v", awaitTimeout, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
