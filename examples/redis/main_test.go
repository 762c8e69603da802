package main

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/examples/internal/exampletest"
	"github.com/wxtoken/wxtoken/internal/servers"
	"github.com/wxtoken/wxtoken/internal/testcert"
)

// example runs the program with this REDIS_URL.
func example(t *testing.T, url string) (string, error) {
	t.Helper()
	return exampletest.Env{"REDIS_URL": url}.Run(t, run)
}

func TestTwoProcessesShareOneToken(t *testing.T) {
	addr := servers.Redis(t).Addr()
	for range 2 { // what the first run leaves is harmless
		out, err := example(t, "redis://"+addr)
		require.NoError(t, err)
		assert.Regexp(t, `shared .*the same token: true; fetches: 1\n`, out)
		assert.Regexp(t, `key +wxtoken:token:wxfake\w+, expires in 3h0m0s`, out)
	}
}

func TestPasswordAndDatabaseComeFromTheURL(t *testing.T) {
	addr := servers.Redis(t, "--requirepass", "p@ss/word").Addr()
	out, err := example(t, "redis://:p%40ss%2Fword@"+addr+"/5")
	require.NoError(t, err)
	assert.Contains(t, out, "database 5, TLS false")
	assert.Contains(t, out, "fetches: 1\n")

	_, err = example(t, "redis://:wrong-password@"+addr)
	require.ErrorContains(t, err, "set REDIS_URL")
	require.ErrorContains(t, err, "WRONGPASS")
	assert.NotContains(t, err.Error(), "wrong-password")
}

func TestTLSComesFromTheURL(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	testcert.Write(t, cert, key, 1)
	_, port, err := net.SplitHostPort(exampletest.FreeAddr())
	require.NoError(t, err)
	servers.Redis(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no")

	// The certificate is the test's own.
	out, err := example(t, "rediss://127.0.0.1:"+port+"?skip_verify=true")
	require.NoError(t, err)
	assert.Contains(t, out, "TLS true")
	assert.Contains(t, out, "fetches: 1\n")

	_, err = example(t, "rediss://127.0.0.1:"+port)
	require.ErrorContains(t, err, "certificate")
}

func TestErrorsSayWhatToSet(t *testing.T) {
	nobody := exampletest.FreeAddr()
	for url, want := range map[string]string{
		"":                                  "set REDIS_URL, for example",
		"redis://:half/secret@127.0.0.1:1":  "write %40 for @",
		"redis://:half#secret@127.0.0.1:1":  "write %40 for @",
		"127.0.0.1:6379":                    "is not of the form",
		"http://127.0.0.1:6379":             "is not of the form",
		"redis://127.0.0.1:1/secret":        "is not of the form",
		"redis://:secret@" + nobody:         "set REDIS_URL to a Redis server that answers",
		"redis://:secret@127.0.0.1:1/0?x=y": "is not of the form",
	} {
		t.Run(url, func(t *testing.T) {
			_, err := example(t, url)
			require.ErrorContains(t, err, want)
			assert.NotContains(t, err.Error(), "secret")
			assert.NotContains(t, err.Error(), "half")
		})
	}
}
