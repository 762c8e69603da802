package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/wxtest"
)

const (
	appSecret  = "secret-of-the-apps-0123456789"
	shopSecret = "k7Vq2mXw9Rt4Hs8Zp3Ln6Bc1"
)

// The tests of real processes run this test binary as wxtoken.
func TestMain(m *testing.M) {
	if os.Getenv("WXTOKEN_BE_THE_PROGRAM") != "" {
		main()
	}
	os.Exit(m.Run())
}

// program returns wxtoken as a process of its own.
func program(t *testing.T, args ...string) *exec.Cmd {
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), "WXTOKEN_BE_THE_PROGRAM=1", "WXTOKEN_STORE=", "WXTOKEN_CONFIG=")
	return cmd
}

// A result is the output of a command.
type result struct {
	status         int
	stdout, stderr string
}

// cli runs a command in this process. vars are its environment.
func cli(t *testing.T, vars map[string]string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	env := environment{&stdout, &stderr, func(name string) string { return vars[name] }, make(chan os.Signal, 8)}
	status := run(t.Context(), env, args)
	return result{status, stdout.String(), stderr.String()}
}

// fakePlatform has the app wx1.
func fakePlatform(t *testing.T, opts ...wxtest.Option) *wxtest.Server {
	t.Helper()
	srv := wxtest.NewServer(append([]wxtest.Option{wxtest.WithApp("wx1", appSecret)}, opts...)...)
	t.Cleanup(srv.Close)
	return srv
}

// file creates a file for the test.
func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// A syncBuffer is a bytes.Buffer for several goroutines.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
