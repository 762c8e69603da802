//go:build unix

package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/wxtest"
)

// A served program is wxtoken serve as a process.
type served struct {
	*exec.Cmd
	t           *testing.T
	config, url string
	stderr      *syncBuffer
}

// configuration returns that of a server of wx1.
func configuration(platform *wxtest.Server, change func(c map[string]any)) string {
	c := map[string]any{
		"listen": "127.0.0.1:0", "admin": "off", "single": true,
		"apps":    []any{map[string]any{"appid": "wx1", "secret": appSecret, "base_url": platform.URL}},
		"clients": []any{map[string]any{"name": "shop", "secret": shopSecret, "apps": []string{"wx1"}}},
	}
	if change != nil {
		change(c)
	}
	text, _ := json.Marshal(c)
	return string(text)
}

// startServe starts the program and waits until it listens.
func startServe(t *testing.T, platform *wxtest.Server, change func(c map[string]any)) *served {
	t.Helper()
	s := &served{t: t, config: file(t, "config.json", configuration(platform, change)), stderr: new(syncBuffer)}
	s.Cmd = program(t, "serve", "-config", s.config)
	s.Stderr = s.stderr
	require.NoError(t, s.Start())
	t.Cleanup(func() { _ = s.Process.Kill(); _ = s.Wait() })
	s.url = "http://" + s.awaits(`"msg":"listening","address":"([^"]*)"`)
	return s
}

// awaits waits until the log contains this, and returns the text in the parentheses.
func (s *served) awaits(says string) string {
	s.t.Helper()
	var found []string
	require.Eventually(s.t, func() bool {
		found = regexp.MustCompile(says).FindStringSubmatch(s.stderr.String())
		return found != nil
	}, 20*time.Second, 5*time.Millisecond, "%s\n%s", says, lazily(s.stderr.String))
	return found[len(found)-1]
}

// lazily is for the message of a failure.
type lazily func() string

func (l lazily) String() string { return l() }

func (s *served) token(appID string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequest("GET", s.url+"/token?appid="+appID, nil)
	require.NoError(s.t, err)
	req.Header.Set("Authorization", "Bearer "+shopSecret)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(s.t, err)
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

func TestSignals(t *testing.T) {
	t.Parallel()
	platform := fakePlatform(t)
	platform.AddApp("wx2", appSecret)
	s := startServe(t, platform, nil)
	status, text := s.token("wx1")
	assert.Equal(t, 200, status, text)
	status, _ = s.token("wx2")
	assert.Equal(t, 403, status)

	// SIGHUP: a bad file changes nothing.
	require.NoError(t, os.WriteFile(s.config, []byte(`{"listen":`), 0o600))
	require.NoError(t, s.Process.Signal(syscall.SIGHUP))
	s.awaits("the new configuration is invalid; the server keeps the previous one.*is not JSON")
	status, _ = s.token("wx1")
	assert.Equal(t, 200, status)

	// A good one adds an app.
	require.NoError(t, os.WriteFile(s.config, []byte(configuration(platform, func(c map[string]any) {
		c["apps"] = append(c["apps"].([]any), map[string]any{"appid": "wx2", "secret": appSecret, "base_url": platform.URL})
		c["clients"].([]any)[0].(map[string]any)["apps"] = []string{"wx1", "wx2"}
	})), 0o600))
	require.NoError(t, s.Process.Signal(syscall.SIGHUP))
	s.awaits(`configuration reloaded","apps":2,"added":1,"removed":0`)
	status, text = s.token("wx2")
	assert.Equal(t, 200, status, text)

	require.NoError(t, s.Process.Signal(syscall.SIGTERM))
	assert.NoError(t, s.Wait())
	assert.Contains(t, s.stderr.String(), `"msg":"stopped"`)
	assert.NotContains(t, s.stderr.String(), appSecret)
	assert.NotContains(t, s.stderr.String(), shopSecret)
}

// A second signal waits neither for drain_seconds nor for requests.
func TestASecondSignalStopsAtOnce(t *testing.T) {
	t.Parallel()
	for _, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		s := startServe(t, fakePlatform(t), func(c map[string]any) { c["drain_seconds"] = 60 })
		require.NoError(t, s.Process.Signal(signal))
		s.awaits("a second signal stops the server at once")
		status, _ := s.token("wx1")
		assert.Equal(t, 200, status, "it still serves")
		start := time.Now()
		require.NoError(t, s.Process.Signal(signal))
		assert.NoError(t, s.Wait())
		assert.Less(t, time.Since(start), 5*time.Second)
	}
}

func TestStartFailures(t *testing.T) {
	t.Parallel()
	platform := fakePlatform(t)
	s := startServe(t, platform, nil)
	taken := strings.TrimPrefix(s.url, "http://")
	for says, change := range map[string]func(c map[string]any){
		"cannot listen on " + taken:           func(c map[string]any) { c["listen"] = taken },
		`set admin to another address, or to`: func(c map[string]any) { c["admin"] = taken },
		"missing.pem":                         func(c map[string]any) { c["tls"] = map[string]any{"cert": "missing.pem", "key": "missing.pem"} },
	} {
		r := cli(t, nil, "serve", "-config", file(t, "config.json", configuration(platform, change)))
		assert.Equal(t, exitFailed, r.status)
		assert.Contains(t, r.stderr, says)
	}
}

// The lines that serve -demo prints work as they are.
func TestDemoLinesWork(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"sh", "curl"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is not installed", name)
		}
	}
	cmd := program(t, "serve", "-demo", "-listen", "127.0.0.1:0")
	out := new(syncBuffer)
	cmd.Stdout, cmd.Stderr = out, new(syncBuffer)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	require.Eventually(t, func() bool { return strings.Contains(out.String(), "Ctrl-C stops it.") }, 20*time.Second, 10*time.Millisecond)
	lines := regexp.MustCompile(`(?m)^  \S.*?  (curl .*|http://\S+)$`).FindAllStringSubmatch(out.String(), -1)
	require.Len(t, lines, 4, out.String())
	for i, want := range []string{`"expires_in":7`, `"ip_list"`, `"access_token"`, "<h2>wxdemo</h2>"} {
		line := lines[i][1]
		if strings.HasPrefix(line, "http") {
			line = "curl " + line
		}
		said, err := exec.CommandContext(t.Context(), "sh", "-c", strings.Replace(line, "curl ", "curl -sS ", 1)).CombinedOutput()
		require.NoError(t, err, "%s\n%s", line, said)
		assert.Contains(t, string(said), want, line)
	}
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	assert.NoError(t, cmd.Wait())
}
