//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/config"
	"github.com/wxtoken/wxtoken/internal/servers"
	"github.com/wxtoken/wxtoken/wxtest"
)

// blocks returns the code blocks of a page in this language.
func blocks(t *testing.T, page, language string) []string {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	var found []string
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		found = append(found, m[1])
	}
	require.NotEmpty(t, found, "%s %s", page, language)
	return found
}

func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

// Every command of README.md, in order, in one shell; only the ports differ.
func TestTheCommandsOfTheREADMEWork(t *testing.T) {
	t.Parallel()
	needs(t, "sh", "curl", "openssl")
	port := func() string { return fmt.Sprint(":", servers.SparePort()) }
	ports := strings.NewReplacer(":8900", port(), ":8901", port(), ":8902", port())
	demo, err := os.ReadFile("deploy/config.demo.json")
	require.NoError(t, err)
	script := ports.Replace(strings.Join(blocks(t, "README.md", "sh"), "\n"))
	script = strings.NewReplacer("cmd/wxtoken/deploy/config.demo.json", file(t, "config.json", ports.Replace(string(demo))), " &\n", " &\npids=\"$pids $!\"\n").Replace(script)

	cmd := exec.CommandContext(t.Context(), "sh", "-c", "set -e\ntrap 'kill $pids; wait; rm -r \"$bin\"' EXIT\n"+script)
	cmd.Dir, cmd.WaitDelay = "../..", 5*time.Second
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), stderr.String())
	out := stdout.String()
	assert.Equal(t, 3, strings.Count(out, `"expires_in":7`), out) // of GET, of reject and as an SDK
	for _, says := range []string{
		"ok    1 apps, 0 components and 1 clients", `{"ip_list":`, "ok\n", `{"apps":1,"with_token":1,"stopping":false}`,
		"verdict: ok", "-token shows them",
	} {
		assert.Contains(t, out, says)
	}
	// The report is believed, and causes a fetch, if the token was a second old by then. Each fetch is counted after its
	// token is returned, and so perhaps after this was asked.
	assert.Regexp(t, `wxtoken_fetches_total\{app="wx1",result="ok"\} [012]\b`, out)
	assert.Contains(t, stderr.String(), `"msg":"stopped"`)
}

// The JSON of the README is a configuration.
func TestTheConfigurationOfTheREADMEIsValid(t *testing.T) {
	for _, block := range blocks(t, "README.md", "json") {
		if !strings.Contains(block, "listen") {
			continue
		}
		c, err := config.Parse([]byte(block), func(name string) string {
			switch name {
			case "REDIS_URL":
				return "redis://127.0.0.1:6379"
			case "WX3_AES_KEY":
				return "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
			}
			return fmt.Sprintf("%x", "k7Vq2mXw"+name)
		})
		require.NoError(t, err)
		assert.Empty(t, c.Warnings)
		return
	}
	require.Fail(t, "README.md shows no configuration")
}

func TestThePHPReaderOfRedis(t *testing.T) {
	t.Parallel()
	needs(t, "php")
	php := func(code string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "php", "-d", "display_errors=1")
		cmd.Stdin = strings.NewReader(code)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := php("<?php new Redis();"); err != nil {
		t.Skip("php has no redis extension: ", out)
	}
	platform, addr := fakePlatform(t), servers.Redis(t).Addr()
	_, token := service(t, platform, "redis://"+addr, false)
	host, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	read := blocks(t, "README.md", "php")[0] + fmt.Sprintf("\n$r = new Redis(); $r->connect('%s', %s); echo token_from_redis($r, '%%s');", host, port)
	out, err := php(fmt.Sprintf(read, "wx1"))
	require.NoError(t, err, out)
	assert.Equal(t, token, out)
	out, err = php(fmt.Sprintf(read, "wx3"))
	require.Error(t, err)
	assert.Contains(t, out, "no token at the moment")
}

// The README's description of the record, which readers in other languages rely on,
// is true.
func TestTheRecordInRedisIsAsTheREADMESays(t *testing.T) {
	t.Parallel()
	platform, addr := fakePlatform(t), servers.Redis(t).Addr()
	src, token := service(t, platform, "redis://"+addr, false)
	_, stable := service(t, platform, "redis://"+addr, true)
	client := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = client.Close() })
	read := func(key string) (record map[string]any) {
		text, err := client.Get(t.Context(), key).Bytes()
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(text, &record))
		return record
	}
	record := read("wxtoken:token:wx1")
	assert.Equal(t, 1.0, record["v"])
	assert.Equal(t, token, record["token"])
	assert.InDelta(t, time.Now().Add(2*time.Hour).UnixMilli(), record["expires_at"], 30_000)
	assert.InDelta(t, time.Now().UnixMilli(), record["issued_at"], 30_000)
	for _, absent := range []string{"rejected", "lease", "owed"} {
		assert.NotContains(t, record, absent)
	}
	assert.Equal(t, stable, read("wxtoken:stable:wx1")["token"])

	// Between a rejection and the next token.
	platform.Inject(wxtest.Latency(3 * time.Second).On(wxtest.TokenPath)) // time to look, on a busy machine, too
	time.Sleep(1100 * time.Millisecond)
	require.NoError(t, src.Invalidate(t.Context(), token))
	done := make(chan error)
	go func() { _, err := src.Token(t.Context()); done <- err }()
	assert.Eventually(t, func() bool {
		r := read("wxtoken:token:wx1")
		return r["rejected"] == true && r["lease"] != nil
	}, 5*time.Second, time.Millisecond)
	require.NoError(t, <-done)
	require.NoError(t, src.Wait(t.Context())) // a caller that has waited for a second gets the token before it is published
	record = read("wxtoken:token:wx1")
	assert.NotContains(t, record, "rejected")
	assert.NotEqual(t, token, record["token"])
}

// The deployment files match the program.
func TestDeploymentFiles(t *testing.T) {
	embedded := func(page, field string) string {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for doc := range strings.SplitSeq(string(text), "\n---\n") {
			assert.YAMLEq(t, doc, doc, page)
		}
		_, rest, found := strings.Cut(string(text), field+": |\n")
		require.True(t, found, page)
		indent := regexp.MustCompile(`^ *`).FindString(rest)
		var json strings.Builder
		for line := range strings.Lines(rest) {
			own, ok := strings.CutPrefix(line, indent)
			if !ok {
				break
			}
			json.WriteString(own)
		}
		return json.String()
	}
	secrets := t.TempDir()
	for name, value := range map[string]string{"redis_url": "rediss://:hush@redis.example:6379/0", "wx1_secret": "hush-wx1", "shop_secret": shopSecret} {
		require.NoError(t, os.WriteFile(filepath.Join(secrets, name), []byte(value+"\n"), 0o600))
	}
	for page, field := range map[string]string{"deploy/kubernetes.yaml": "config.json", "deploy/compose.yaml": "content"} {
		text := regexp.MustCompile(`@[^"]*/`).ReplaceAllString(embedded(page, field), "@"+secrets+"/")
		c, err := config.Parse([]byte(text), func(string) string { return "" })
		require.NoError(t, err, page)
		assert.Empty(t, c.Warnings, page)
		assert.Len(t, c.Apps, 1)
	}
	text, err := os.ReadFile("deploy/kubernetes.yaml")
	require.NoError(t, err)
	for _, says := range []string{"replicas: 2", "path: /healthz", "path: /readyz", "runAsNonRoot: true", "secretName: wxtoken", "readOnlyRootFilesystem: true"} {
		assert.Contains(t, string(text), says)
	}
}

// The systemd unit is valid, and its sandbox as tight as the README says.
func TestTheUnitForSystemd(t *testing.T) {
	needs(t, "systemd-analyze")
	text, err := os.ReadFile("deploy/wxtoken.service")
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	unit := file(t, "wxtoken.service", strings.ReplaceAll(string(text), "/usr/local/bin/wxtoken", self))
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", unit).CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Empty(t, strings.TrimSpace(string(out)))
	out, err = exec.CommandContext(t.Context(), "systemd-analyze", "security", "--offline=true", "--threshold=15", unit).CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Regexp(t, `Overall exposure level for wxtoken.service: 1\.[0-5] OK`, string(out))
}
