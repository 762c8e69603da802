package endpoint

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/internal/fetchtest"
)

func TestFetchFallsBackOnConnectionFailureOnly(t *testing.T) {
	good, requests := fetchtest.Serve(t, fetchtest.Answer(200, fetchtest.Good))
	dead := refusing(t)
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
				assert.ErrorContains(t, err, dead[len("http://"):])
				assert.ErrorContains(t, err, "nothing sent")
			}
		})
	}
}

// dialing makes a transport whose connections are pipes, which a synctest bubble
// can wait on. A host without a handler swallows every packet.
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

// A first host that swallows packets may not use up the deadline; one that took
// the connection and then sleeps is the last that is asked.
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
				defer time.Sleep(time.Minute) // until the last handler is awake
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
			for _, host := range []string{"a", "b", "c", "d", "e"} {
				assert.ErrorContains(t, err, "; "+host+": no connection within")
			}
		})
	})
}

// refusing returns a base URL on which nothing listens.
func refusing(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return "http://" + l.Addr().String()
}
