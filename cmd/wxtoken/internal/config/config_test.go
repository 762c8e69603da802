package config

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const good = `{
	"listen": "127.0.0.1:0",
	"store": "env:REDIS",
	"apps": [{"appid": "wx1", "secret": "env:APP"}],
	"clients": [{"name": "shop", "secret": "hush-hush-0123456789-mVq7Lx2", "apps": ["wx1"]}]
}`

func env(name string) string {
	return map[string]string{"REDIS": "redis://:env-hush@127.0.0.1:1", "APP": "app-hush-hush\n"}[name]
}

func TestStringsCanComeFromTheEnvironmentAndFromFiles(t *testing.T) {
	c, err := Parse([]byte(good), env)
	require.NoError(t, err)
	assert.Equal(t, "app-hush-hush", c.Apps[0].Secret)
	assert.Equal(t, "redis://:env-hush@127.0.0.1:1", c.Store)
	assert.Empty(t, c.Apps[0].SecretFile)
	assert.Equal(t, "token", c.Apps[0].Type)
	assert.Equal(t, "127.0.0.1:8902", c.Admin)
	assert.Empty(t, c.Warnings)

	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte("  file-hush \n"), 0o600))
	c, err = Parse([]byte(strings.Replace(good, "env:APP", "@"+file, 1)), env)
	require.NoError(t, err)
	assert.Equal(t, "file-hush", c.Apps[0].Secret)
	assert.Equal(t, file, c.Apps[0].SecretFile)
	assert.Empty(t, c.Warnings)

	require.NoError(t, os.Chmod(file, 0o644))
	c, err = Parse([]byte(strings.Replace(good, "env:APP", "@"+file, 1)), env)
	require.NoError(t, err)
	require.Len(t, c.Warnings, 1)
	assert.Contains(t, c.Warnings[0], "can be read by every user")

	_, err = Parse([]byte(good), func(string) string { return "" })
	assert.ErrorContains(t, err, "store names the environment variable REDIS, which is empty")
	_, err = Parse([]byte(strings.Replace(good, "env:APP", "@"+file+".missing", 1)), env)
	assert.ErrorContains(t, err, "apps[0].secret names a file")
	require.NoError(t, os.WriteFile(file, []byte("\n"), 0o600))
	_, err = Parse([]byte(strings.Replace(good, "env:APP", "@"+file, 1)), env)
	assert.ErrorContains(t, err, "is empty")
}

func TestErrorsNameTheMistake(t *testing.T) {
	const app, client = `{"appid": "wx1", "secret": "env:APP"}`, `{"name": "shop", "secret": "hush-hush-0123456789-mVq7Lx2", "apps": ["wx1"]}`
	with := func(field string) string { return `"appid": "wx1", ` + field }
	component := func(fields string) string {
		return `"components": [{"appid": "wxc", "secret": "hush", "token": "t", "encoding_aes_key": "0123456789012345678901234567890123456789012"` + fields + `}], "apps"`
	}
	tests := map[string]struct{ old, new, want string }{
		"no JSON":               {"{", "listen=", "is not JSON: line 1"},
		"half of a JSON":        {`"clients"`, `"clients": [{`, "is not JSON: line 5"},
		"a number":              {`"env:APP"`, "12345", "is not the JSON that the README describes"},
		"an unknown field":      {`"listen"`, `"lisen"`, `unknown field "lisen"`},
		"a field twice":         {`"listen"`, `"listen": "x", "listen"`, "listen appears twice"},
		"a field twice, deeper": {`"secret": "env:APP"`, `"secret": "env:APP", "secret": "hush"`, "apps[0].secret appears twice"},
		"two of them":           {good, good + "{}", "has data after"},
		"no address":            {"127.0.0.1:0", "8080", "host:port"},
		"no port":               {"127.0.0.1:0", "127.0.0.1:", "host:port"},
		"no socket":             {"127.0.0.1:0", "unix:", "wants a path"},
		"open to others":        {"127.0.0.1:0", "0.0.0.0:8080", "set tls"},
		"open to all":           {"127.0.0.1:0", ":8080", "set tls"},
		"half of TLS":           {`"store"`, `"tls": {"cert": "x"}, "store"`, "both cert and key"},
		"admin and clients":     {`"127.0.0.1:0"`, `"127.0.0.1:8", "admin": "127.0.0.1:8"`, "the same address"},
		"no admin address":      {`"store"`, `"admin": "on", "store"`, "admin must be"},
		"no store's URL":        {"env:REDIS", "127.0.0.1:6379", "has an unknown form"},
		"an empty host":         {"env:REDIS", "memcached://127.0.0.1:1,", "host 2"},
		"a store with a secret": {"env:REDIS", "redis://:hush/hush@127.0.0.1:1", "%2F for /"},
		"no store":              {`"store": "env:REDIS",`, "", `Set store, or type "stable", or "single": true`},
		"a negative drain":      {`"store"`, `"drain_seconds": -1, "store"`, "drain_seconds must be 0 to 300"},
		"a drain of days":       {`"store"`, `"drain_seconds": 86400, "store"`, "drain_seconds must be 0 to 300"},
		"negative connections":  {`"store"`, `"max_connections": -1, "store"`, "max_connections is negative"},
		"endless reports":       {`"store"`, `"reports_per_minute": 1000000, "store"`, "reports_per_minute must be"},
		"a key of 3 bytes":      {`"store"`, `"encryption": ["hush"], "store"`, "encryption[0]: a key has 32 bytes"},
		"a key of zeros":        {`"store"`, `"encryption": ["` + strings.Repeat("0", 64) + `"], "store"`, "a key of zeros"},
		"plain without keys":    {`"store"`, `"plain_records": true, "store"`, "needs encryption"},
		"no apps":               {app, "", "apps is empty"},
		"an app with no name":   {`"appid": "wx1"`, `"appid": ""`, "apps[0] needs appid"},
		"an app of a path":      {`"appid": "wx1"`, `"appid": "wx1/../wx2"`, "up to 64 letters"},
		"an app twice":          {`"env:APP"}`, `"env:APP"}, {"appid": "wx1", "secret": "hush"}`, "wx1 appears twice"},
		"an unknown type":       {`"appid": "wx1"`, with(`"type": "hush"`), `apps[0].type must be`},
		"a ticket of another":   {`"appid": "wx1"`, with(`"tickets": ["agent_config"]`), `has ["jsapi" "wx_card" "2"], not "agent_config"`},
		"a ticket twice":        {`"appid": "wx1"`, with(`"tickets": ["jsapi", "jsapi"]`), `"jsapi" appears twice`},
		"no base URL":           {`"appid": "wx1"`, with(`"base_url": "api.weixin.qq.com"`), "apps[0]: base_url is not of the form"},
		"a base URL's password": {`"appid": "wx1"`, with(`"base_url": "https://u:hush@h"`), "apps[0]: base_url is not of the form"},
		"a plain base URL":      {`"appid": "wx1"`, with(`"base_url": "http://proxy.example"`), "could read the secret"},
		"a blank at the end":    {`"appid": "wx1"`, with(`"id": "wx1 "`), "apps[0].id has a blank"},
		"half a component":      {`"apps"`, `"components": [{"appid": "wxc"}], "apps"`, "components[0] needs"},
		"a component's key":     {`"apps"`, strings.Replace(component(""), "012345", "0", 1), "43 characters"},
		"a component's name":    {`"apps"`, strings.Replace(component(""), "wxc", "wx1", 1), "wx1 appears twice"},
		"an authorizer's name":  {`"apps"`, component(`, "authorizers": ["*"]`), "is not an appid"},
		"no clients":            {client, "", "clients is empty"},
		"a short secret":        {"hush-hush-0123456789-mVq7Lx2", "hush-hush", "under 16 characters"},
		"a weak secret":         {"hush-hush-0123456789-mVq7Lx2", "passwordpassword1234", "can be guessed"},
		"a secret with blanks":  {"hush-hush-0123456789-mVq7Lx2", "hush hush 0123456789 mVq7Lx2", "has a blank"},
		"the app's secret":      {`"env:APP"`, `"hush-hush-0123456789-mVq7Lx2"`, "is the same as apps[0].secret"},
		"a secret twice":        {`{"name"`, strings.Replace(client, "shop", "x", 1) + `, {"name"`, "clients[1].secret is the same as clients[0].secret"},
		"a name twice":          {`{"name"`, strings.Replace(client, "hush-hush", "hush-rush", 1) + `, {"name"`, "a unique name"},
		"a client of no apps":   {`["wx1"]`, "[]", "clients[0].apps is empty"},
		"an unknown app":        {`["wx1"]`, `["wx2"]`, `"wx2" is not among apps`},
		"a relative path":       {`["wx1"]`, `["wx1"], "proxy": ["cgi-bin/x"]`, "must begin with /"},
		"a pattern":             {`["wx1"]`, `["wx1"], "proxy": ["/cgi-bin/*/x"]`, "must be a path, or all below one"},
		"half a name":           {`["wx1"]`, `["wx1"], "proxy": ["/cgi-bin/mess*"]`, "must be a path, or all below one"},
		"a path that climbs":    {`["wx1"]`, `["wx1"], "proxy": ["/wxa/../cgi-bin/*"]`, "/.. in it"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, good, test.old)
			_, err := Parse([]byte(strings.Replace(good, test.old, test.new, 1)), env)
			require.ErrorContains(t, err, test.want)
			assert.NotContains(t, err.Error(), "hush-hush")
			assert.NotContains(t, err.Error(), "hush@")
			assert.True(t, strings.HasPrefix(err.Error(), "wxtoken: "), err)
		})
	}
}

func TestUnwiseSettingsAreWarnedAbout(t *testing.T) {
	tests := map[string]struct{ old, new, want string }{
		"skip_verify":         {"env:REDIS", "rediss://redis.example?skip_verify=true", "skip_verify"},
		"a password in clear": {"env:REDIS", "redis://:hush@redis.example", "no TLS"},
		"a page for all":      {`"store"`, `"admin": ":8902", "store"`, "over http"},
		"single, no store":    {`"store": "env:REDIS"`, `"single": true`, ""},
		"stable, no store":    {`"store": "env:REDIS", "apps": [{`, `"apps": [{"type": "stable", `, "a restart fetches each one again"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			text := strings.ReplaceAll(good, "\n\t", " ")
			require.Contains(t, text, test.old)
			c, err := Parse([]byte(strings.Replace(text, test.old, test.new, 1)), env)
			require.NoError(t, err)
			if test.want == "" {
				assert.Empty(t, c.Warnings)
				return
			}
			require.Len(t, c.Warnings, 1)
			assert.Contains(t, c.Warnings[0], test.want)
			assert.NotContains(t, c.Warnings[0], "hush")
		})
	}

	file := filepath.Join(t.TempDir(), "config.json")
	read := func(mode os.FileMode, text string) []string {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		require.NoError(t, os.Chmod(file, mode))
		c, err := ReadFile(file, env)
		require.NoError(t, err)
		return c.Warnings
	}
	inline := strings.Replace(good, "env:APP", "hush", 1)
	assert.Empty(t, read(0o640, inline))
	if assert.Len(t, read(0o644, inline), 1) {
		assert.Contains(t, read(0o644, inline)[0], "chmod o-r")
	}
	_, err := ReadFile(file+".missing", env)
	assert.ErrorContains(t, err, "give -config a file that can be read")
}

// Secrets that can be guessed are rejected, and random ones are not.
func TestSecretsOfLowEntropy(t *testing.T) {
	for _, weak := range []string{
		"aaaaaaaaaaaaaaaaaaaaaaaa", "abcdefghijklmnopqrstuvwxyz", "1234567890123456", "0123456789abcdef", "passwordpassword",
		"changeme-changeme-changeme", "secretsecretsecret", "qwertyuiopasdfghjkl", "wxtoken-secret-token", "xyxyxyxyxyxyxyxyxyxy",
		"2026202620262026", "shop-shop-shop-shop-1", "fedcba9876543210", "testtesttesttest12", "k9k9k9k9k9k9k9k9k9k9k9k9k9k9k9",
		"", "short", "Zq8!kR", "x7Kq-é-mVq7Lx2-pW9s", strings.Repeat("ab", 500),
	} {
		assert.Error(t, CheckSecret(weak), weak)
	}
	weakest := 1000.0
	for range 20_000 {
		raw := make([]byte, 32)
		_, _ = rand.Read(raw)
		for _, strong := range []string{hex.EncodeToString(raw), base64.StdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw[:18]), rand.Text()} {
			require.NoError(t, CheckSecret(strong), strong)
			weakest = min(weakest, strength(strong))
		}
	}
	t.Logf("the weakest of 80,000 drawn at random: %.0f bits", weakest)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(`{"apps":[{"appid":"wx1","secret":"@/dev/null"}],"apps":[]}`))
	f.Add([]byte("\ufeff{}"))
	f.Add([]byte(`[[[[`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if strings.Contains(string(text), "@") || strings.Contains(string(text), "memcached") || strings.Contains(string(text), `\u`) {
			t.Skip("reads files, or asks DNS")
		}
		c, err := Parse(text, env)
		if err != nil {
			assert.True(t, strings.HasPrefix(err.Error(), "wxtoken: "), err)
			return
		}
		assert.NotEmpty(t, c.Apps)
		assert.NotEmpty(t, c.Clients)
	})
}
