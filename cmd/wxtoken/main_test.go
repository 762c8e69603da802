package main

import (
	"os"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Each subcommand prints what is wrong and what to do to stderr, and exits with
// status 2.
func TestBadInput(t *testing.T) {
	goodKey := file(t, "key", strings.Repeat("ab", 32))
	tests := map[string]struct {
		args []string
		says string
	}{
		"nothing":                   {nil, "usage: wxtoken COMMAND"},
		"an unknown command":        {[]string{"sreve"}, `unknown command "sreve"`},
		"serve: nothing":            {[]string{"serve"}, "give it a configuration: -config FILE, or its JSON in WXTOKEN_CONFIG; or try -demo"},
		"serve: an unknown flag":    {[]string{"serve", "-x"}, "flag provided but not defined: -x"},
		"serve: an argument":        {[]string{"serve", "config.json"}, `unexpected argument "config.json": see wxtoken serve -h`},
		"serve: no file":            {[]string{"serve", "-config", "/no/such/file"}, "give -config a file that can be read"},
		"serve: a bad file":         {[]string{"serve", "-check", "-config", file(t, "c", "{")}, "is not JSON: line 1"},
		"serve: demo and file":      {[]string{"serve", "-demo", "-config", "x"}, "omit -config"},
		"doctor: nothing":           {[]string{"doctor"}, "give it a -key, such as -key token:APPID, or -scan"},
		"doctor: no store":          {[]string{"doctor", "-key", "token:wx1"}, "give it a store with -store: redis://"},
		"doctor: no URL":            {[]string{"doctor", "-store", "127.0.0.1:6379", "-key", "token:wx1"}, "has an unknown form"},
		"doctor: no key":            {[]string{"doctor", "-store", "redis://h", "-key", "wx1"}, `"wx1" names no credential`},
		"doctor: a whole key":       {[]string{"doctor", "-store", "redis://h", "-key", "wxtoken:token:wx1"}, "leave out the prefix: -key token:wx1"},
		"doctor: no variable":       {[]string{"doctor", "-store", "env:NONE", "-key", "token:wx1"}, "environment variable NONE, which is empty"},
		"doctor: no file":           {[]string{"doctor", "-store", "@/no/such/file", "-key", "token:wx1"}, "-store names a file: open /no/such/file"},
		"doctor: watch and no key":  {[]string{"doctor", "-store", "redis://h", "-scan", "-watch"}, "give it a -key"},
		"doctor: no key file":       {[]string{"doctor", "-store", "redis://h", "-key", "token:wx1", "-key-file", "/no/such/file"}, "give -key-file a file that can be read"},
		"doctor: a bad key file":    {[]string{"doctor", "-store", "redis://h", "-key", "token:wx1", "-key-file", file(t, "k", "hush")}, "line 1: a key has 32 bytes"},
		"show: no key":              {[]string{"show", "-store", "redis://h"}, "wxtoken show: give it one -key"},
		"show: two keys":            {[]string{"show", "-store", "redis://h", "-key", "token:wx1", "-key", "token:wx2"}, "give it one -key"},
		"show: no store":            {[]string{"show", "-key", "token:wx1", "-key-file", goodKey}, "give it a store with -store"},
		"reject: no key":            {[]string{"reject", "-store", "redis://h"}, "wxtoken reject: give it one -key"},
		"reject: force of a token":  {[]string{"reject", "-force", "-store", "redis://h", "-key", "token:wx1"}, "-force is for stable:APPID"},
		"reject: force, no secret":  {[]string{"reject", "-force", "-store", "redis://h", "-key", "stable:wx1"}, "environment variable WECHAT_SECRET"},
		"reject: force, no base":    {[]string{"reject", "-force", "-secret-env", "SECRET", "-base-url", "x", "-store", "redis://h", "-key", "stable:wx1"}, "-base-url is not of the form"},
		"move: no key":              {[]string{"move", "-from", "redis://h", "-to", "redis://i"}, "wxtoken move: give it one -key"},
		"move: no source":           {[]string{"move", "-to", "redis://i", "-key", "token:wx1"}, "give it a store with -from"},
		"move: no target":           {[]string{"move", "-from", "redis://i", "-key", "token:wx1"}, "give it a store with -to"},
		"move: one store":           {[]string{"move", "-from", "redis://i", "-to", "redis://i", "-key", "token:wx1"}, "are the same store"},
		"version: an argument":      {[]string{"version", "now"}, `unexpected argument "now"`},
		"a store with a password":   {[]string{"show", "-store", "redis://:hush/hush@h", "-key", "token:wx1"}, "%2F for /"},
		"an option that is unknown": {[]string{"show", "-store", "redis://:hush@h/?x=1", "-key", "token:wx1"}, "unexpected option: x"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := cli(t, map[string]string{"SECRET": "hush"}, test.args...)
			assert.Equal(t, exitUsage, r.status, r.stderr)
			assert.Contains(t, r.stderr, test.says)
			assert.Empty(t, r.stdout)
			assert.NotContains(t, r.stderr, "hush")
		})
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"-h"}, {"--help"}} {
		r := cli(t, nil, args...)
		assert.Equal(t, exitOK, r.status)
		for _, c := range commands {
			assert.Contains(t, r.stdout, "  "+c.name)
		}
	}
	for _, c := range commands {
		r := cli(t, nil, c.name, "-h")
		assert.Equal(t, exitOK, r.status, c.name)
		if c.name != "version" {
			assert.Contains(t, r.stderr, "  -", c.name)
		}
	}
}

func TestVersion(t *testing.T) {
	r := cli(t, nil, "version")
	assert.Equal(t, exitOK, r.status)
	assert.Contains(t, r.stdout, "wxtoken ")
	assert.Contains(t, r.stdout, "go      go1.")

	info := &debug.BuildInfo{GoVersion: "go1.26.0", Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.time", Value: "2026-11-26T00:00:00Z"}, {Key: "vcs.modified", Value: "true"},
	}}
	said := describe(info)
	for _, line := range []string{"wxtoken v1.2.3\n", "commit  abc, with uncommitted changes\n", "time    2026-11-26T00:00:00Z\n", "go      go1.26.0 "} {
		assert.Contains(t, said, line)
	}
}

func TestCheckWarnsAboutUnwiseSettings(t *testing.T) {
	text, err := os.ReadFile("deploy/config.example.json")
	require.NoError(t, err)
	vars := map[string]string{"REDIS_URL": "redis://:hush@redis.example", "WX1_SECRET": "hush-1", "WX2_SECRET": "hush-2",
		"SHOP_SECRET": shopSecret, "BLOG_SECRET": "3f9c1a7e5b2d8064"}
	r := cli(t, vars, "serve", "-check", "-config", file(t, "config.json", string(text)))
	assert.Equal(t, exitOK, r.status, r.stderr)
	assert.Contains(t, r.stdout, "warn  the store's URL has a password and no TLS")
	assert.Contains(t, r.stdout, "ok    2 apps, 0 components and 2 clients")
	assert.NotContains(t, r.stdout+r.stderr, "hush")
	vars["WXTOKEN_CONFIG"] = string(text)
	assert.Equal(t, exitOK, cli(t, vars, "serve", "-check").status)
	vars["SHOP_SECRET"] = "hush-1"
	r = cli(t, vars, "serve", "-check")
	assert.Equal(t, exitUsage, r.status)
	assert.Contains(t, r.stderr, "clients[0].secret has under 16 characters")
}
