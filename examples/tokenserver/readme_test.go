package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
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

	"github.com/wxtoken/wxtoken/examples/internal/exampletest"
	"github.com/wxtoken/wxtoken/internal/servers"
	"github.com/wxtoken/wxtoken/wxtest"
)

// blocks gives the code blocks of README.md in this language.
func blocks(t *testing.T, language string) []string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	var found []string
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		found = append(found, m[1])
	}
	require.NotEmpty(t, found)
	return found
}

func needs(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is not installed", program)
	}
}

// Every command of README.md, in order, in one shell; only the ports differ.
func TestTheCommandsOfTheREADMEWork(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"sh", "curl", "openssl"} {
		needs(t, program)
	}
	ports := strings.NewReplacer(":8900", ":"+freePort(t), ":8901", ":"+freePort(t))
	example, err := os.ReadFile("config.example.json")
	require.NoError(t, err)
	config := filepath.Join(t.TempDir(), "config.json")
	require.NoError(t, os.WriteFile(config, []byte(ports.Replace(string(example))), 0o600))
	script := ports.Replace(strings.Join(blocks(t, "sh"), "\n"))
	script = strings.NewReplacer("config.example.json", config, " &\n", " &\npids=\"$pids $!\"\n").Replace(script)

	cmd := exec.Command("sh", "-c", "set -e\ntrap 'kill $pids; wait; rm -r \"$bin\"' EXIT\n"+script)
	cmd.Dir, cmd.WaitDelay = "../..", 5*time.Second
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), stderr.String())
	assert.Equal(t, 2, strings.Count(stdout.String(), `"expires_in":7`), stdout.String()) // of GET and of reject
	assert.Contains(t, stdout.String(), "ok\n")
	assert.Contains(t, stdout.String(), `{"apps":1,"stopping":false,"with_token":1}`)
	assert.Contains(t, stdout.String(), `wxtoken_fetches_total{app="wxdemo",result="ok"} 1`)
	assert.Contains(t, stderr.String(), `"msg":"stopped"`)
}

// The JSON of the README is a configuration.
func TestTheConfigurationOfTheREADMEIsGood(t *testing.T) {
	for _, block := range blocks(t, "json") {
		if strings.Contains(block, "listen") {
			_, err := parseConfig([]byte(block), func(name string) string { return "value-of-variable-" + name })
			require.NoError(t, err)
			return
		}
	}
	require.Fail(t, "README.md shows no configuration")
}

func TestThePHPClientHealsARefusedToken(t *testing.T) {
	t.Parallel()
	needs(t, "php")
	platform := fakePlatform(t)
	srv := start(t, testConfig(platform))
	first := srv.token()
	platform.Revoke(first)
	time.Sleep(believed)

	out, err := php(t, blocks(t, "php")[0]+fmt.Sprintf("\necho json_encode(wechat('wx1', '/cgi-bin/get_api_domain_ip', '%s'));", platform.URL),
		"TOKENSERVER="+srv.url, "SHOP_SECRET="+shopSecret)
	require.NoError(t, err, out)
	assert.Contains(t, out, "ip_list")
	assert.NotEqual(t, first, platform.Latest("wx1"))

	out, err = php(t, blocks(t, "php")[0]+"\nwechat('wx1', '/');", "TOKENSERVER="+srv.url, "SHOP_SECRET=wrong")
	require.Error(t, err)
	assert.Contains(t, out, "token server: the bearer secret")
}

func TestThePHPReaderOfRedis(t *testing.T) {
	t.Parallel()
	needs(t, "php")
	if out, err := php(t, "<?php new Redis();"); err != nil {
		t.Skip("php has no redis extension: ", out)
	}
	c := testConfig(fakePlatform(t))
	addr := servers.Redis(t).Addr()
	c.Redis = "redis://" + addr
	srv := start(t, c)
	token := srv.token()
	host, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	read := blocks(t, "php")[1] + fmt.Sprintf("\n$r = new Redis(); $r->connect('%s', %s); echo token_from_redis($r, '%%s');", host, port)

	out, err := php(t, fmt.Sprintf(read, "wx1"))
	require.NoError(t, err, out)
	assert.Equal(t, token, out)
	out, err = php(t, fmt.Sprintf(read, "wx3"))
	require.Error(t, err)
	assert.Contains(t, out, "no token at the moment")
}

func php(t *testing.T, code string, env ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("php", "-d", "display_errors=1")
	cmd.Stdin, cmd.Env = strings.NewReader(code), append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// What README.md says of the record is what others rely on.
func TestTheRecordInRedisIsAsTheREADMESays(t *testing.T) {
	t.Parallel()
	platform := fakePlatform(t)
	c := testConfig(platform)
	addr := servers.Redis(t).Addr()
	c.Redis = "redis://" + addr
	srv := start(t, c)
	token := srv.token()
	srv.do("GET", "/token?appid=wx2", blogSecret, "")

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
	assert.Equal(t, platform.LatestStable("wx2"), read("wxtoken:stable:wx2")["token"])

	// Between a refusal and the next token.
	platform.Inject(wxtest.Latency(time.Second).On(wxtest.TokenPath))
	time.Sleep(believed)
	done := make(chan answer)
	go func() { done <- srv.reject(token) }()
	assert.Eventually(t, func() bool {
		r := read("wxtoken:token:wx1")
		return r["rejected"] == true && r["lease"] != nil
	}, 5*time.Second, time.Millisecond)
	assert.Equal(t, http.StatusOK, (<-done).Status)
	record = read("wxtoken:token:wx1")
	assert.NotContains(t, record, "rejected")
	assert.NotEqual(t, token, record["token"])
}

func freePort(t *testing.T) string {
	t.Helper()
	_, port, err := net.SplitHostPort(exampletest.FreeAddr(t))
	require.NoError(t, err)
	return port
}
