package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/examples/internal/exampletest"
	"github.com/wxtoken/wxtoken/internal/servers"
)

func TestDemo(t *testing.T) {
	check := func(t *testing.T, env exampletest.Env) {
		out, err := env.Run(t, run)
		require.NoError(t, err)
		for _, want := range []string{
			`no ticket .*no push has come yet`,
			`ticket +pushed: Token\(redacted, expires `,
			`call +wxshop: \{"ip_list":`,
			`page +account wxschool has authorized this platform`,
			`call +wxschool: \{"ip_list":`,
			`requests +component token: 1, authorizer tokens: 2, codes: 2\n`,
		} {
			assert.Regexp(t, want, out)
		}
	}
	t.Run("memory", func(t *testing.T) { check(t, exampletest.Env{}) })
	t.Run("redis", func(t *testing.T) {
		check(t, exampletest.Env{"REDIS_URL": "redis://" + servers.Redis(t).Addr()})
	})
}

// With a real component the program serves until it is stopped.
func TestServesUntilStopped(t *testing.T) {
	addr := exampletest.FreeAddr()
	env := exampletest.Env{
		"COMPONENT_APPID": "wxcomponent", "COMPONENT_SECRET": "s", "COMPONENT_TOKEN": "t",
		"COMPONENT_AESKEY": strings.Repeat("A", 43), "ADDR": addr,
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, io.Discard, env.Get) }()
	require.Eventually(t, func() bool {
		resp, err := http.Post("http://"+addr+"/wechat/events", "text/xml", strings.NewReader("<xml/>"))
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return assert.Equal(t, http.StatusBadRequest, resp.StatusCode)
	}, 10*time.Second, 20*time.Millisecond)
	stop()
	assert.NoError(t, <-ended)
}

func TestErrorsSayWhatToSet(t *testing.T) {
	good := func(name, value string) exampletest.Env {
		env := exampletest.Env{
			"COMPONENT_APPID": "wxcomponent", "COMPONENT_SECRET": "s3cret", "COMPONENT_TOKEN": "t0ken",
			"COMPONENT_AESKEY": strings.Repeat("A", 43), "ADDR": "127.0.0.1:0",
		}
		env[name] = value
		return env
	}
	for _, test := range []struct {
		name, value, want string
	}{
		{"COMPONENT_SECRET", "", "set all of COMPONENT_APPID"},
		{"COMPONENT_AESKEY", "short", "set COMPONENT_AESKEY"},
		{"REDIS_URL", "redis://:s3cret#@x", "set REDIS_URL"},
		{"REDIS_URL", "redis://" + exampletest.FreeAddr(), "set REDIS_URL to a Redis server that answers"},
		{"ADDR", "not an address", "set ADDR"},
	} {
		_, err := good(test.name, test.value).Run(t, run)
		require.ErrorContains(t, err, test.want)
		assert.NotContains(t, err.Error(), "s3cret")
	}
}
