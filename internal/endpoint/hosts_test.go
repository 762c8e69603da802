package endpoint

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/wxtoken/wxtoken/internal/fetchtest"
	"github.com/wxtoken/wxtoken/internal/servers"
)

func TestFetchFallsBackOnConnectionFailureOnly(t *testing.T) {
	good, requests := fetchtest.Serve(t, fetchtest.Answer(200, fetchtest.Good))
	dead := refusing()
	notTLS := "https" + good[len("http"):] // speaks plain HTTP: the handshake fails
	tls := httptest.NewUnstartedServer(fetchtest.Answer(200, fetchtest.Good))
	tls.Config.ErrorLog = log.New(io.Discard, "", 0)
	tls.StartTLS()
	defer tls.Close()
	hangsUp, _ := fetchtest.Serve(t, func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })

	for name, test := range map[string]struct {
		hosts []string
		asked int32
		want  string
	}{
		"refused":         {[]string{dead, dead, good, dead}, 1, "issued"},
		"not TLS":         {[]string{notTLS, good}, 1, "issued"},
		"unknown issuer":  {[]string{tls.URL, good}, 1, "issued"},
		"all down":        {[]string{dead, notTLS, tls.URL}, 0, "not sent"},
		"hangs up":        {[]string{hangsUp, good}, 0, "unknown"},
		"first one works": {[]string{good, hangsUp}, 1, "issued"},
	} {
		t.Run(name, func(t *testing.T) {
			requests.Store(0)
			_, err := fetch(t.Context(), plain(nil, test.hosts...))
			assert.Equal(t, test.want, outcome(err), err)
			assert.Equal(t, test.asked, requests.Load())
			fetchtest.NoLeak(t, err)
			if test.want == "not sent" {
				var dial *net.OpError
				assert.ErrorAs(t, err, &dial)
				assert.ErrorContains(t, err, "certificate")
				assert.ErrorContains(t, err, "connection refused")
				assert.ErrorContains(t, err, "first record does not look like a TLS handshake")
				assert.ErrorContains(t, err, dead[len("http://"):])
				assert.ErrorContains(t, err, "nothing sent")
			}
		})
	}
}

// dialing returns a transport whose connections are pipes, which a synctest bubble
// can wait for. A host without a handler drops every packet.
func dialing(hosts map[string]http.HandlerFunc) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			handler := hosts[addr]
			if handler == nil {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			client, server := net.Pipe()
			go func() {
				defer server.Close()
				if r, err := http.ReadRequest(bufio.NewReader(server)); err == nil {
					w := httptest.NewRecorder()
					handler(w, r)
					_ = w.Result().Write(server)
				}
			}()
			return client, nil
		},
	}
}

// A first host that drops packets must not use up the deadline; a host that accepts
// the connection and then hangs is the last one tried.
func TestFetchSlowHost(t *testing.T) {
	var asked int
	good := func(w http.ResponseWriter, r *http.Request) { asked++; fetchtest.Answer(200, fetchtest.Good)(w, r) }
	asleep := func(w http.ResponseWriter, r *http.Request) { time.Sleep(time.Minute) }
	slow := func(w http.ResponseWriter, r *http.Request) { time.Sleep(9 * time.Second); good(w, r) }
	hosts := map[string]http.HandlerFunc{"good:80": good, "asleep:80": asleep, "slow:80": slow}
	for name, test := range map[string]struct {
		urls  []string
		want  string
		asked int
		took  time.Duration
	}{
		"black hole first":  {[]string{"http://hole", "http://good"}, "issued", 1, 4 * time.Second},
		"two black holes":   {[]string{"http://hole", "http://hole2", "http://good"}, "issued", 1, 6 * time.Second},
		"slow answer":       {[]string{"http://slow", "http://good"}, "issued", 1, 9 * time.Second},
		"asleep":            {[]string{"http://asleep", "http://good"}, "unknown", 0, 12 * time.Second},
		"hole, then asleep": {[]string{"http://hole", "http://asleep", "http://good"}, "unknown", 0, 12 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
				defer cancel()
				asked = 0
				defer time.Sleep(time.Minute) // until the last handler has returned
				start := time.Now()
				_, err := fetch(ctx, plain(dialing(hosts), test.urls...))
				assert.Equal(t, test.want, outcome(err), err)
				assert.Equal(t, test.asked, asked)
				assert.Equal(t, test.took, time.Since(start).Round(time.Millisecond))
				assert.Equal(t, test.took == 12*time.Second, errors.Is(err, context.DeadlineExceeded))
				fetchtest.NoLeak(t, err)
			})
		})
	}
	t.Run("none reachable", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			_, err := fetch(t.Context(), plain(dialing(nil), "http://a", "http://b", "http://c", "http://d", "http://e"))
			assert.Equal(t, "not sent", outcome(err), err)
			assert.LessOrEqual(t, time.Since(start), 10*time.Second)
			assert.ErrorContains(t, err, ": a, b, c, d, e: no connection within")
		})
	})
}

// What is wrong with all hosts is reported once, with what to do about it; errors.As
// still finds the cause.
func TestFetchSaysOnceWhatHostsHaveInCommon(t *testing.T) {
	dial := func(fail func(addr string) error) *http.Transport {
		return &http.Transport{DialContext: func(_ context.Context, _, addr string) (net.Conn, error) { return nil, fail(addr) }}
	}
	dialError := func(err error) func(string) error {
		return func(addr string) error {
			return &net.OpError{Op: "dial", Net: "tcp", Addr: &net.UnixAddr{Name: addr}, Err: err}
		}
	}
	noRoots := func() *http.Transport {
		return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: x509.NewCertPool()}}
	}
	behindProxy := dial(dialError(syscall.ECONNREFUSED))
	behindProxy.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy:3128"})
	srv := httptest.NewUnstartedServer(nil)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	atHome := srv.Client().Transport.(*http.Transport)
	later := atHome.Clone()
	later.TLSClientConfig.Time = func() time.Time { return time.Now().AddDate(100, 0, 0) }
	stranger := atHome.Clone()
	stranger.TLSClientConfig.ServerName = "stranger.example"

	for name, test := range map[string]struct {
		rt    *http.Transport
		hosts []string // nil: a, b and c
		says  string
		wraps any // a pointer for errors.As
	}{
		"unknown authority": {noRoots(), []string{srv.URL, srv.URL, srv.URL}, "x509: certificate signed by unknown authority; install ca-certificates", new(x509.UnknownAuthorityError)},
		"one host":          {noRoots(), []string{srv.URL}, "x509: certificate signed by unknown authority; install ca-certificates", new(x509.UnknownAuthorityError)},
		"no roots":          {dial(func(string) error { return x509.SystemRootsError{} }), nil, "install ca-certificates", new(x509.SystemRootsError)},
		"expired":           {later, []string{srv.URL, srv.URL}, "check the clock", new(x509.CertificateInvalidError)},
		"another host":      {stranger, []string{srv.URL, srv.URL}, "x509: certificate is for another host; check DNS", new(x509.HostnameError)},
		"refused":           {dial(dialError(os.NewSyscallError("connect", syscall.ECONNREFUSED))), nil, "connection refused; check proxy and firewall", new(*net.OpError)},
		"unreachable":       {dial(dialError(syscall.ENETUNREACH)), nil, "network is unreachable; check the network", new(*net.OpError)},
		"no such host": {dial(func(addr string) error { return &net.DNSError{Err: "no such host", Name: addr, IsNotFound: true} }),
			nil, "no such host; check DNS", new(*net.DNSError)},
		"DNS is down": {dial(func(addr string) error { return &net.DNSError{Err: "i/o timeout", Name: addr, IsTimeout: true} }),
			nil, "the DNS server gave no answer; check DNS", new(*net.DNSError)},
		"proxy is down": {behindProxy, nil, "connection refused; check the proxy", new(*net.OpError)},
		"anything else": {dial(func(string) error { return errors.New("out of file descriptors") }), nil, "out of file descriptors; check", nil},
	} {
		t.Run(name, func(t *testing.T) {
			hosts := test.hosts
			names := strings.ReplaceAll(strings.Join(hosts, ", "), "https://", "")
			if hosts == nil {
				hosts, names = []string{"http://a", "http://b", "http://c"}, "a, b, c"
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, _, err := plain(test.rt, hosts...).askHosts(ctx, fetchtest.Secret) // one try
			assert.Equal(t, "not sent", outcome(err), err)
			assert.ErrorContains(t, err, "wxtoken: /cgi-bin/token: no connection and nothing sent: "+names+": ")
			assert.Equal(t, 1, strings.Count(err.Error(), test.says), err)
			assert.Less(t, len(err.Error()), 350, err)
			if test.wraps != nil {
				assert.ErrorAs(t, err, test.wraps)
			}
			fetchtest.NoLeak(t, err)
		})
	}
}

// refusing returns a base URL on which nothing listens.
func refusing() string { return fmt.Sprint("http://127.0.0.1:", servers.SparePort()) }
