package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const goodConfig = `{
	"listen": "127.0.0.1:0",
	"redis": "env:REDIS",
	"apps": [{"appid": "wx1", "secret": "env:APP"}],
	"clients": [{"name": "shop", "secret": "hush-hush-0123456789", "apps": ["wx1"]}]
}`

func testEnv(name string) string {
	return map[string]string{"REDIS": "redis://127.0.0.1:1", "APP": "app-hush-hush\n"}[name]
}

func TestStringsCanComeFromTheEnvironment(t *testing.T) {
	c, err := parseConfig([]byte(goodConfig), testEnv)
	require.NoError(t, err)
	assert.Equal(t, "app-hush-hush", c.Apps[0].Secret)
	assert.Equal(t, "redis://127.0.0.1:1", c.Redis)

	_, err = parseConfig([]byte(goodConfig), func(string) string { return "" })
	assert.ErrorContains(t, err, "environment variable REDIS, which is empty")
}

func TestTheExampleIsGood(t *testing.T) {
	text, err := os.ReadFile("config.example.json")
	require.NoError(t, err)
	_, err = parseConfig(text, func(string) string { return shopSecret })
	require.NoError(t, err)
}

func TestEachMistakeInTheConfigurationIsNamed(t *testing.T) {
	tests := map[string]struct{ old, new, want string }{
		"no JSON":             {"{", "listen=", "is not the JSON"},
		"a number":            {`"env:APP"`, "12345", "is not the JSON"},
		"an unknown field":    {`"listen"`, `"lisen"`, `unknown field "lisen"`},
		"two of them":         {goodConfig, goodConfig + "{}", "goes on after"},
		"no address":          {"127.0.0.1:0", "8080", "host:port"},
		"no socket":           {"127.0.0.1:0", "unix:", "wants a path"},
		"open to others":      {"127.0.0.1:0", "0.0.0.0:8080", "set tls"},
		"open to all":         {"127.0.0.1:0", ":8080", "set tls"},
		"half of TLS":         {`"redis"`, `"tls": {"cert": "x"}, "redis"`, "both cert and key"},
		"two caches":          {`"redis"`, `"memcached": ["127.0.0.1:1"], "redis"`, "choose one"},
		"a negative drain":    {`"redis"`, `"drain_seconds": -1, "redis"`, "negative"},
		"no apps":             {`[{"appid": "wx1", "secret": "env:APP"}]`, "[]", "apps is empty"},
		"an app with no name": {`"appid": "wx1"`, `"appid": ""`, "apps[0] needs appid"},
		"an app twice":        {`"env:APP"}`, `"env:APP"}, {"appid": "wx1", "secret": "hush"}`, "wx1 is there twice"},
		"no clients":          {`[{"name": "shop", "secret": "hush-hush-0123456789", "apps": ["wx1"]}]`, "[]", "clients is empty"},
		"a short secret":      {"hush-hush-0123456789", "hush-hush", "openssl rand"},
		"a secret twice":      {`{"name"`, `{"name": "x", "secret": "hush-hush-0123456789", "apps": ["wx1"]}, {"name"`, "of its own"},
		"a client of no apps": {`["wx1"]`, "[]", "clients[0].apps is empty"},
		"an unknown app":      {`["wx1"]`, `["wx2"]`, "wx2 is not among apps"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, goodConfig, test.old)
			_, err := parseConfig([]byte(strings.Replace(goodConfig, test.old, test.new, 1)), testEnv)
			require.ErrorContains(t, err, test.want)
			assert.NotContains(t, err.Error(), "hush")
		})
	}
}

func TestMistakesThatShowAtTheStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.json")
	write := func(old, new string) {
		require.NoError(t, os.WriteFile(file, []byte(strings.Replace(goodConfig, old, new, 1)), 0o600))
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	start := func(args ...string) (string, error) {
		var log syncBuffer
		err := run(ended, args, testEnv, &log)
		return log.String(), err
	}
	_, err := start()
	assert.ErrorContains(t, err, "TOKENSERVER_CONFIG")
	_, err = start("-config", file+".missing")
	assert.ErrorContains(t, err, "that can be read")
	write("env:REDIS", "redis://:hush/hush@127.0.0.1:1")
	_, err = start("-config", file)
	require.ErrorContains(t, err, "redis is not of the form")
	assert.NotContains(t, err.Error(), "hush")
	write(`"appid": "wx1"`, `"appid": "wx1", "base_url": "api.weixin.qq.com"`)
	_, err = start("-config", file)
	assert.ErrorContains(t, err, "base_url of app wx1")
	write("127.0.0.1:0", "192.0.2.1:1") // an address that is no machine's
	_, err = start("-config", file)
	assert.ErrorContains(t, err, "set tls")
	write(`"listen": "127.0.0.1:0"`, `"plain_http": true, "listen": "192.0.2.1:1"`)
	_, err = start("-config", file)
	assert.ErrorContains(t, err, "cannot listen on 192.0.2.1:1")
	write(`"redis": "env:REDIS"`, `"tls": {"cert": "missing.pem", "key": "missing.pem"}`)
	_, err = start("-config", file)
	assert.ErrorContains(t, err, "missing.pem")

	write("", "")
	log, err := start("-config", file)
	require.NoError(t, err)
	assert.Contains(t, log, `"msg":"listening"`)
	assert.Contains(t, log, `"msg":"stopped"`)
}

func TestTheConfigurationCanBeInTheEnvironment(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var log syncBuffer
	require.NoError(t, run(ended, nil, func(name string) string {
		if name == "TOKENSERVER_CONFIG" {
			return goodConfig
		}
		return testEnv(name)
	}, &log))
	assert.Contains(t, log.String(), `"msg":"stopped"`)
}
