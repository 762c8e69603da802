package serve

import (
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBucketRefills(t *testing.T) {
	var b bucket
	now := time.Now()
	for i := range 30 {
		ok, _ := b.take(30, now)
		require.True(t, ok, i)
	}
	ok, wait := b.take(30, now)
	assert.False(t, ok)
	assert.InDelta(t, 2*time.Second, wait, float64(time.Millisecond))
	ok, _ = b.take(30, now.Add(1900*time.Millisecond))
	assert.False(t, ok)
	ok, _ = b.take(30, now.Add(2100*time.Millisecond))
	assert.True(t, ok)
	ok, _ = b.take(30, now.Add(-time.Hour)) // a clock that is set back adds nothing
	assert.False(t, ok)
	for range 30 {
		ok, _ = b.take(30, now.Add(time.Hour))
		require.True(t, ok)
	}
}

func TestWrongSecretsAreAnsweredLaterEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newWrongSecrets()
		took := func(remote string) time.Duration {
			start := time.Now()
			assert.True(t, s.wait(t.Context(), remote, start))
			return time.Since(start)
		}
		want := []time.Duration{0, 50, 100, 200, 400, 800, 1600, 2000, 2000}
		for i, ms := range want {
			assert.Equal(t, ms*time.Millisecond, took("192.0.2.1:"+fmt.Sprint(i)))
		}
		assert.Zero(t, took("192.0.2.2:1"), "others are not affected")
		assert.Zero(t, took("[2001:db8::1]:1"))
		assert.Equal(t, firstDelay, took("[2001:db8::ffff:1]:1"), "one client has all of an IPv6 network")
		assert.Zero(t, took("[2001:db8:0:1::1]:1"))
		assert.Equal(t, 2*time.Second, took("[::ffff:192.0.2.1]:1"), "the same address in IPv6")
		time.Sleep(61 * time.Second)
		assert.Zero(t, took("192.0.2.1:1"), "forgiven after a minute")
		assert.EqualValues(t, 15, s.total())

		// Few wait at a time, and few are remembered.
		var all sync.WaitGroup
		kept := 0
		var mu sync.Mutex
		for range 20 {
			s.note("192.0.2.9:1", time.Now())
		}
		for range 3 * delayed {
			all.Go(func() {
				if s.wait(t.Context(), "192.0.2.9:1", time.Now()) {
					mu.Lock()
					defer mu.Unlock()
					kept++
				}
			})
		}
		all.Wait()
		assert.Equal(t, delayed, kept)
		for i := range 3 * addresses {
			s.note(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255), time.Now())
		}
		assert.LessOrEqual(t, len(s.known), addresses)
	})
}

func TestLogNamesFewAddresses(t *testing.T) {
	s, now := newWrongSecrets(), time.Now()
	for i := range named {
		ip := fmt.Sprintf("192.0.2.%d", i)
		assert.Equal(t, ip, s.name(ip+":1", now))
	}
	assert.Equal(t, "many addresses", s.name("192.0.2.200:1", now))
	assert.Equal(t, "192.0.2.1", s.name("192.0.2.1:1", now))
	assert.Equal(t, "192.0.2.200", s.name("192.0.2.200:1", now.Add(2*time.Minute)))
}

func TestRepeatedEntriesAreLoggedOnceAMinute(t *testing.T) {
	var out syncBuffer
	j, now := newJournal(slog.New(slog.NewTextHandler(&out, nil))), time.Now()
	e := entry{method: "GET", route: "/token", status: 200, client: "shop", app: "wx1"}
	for i := range 1000 {
		j.add(e, time.Duration(i)*time.Microsecond, now, true)
	}
	assert.Equal(t, 1, strings.Count(out.String(), "\n"), out.String())
	j.flush(now.Add(30*time.Second), false)
	assert.Equal(t, 1, strings.Count(out.String(), "\n"), out.String())
	j.flush(now.Add(61*time.Second), false)
	assert.Equal(t, 2, strings.Count(out.String(), "\n"), out.String())
	assert.Contains(t, out.String(), "count=999 over=1m1s took=999µs")
	j.add(e, 0, now.Add(62*time.Second), true)
	j.flush(now.Add(63*time.Second), true)
	assert.Contains(t, out.String(), "count=1 over=2s", "at the end nothing is left out")
	j.flush(now.Add(time.Hour), false)
	assert.Empty(t, j.open, "entries that have stopped are dropped")
	assert.EqualValues(t, 1001, j.totals()[counted{"/token", 200}])

	// However many kinds there are.
	for i := range entries + 5000 {
		j.add(entry{route: "/token", status: 403, app: fmt.Sprint(i)}, 0, now, true)
	}
	assert.Equal(t, entries+1, len(j.open))
}

func TestReportsAreLimitedForEachClient(t *testing.T) {
	platform := fakePlatform(t)
	c := testConfig(platform)
	c.ReportsPerMinute = 5
	srv := start(t, c, leisurely)
	token := srv.token()
	began := time.Now()
	for range 5 {
		assert.Equal(t, http.StatusOK, srv.reject(token).Status)
	}
	a := srv.reject(token)
	assert.Equal(t, http.StatusTooManyRequests, a.Status)
	assert.Equal(t, 45011, a.Errcode)
	wait, err := strconv.Atoi(a.Header.Get("Retry-After"))
	require.NoError(t, err)
	assert.LessOrEqual(t, wait, 12)
	assert.GreaterOrEqual(t, wait, 12-int(time.Since(began).Seconds()))
	assert.Empty(t, a.AccessToken)
	for range 20 {
		assert.Equal(t, token, srv.reject("an old one").AccessToken, "an old token has no effect")
	}
	assert.Equal(t, http.StatusOK, srv.do("POST", "/token/reject", blogSecret, `{"appid":"wx1","access_token":"`+token+`"}`).Status, "others are not affected")
	assert.Contains(t, srv.do("GET", "/metrics", "", "").Errmsg, "tokenserver_reports_limited_total 1\n")
	assert.Equal(t, 1, platform.Stats().Results["/cgi-bin/token"].Total())
}

// A whole fleet reports the same rejection: that counts as one report, and causes one
// fetch.
func TestAFleetReportsTheSameRejection(t *testing.T) {
	t.Parallel()
	platform := fakePlatform(t)
	c := testConfig(platform)
	c.ReportsPerMinute = 5
	srv := start(t, c)
	first := srv.token()
	time.Sleep(believed)
	platform.Revoke(first)
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			a := srv.reject(first)
			assert.Equal(t, http.StatusOK, a.Status, a.Errmsg)
			assert.NotEqual(t, first, a.AccessToken)
		})
	}
	all.Wait()
	assert.Equal(t, 2, platform.Stats().Results["/cgi-bin/token"].Total())
}

func TestWrongSecretsAreLoggedTogetherAndRightOnesNotDelayed(t *testing.T) {
	t.Parallel()
	srv := start(t, testConfig(fakePlatform(t)))
	srv.token()
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			a := srv.do("GET", "/token?appid=wx1", fmt.Sprintf("wrong-%d", i), "")
			assert.Equal(t, http.StatusUnauthorized, a.Status)
		})
	}
	require.Eventually(t, func() bool { return srv.wrongSecrets.total() == 30 }, time.Minute, time.Millisecond)
	least := time.Hour
	for range 20 { // the machine may be slow now and then
		start := time.Now()
		srv.token()
		least = min(least, time.Since(start))
	}
	assert.Less(t, least, 400*time.Millisecond, "with one more wrong secret: 2 s")
	all.Wait()
	assert.Equal(t, 1, strings.Count(srv.out.String(), `"status":401`), srv.out.String())
	assert.Contains(t, srv.out.String(), `"remote":"127.0.0.1"`)
	srv.stop()
	require.NoError(t, <-srv.done)
	srv.done <- nil
	assert.Contains(t, srv.out.String(), `"count":29`)
}
