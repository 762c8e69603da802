package serve

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/testcert"
	"github.com/wxtoken/wxtoken/wxtest"
)

func TestTLS(t *testing.T) {
	c := testConfig(fakePlatform(t))
	dir := t.TempDir()
	c.TLS.Cert, c.TLS.Key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	roots := x509.NewCertPool()
	first := testcert.Write(t, c.TLS.Cert, c.TLS.Key, 1)
	roots.AddCert(first)
	srv := start(t, c)
	srv.url = "https://" + srv.listener.Addr().String()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	srv.client = &http.Client{Transport: transport}
	t.Cleanup(transport.CloseIdleConnections)
	assert.NotEmpty(t, srv.token())

	// A renewed certificate is used for the next connection, without a restart,
	// but not while only one of its two files is there.
	require.NoError(t, os.WriteFile(c.TLS.Cert, []byte("half written"), 0o600))
	for range 5 {
		transport.CloseIdleConnections()
		assert.NotEmpty(t, srv.token())
	}
	assert.Equal(t, 1, strings.Count(srv.out.String(), "the certificate has changed and cannot be read"), "logged once")
	metrics := srv.do("GET", "/metrics", "", "").Errmsg
	assert.Contains(t, metrics, "tokenserver_certificate_reload_failures_total 1\n")
	assert.Contains(t, metrics, fmt.Sprintf("tokenserver_certificate_not_after_seconds %s\n", strconv.FormatFloat(float64(first.NotAfter.Unix()), 'g', -1, 64)))
	transport.CloseIdleConnections()
	roots.AddCert(testcert.Write(t, c.TLS.Cert, c.TLS.Key, 2))
	conn, err := tls.Dial("tcp", srv.listener.Addr().String(), &tls.Config{RootCAs: roots})
	require.NoError(t, err)
	defer conn.Close()
	assert.Equal(t, int64(2), conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64())

	// A client that uses http gets no token.
	resp, err := http.Get("http://" + srv.listener.Addr().String() + "/token?appid=wx1")
	require.NoError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, http.StatusBadRequest, resp.StatusCode)
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	// A server that was killed has left its socket behind.
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	require.NoError(t, err)
	stale.SetUnlinkOnClose(false)
	require.NoError(t, stale.Close())

	c := testConfig(fakePlatform(t))
	c.Listen = "unix:" + path
	srv := start(t, c)
	srv.url = "http://tokenserver"
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	srv.client = &http.Client{Transport: transport}
	t.Cleanup(transport.CloseIdleConnections)
	assert.NotEmpty(t, srv.token())
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o660), info.Mode().Perm())

	_, err = listen(c.Listen)
	assert.ErrorContains(t, err, "another server listens there")
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = listen("unix:" + file)
	assert.ErrorContains(t, err, "not a socket")
	assert.FileExists(t, file)
}

// A request in flight when the signal arrives gets its answer.
func TestGracefulStop(t *testing.T) {
	t.Parallel()
	platform := fakePlatform(t)
	lift := platform.Inject(wxtest.Latency(100 * time.Millisecond))
	c := testConfig(platform)
	c.DrainSeconds = 5
	srv := start(t, c)
	got := make(chan string)
	go func() { got <- srv.token() }()
	require.Eventually(t, func() bool { return platform.Stats().Faults["latency"] > 0 }, 5*time.Second, time.Millisecond)
	srv.stop()
	assert.NotEmpty(t, <-got)
	lift()

	// While it drains it still serves, and reports that it is not ready.
	assert.NotEmpty(t, srv.token())
	assert.Equal(t, http.StatusServiceUnavailable, srv.do("GET", "/readyz", "", "").Status)
	require.NoError(t, <-srv.done)
	srv.done <- nil
	// A Dial may still succeed: a program that another test is starting holds the
	// socket as well, between its fork and its exec.
	assert.ErrorIs(t, srv.listener.Close(), net.ErrClosed, "still open")
}
