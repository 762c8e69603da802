package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/servers"
)

// example runs the program with this REDIS_URL.
func example(t *testing.T, url string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := run(t.Context(), &out, func(name string) string { return map[string]string{"REDIS_URL": url}[name] })
	return out.String(), err
}

func TestTwoProcessesShareOneToken(t *testing.T) {
	addr := servers.Redis(t).Addr()
	for range 2 { // what the first run leaves is no hindrance
		out, err := example(t, "redis://"+addr)
		require.NoError(t, err)
		assert.Regexp(t, `shared .*the same token: true; fetches: 1\n`, out)
		assert.Regexp(t, `key +wxtoken:token:wxfake\w+, ends in 3h0m0s`, out)
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
	cert, key := certificate(t)
	_, port, err := net.SplitHostPort(freeAddr(t))
	require.NoError(t, err)
	servers.Redis(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no")

	// The certificate is nobody's but the test's.
	out, err := example(t, "rediss://127.0.0.1:"+port+"?skip_verify=true")
	require.NoError(t, err)
	assert.Contains(t, out, "TLS true")
	assert.Contains(t, out, "fetches: 1\n")

	_, err = example(t, "rediss://127.0.0.1:"+port)
	require.ErrorContains(t, err, "certificate")
}

func TestEachMistakeSaysWhatToSet(t *testing.T) {
	for url, want := range map[string]string{
		"":                                  "set REDIS_URL, for example",
		"redis://:half/secret@127.0.0.1:1":  "write %40 for @",
		"redis://:half#secret@127.0.0.1:1":  "write %40 for @",
		"127.0.0.1:6379":                    "is not of the form",
		"http://127.0.0.1:6379":             "is not of the form",
		"redis://127.0.0.1:1/secret":        "is not of the form",
		"redis://:secret@" + freeAddr(t):    "set REDIS_URL to a Redis server that answers",
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

// freeAddr is a loopback address where nobody listens.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// certificate makes a self-signed one and gives the files of it and its key.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(t.TempDir(), name)
		block := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		require.NoError(t, os.WriteFile(path, block, 0o600), fmt.Sprint("writing ", name))
		return path
	}
	return write("cert.pem", "CERTIFICATE", cert), write("key.pem", "PRIVATE KEY", private)
}
