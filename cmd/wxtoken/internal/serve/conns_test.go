package serve

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Neither idle connections nor incomplete requests lock out other clients.
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
		dial("")                    // sends nothing
		dial("GET /healthz HTTP/1") // sends half a request
	}
	srv.client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 20 {
		assert.Equal(t, http.StatusOK, srv.do("GET", "/healthz", "", "").Status)
	}
	assert.LessOrEqual(t, srv.conns.count(), 20.0)
	assert.Greater(t, srv.conns.closed(), 80.0)
	_ = idle.SetReadDeadline(time.Now().Add(time.Minute))
	_, err = idle.Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.EOF, "the one that was idle longest")
}

// A request in flight is never ended for a new connection.
func TestBusyConnectionsStay(t *testing.T) {
	t.Parallel()
	platform := fakePlatform(t)
	c := testConfig(platform)
	c.MaxConnections = 3
	srv := start(t, c)
	srv.token()
	asked, answer := make(chan bool, 3), make(chan bool)
	platform.Handle("/cgi-bin/get_api_domain_ip", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- true
		<-answer
	}))
	srv.client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	got := make(chan reply, 3)
	for range 3 {
		go func() {
			var a reply
			defer func() { got <- a }() // also if it fails
			a = srv.do("GET", "/proxy/wx1/cgi-bin/get_api_domain_ip", blogSecret, "")
		}()
	}
	for range 3 {
		<-asked
	}
	_, err := srv.client.Get(srv.url + "/healthz")
	assert.Error(t, err, "the new one is closed")
	close(answer)
	for range 3 {
		assert.Equal(t, http.StatusOK, (<-got).Status)
	}
	assert.Equal(t, http.StatusOK, srv.do("GET", "/healthz", "", "").Status)
}

// Connections are limited in time, in place of an http.Server's timeouts.
func TestConnectionTimeouts(t *testing.T) {
	c := newConns(10)
	pass := func(seconds int64) (closed []net.Conn) {
		for range seconds {
			closed = append(closed, c.late()...)
		}
		return closed
	}
	ctxOf := func(place any) context.Context { return context.WithValue(t.Context(), connOf{}, place) }
	idle, busy, proxied := &net.TCPConn{}, &net.UnixConn{}, &net.UDPConn{}
	c.add(idle)
	one := c.add(busy)
	two := c.add(proxied)
	c.work(one, +1)
	c.work(two, +1)
	done := c.lasts(ctxOf(two))
	assert.Empty(t, pass(busyFor))
	assert.Equal(t, []net.Conn{busy}, pass(5), "a request that is not answered")
	c.remove(busy)
	assert.Empty(t, pass(60))
	assert.Equal(t, []net.Conn{idle}, pass(idleFor-busyFor-60), "no request for two minutes")
	c.remove(idle)
	assert.Empty(t, pass(3600), "what passes through the proxy has limits of its own")
	done()
	c.work(two, -1)
	assert.Empty(t, pass(100))
	c.work(two, +1) // another request in time
	c.work(two, -1)
	assert.Empty(t, pass(100))
	assert.Equal(t, []net.Conn{proxied}, pass(25))
	c.lasts(t.Context())() // of a request that came by no connection
}
