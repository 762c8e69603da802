package serve

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/wxtest"
)

// Neither idle connections nor half a request lock anybody out.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	c := testConfig(fakePlatform(t))
	c.MaxConnections = 20
	srv := start(t, c)
	dial := func(send string) net.Conn {
		conn, err := net.Dial("tcp", srv.Addr())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = io.WriteString(conn, send)
		require.NoError(t, err)
		return conn
	}
	idle := dial("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	_, err := http.ReadResponse(bufio.NewReader(idle), nil)
	require.NoError(t, err)
	for range 50 {
		dial("")                    // says nothing
		dial("GET /healthz HTTP/1") // says half of it
	}
	srv.client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 20 {
		assert.Equal(t, http.StatusOK, srv.do("GET", "/healthz", "", "").Status)
	}
	assert.LessOrEqual(t, srv.conns.count(), 20.0)
	assert.Greater(t, srv.conns.closed(), 80.0)
	_ = idle.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err = idle.Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.EOF, "the one that was idle longest")
}

// A request under way is never ended for a new connection.
func TestBusyConnectionsStay(t *testing.T) {
	t.Parallel()
	platform := fakePlatform(t)
	c := testConfig(platform)
	c.MaxConnections = 3
	srv := start(t, c)
	srv.token()
	platform.Inject(wxtest.Latency(time.Second).On("/cgi-bin/get_api_domain_ip"))
	srv.client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	got := make(chan reply, 3)
	for range 3 {
		go func() { got <- srv.do("GET", "/proxy/wx1/cgi-bin/get_api_domain_ip", blogSecret, "") }()
	}
	require.Eventually(t, func() bool { return platform.Stats().Faults["latency"] == 3 }, 5*time.Second, time.Millisecond)
	_, err := srv.client.Get(srv.url + "/healthz")
	assert.Error(t, err, "the new one has to go")
	for range 3 {
		assert.Equal(t, http.StatusOK, (<-got).Status)
	}
	assert.Equal(t, http.StatusOK, srv.do("GET", "/healthz", "", "").Status)
}
