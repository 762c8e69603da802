package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/keys"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/store"
	"github.com/wxtoken/wxtoken/internal/servers"
	"github.com/wxtoken/wxtoken/wxtest"
)

// service stores a token as a process of the app does.
func service(t *testing.T, platform *wxtest.Server, url string, stable bool, opts ...wxtoken.Option) (*wxtoken.Source, string) {
	t.Helper()
	s, err := store.Open(url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	var fetcher wxtoken.Fetcher = wxtoken.NewFetcher("wx1", appSecret, wxtoken.WithBaseURL(platform.URL))
	if stable {
		fetcher = wxtoken.NewStableFetcher("wx1", appSecret, wxtoken.WithBaseURL(platform.URL))
	}
	src := wxtoken.New(fetcher, s, opts...)
	token, err := src.Token(t.Context())
	require.NoError(t, err)
	return src, token.Value
}

func TestDoctorsExitStatusIsItsVerdict(t *testing.T) {
	platform := fakePlatform(t, wxtest.WithGrace(0))
	url := "redis://" + servers.Redis(t).Addr()
	_, token := service(t, platform, url, false)
	args := []string{"doctor", "-key", "token:wx1", "-base-url", platform.URL}
	vars := map[string]string{"WXTOKEN_STORE": url}
	r := cli(t, vars, args...)
	assert.Equal(t, 0, r.status, r.stdout)
	assert.Contains(t, r.stdout, "it honours the record's token")

	r = cli(t, vars, append(args, "-scan", "-json")...)
	assert.Equal(t, 0, r.status)
	var report struct {
		Verdict  struct{ Level string }
		Findings []struct{ Level, Area, Text string }
	}
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &report))
	assert.Equal(t, "ok", report.Verdict.Level)
	assert.Greater(t, len(report.Findings), 6)

	vars["URL"] = url
	r = cli(t, vars, "doctor", "-store", "env:URL", "-key", "token:wx1", "-base-url", "http://127.0.0.1:1")
	assert.Equal(t, 1, r.status, r.stdout)
	r = cli(t, vars, "doctor", "-store", "@"+file(t, "url", url+"\n"), "-key", "stable:wx1")
	assert.Equal(t, 2, r.status, r.stdout)
	assert.Contains(t, r.stdout, "but there is wxtoken:token:wx1")
	assert.Empty(t, r.stderr)
	assert.NotContains(t, r.stdout, token)
}

func TestDoctorWatchesUntilStopped(t *testing.T) {
	platform := fakePlatform(t)
	url := "redis://" + servers.Redis(t).Addr()
	src, token := service(t, platform, url, false)
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	out := new(syncBuffer)
	go func() { _, _ = io.Copy(out, read) }()
	done := make(chan int)
	go func() {
		done <- run(ctx, environment{write, io.Discard, func(string) string { return "" }, nil},
			[]string{"doctor", "-store", url, "-key", "token:wx1", "-base-url", platform.URL, "-watch"})
	}()
	require.Eventually(t, func() bool { return strings.Contains(out.String(), "verdict: ok") }, 10*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool { return src.Invalidate(t.Context(), token) == nil }, 10*time.Second, 10*time.Millisecond)
	assert.Eventually(t, func() bool { return strings.Contains(out.String(), "an API rejected the token") }, 10*time.Second, 10*time.Millisecond, out.String)
	_, err := src.Token(t.Context())
	require.NoError(t, err)
	assert.Eventually(t, func() bool { return strings.Contains(out.String(), "a new token, good for 1 h 59 min") }, 10*time.Second, 10*time.Millisecond)
	cancel()
	assert.Equal(t, 0, <-done)
	assert.NotContains(t, out.String(), token)
}

func TestShowHidesTheToken(t *testing.T) {
	platform := fakePlatform(t)
	url := "redis://" + servers.Redis(t).Addr()
	_, token := service(t, platform, url, false)
	r := cli(t, nil, "show", "-store", url, "-key", "token:wx1")
	assert.Equal(t, exitOK, r.status, r.stderr)
	assert.NotContains(t, r.stdout, token)
	for _, says := range []string{"wxtoken:token:wx1\n", `"epoch": `, "characters; -token shows them", "issued   ", "expires  20"} {
		assert.Contains(t, r.stdout, says)
	}
	assert.Contains(t, cli(t, nil, "show", "-store", url, "-key", "token:wx1", "-token").stdout, token)
	r = cli(t, nil, "show", "-store", url, "-key", "token:wx2")
	assert.Equal(t, exitFailed, r.status)
	assert.Contains(t, r.stderr, "there is no record under wxtoken:token:wx2")

	key := strings.Repeat("ab", 31) + "cd"
	parsed, err := keys.Parse(key)
	require.NoError(t, err)
	sealed := "redis://" + servers.Redis(t).Addr()
	_, token = service(t, platform, sealed, false, wxtoken.WithEncryption(parsed))
	r = cli(t, nil, "show", "-store", sealed, "-key", "token:wx1")
	assert.Equal(t, exitFailed, r.status)
	assert.Contains(t, r.stderr, "sealed and no key of this process opens it")
	keyFile := file(t, "keys", strings.Repeat("11", 32)+"\n"+key+"\n")
	r = cli(t, nil, "show", "-store", sealed, "-key", "token:wx1", "-key-file", keyFile)
	assert.Contains(t, r.stdout, "sealed by key 2 of the file")
	assert.NotContains(t, r.stdout, token)
	assert.Contains(t, cli(t, nil, "doctor", "-store", sealed, "-key", "token:wx1", "-key-file", keyFile, "-base-url", platform.URL).stdout,
		"it is sealed by key 2 of the file")
}

func TestRejectMarksTheTokenAndFetchesNothing(t *testing.T) {
	platform := fakePlatform(t)
	url := "redis://" + servers.Redis(t).Addr()
	src, token := service(t, platform, url, false, wxtoken.WithLocalAge(time.Second))
	time.Sleep(1100 * time.Millisecond) // the age from which it is believed
	r := cli(t, nil, "reject", "-store", url, "-key", "token:wx1")
	assert.Equal(t, exitOK, r.status, r.stderr)
	assert.Contains(t, r.stdout, "wxtoken:token:wx1 is marked as rejected")
	assert.NotContains(t, r.stdout, "Beware")
	assert.Equal(t, 1, platform.Stats().Fetches().Total())
	assert.Contains(t, cli(t, nil, "show", "-store", url, "-key", "token:wx1").stdout, `"rejected": true`)
	require.Eventually(t, func() bool {
		next, err := src.Token(t.Context())
		return err == nil && next.Value != token
	}, 10*time.Second, 50*time.Millisecond)
	assert.Equal(t, 2, platform.Stats().Fetches().Total())

	r = cli(t, nil, "reject", "-store", url, "-key", "token:wx1")
	assert.Equal(t, exitFailed, r.status, r.stdout)
	assert.Contains(t, r.stderr, "not believed before it is")
	r = cli(t, nil, "reject", "-store", url, "-key", "token:wx2")
	assert.Equal(t, exitFailed, r.status)
	assert.Contains(t, r.stderr, "there is no token under wxtoken:token:wx2")
}

// Two services wait, each for 15 min after a failure of its own, until retry ends that.
func TestRetryEndsTheWaitOfAll(t *testing.T) {
	key := [32]byte{1, 2, 3}
	keyFile := file(t, "keys", strings.Repeat("11", 32)+"\n"+"010203"+strings.Repeat("00", 29)+"\n")
	for name, opts := range map[string][]wxtoken.Option{"plain": nil, "sealed": {wxtoken.WithEncryption(key)}} {
		t.Run(name, func(t *testing.T) {
			platform := fakePlatform(t)
			url := "memcached://" + servers.Memcached(t).Addr()
			args := []string{"-store", url, "-key", "token:wx1", "-key-file", keyFile}
			r := cli(t, nil, append([]string{"retry"}, args...)...)
			assert.Equal(t, exitFailed, r.status)
			assert.Contains(t, r.stderr, "there is no record under wxtoken:token:wx1")

			platform.Deny("wx1", 45009)
			var services []*wxtoken.Source
			for range 2 {
				s, err := store.Open(url)
				require.NoError(t, err)
				t.Cleanup(func() { _ = s.Close() })
				services = append(services, wxtoken.New(wxtoken.NewFetcher("wx1", appSecret, wxtoken.WithBaseURL(platform.URL)), s, opts...))
			}
			var cool *wxtoken.CooldownError
			for _, src := range services {
				require.Eventually(t, func() bool { // the second asks a second after the first
					_, err := src.Token(t.Context())
					return errors.As(err, &cool) && time.Until(cool.Until) > 10*time.Minute
				}, 20*time.Second, 50*time.Millisecond)
			}
			platform.Deny("wx1", 0)
			_, err := services[0].Token(t.Context())
			require.ErrorAs(t, err, &cool)
			asked := platform.Stats().Fetches().Total()

			r = cli(t, nil, append([]string{"retry"}, args...)...)
			assert.Equal(t, exitOK, r.status, r.stderr)
			assert.Contains(t, r.stdout, "wxtoken:token:wx1 says that the platform may be asked again")
			assert.Equal(t, asked, platform.Stats().Fetches().Total())
			for _, src := range services {
				require.Eventually(t, func() bool {
					_, err := src.Token(t.Context())
					return err == nil
				}, 20*time.Second, 50*time.Millisecond)
			}
			assert.Equal(t, asked+1, platform.Stats().Fetches().Total())
		})
	}
}

// While a process fetches, there is nothing to end.
func TestRetryLeavesAFetchUnderWayAlone(t *testing.T) {
	platform := fakePlatform(t)
	platform.Inject(wxtest.Latency(3 * time.Second))
	url := "redis://" + servers.Redis(t).Addr()
	s, err := store.Open(url)
	require.NoError(t, err)
	defer s.Close()
	src := wxtoken.New(wxtoken.NewFetcher("wx1", appSecret, wxtoken.WithBaseURL(platform.URL)), s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _, _ = src.Token(ctx) }()
	require.Eventually(t, func() bool {
		return strings.Contains(cli(t, nil, "show", "-store", url, "-key", "token:wx1").stdout, `"lease"`)
	}, 10*time.Second, 10*time.Millisecond)
	before := cli(t, nil, "show", "-store", url, "-key", "token:wx1").stdout
	r := cli(t, nil, "retry", "-store", url, "-key", "token:wx1")
	assert.Equal(t, exitFailed, r.status)
	assert.Contains(t, r.stderr, "fetches now")
	assert.Equal(t, before, cli(t, nil, "show", "-store", url, "-key", "token:wx1").stdout)
}

// Two forced refreshes invalidate the token at once.
func TestForcedRefreshes(t *testing.T) {
	platform := fakePlatform(t)
	url := "redis://" + servers.Redis(t).Addr()
	_, token := service(t, platform, url, true)
	time.Sleep(1100 * time.Millisecond)
	r := cli(t, nil, "reject", "-store", url, "-key", "stable:wx1")
	assert.Contains(t, r.stdout, "Only -force ends it")
	assert.True(t, platform.Honoured(token))

	var stderr strings.Builder
	f := forcing{env: environment{stderr: &stderr}, base: platform.URL, appID: "wx1", secret: appSecret}
	require.NoError(t, f.run(t.Context()))
	assert.True(t, platform.Honoured(token), "two within 30 s count as one: the token is in its grace period")
	assert.NotEqual(t, token, platform.LatestStable("wx1"))
	assert.Contains(t, stderr.String(), "2 of the 20 forced refreshes a day")
	assert.NotContains(t, stderr.String(), appSecret)

	f.secret = "wrong-hush"
	err := f.run(t.Context())
	require.ErrorContains(t, err, "forced refresh 1 of 2: wxtoken: platform answered errcode 40125")
	assert.NotContains(t, err.Error(), "hush")
	f.base = "http://127.0.0.1:1"
	err = f.run(t.Context())
	require.ErrorContains(t, err, "connection refused")
	assert.NotContains(t, err.Error(), "hush")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	f.abortFor = time.Minute
	assert.ErrorContains(t, f.run(ended), "stopped")
}

// A record can move between stores of any kind, sealed or not, without a fetch.
func TestMove(t *testing.T) {
	platform := fakePlatform(t)
	redis, memcached, files := "redis://"+servers.Redis(t).Addr(), "memcached://"+servers.Memcached(t).Addr(), "file://"+t.TempDir()
	_, token := service(t, platform, redis, false)
	r := cli(t, nil, "move", "-from", redis, "-to", memcached, "-key", "token:wx1")
	assert.Equal(t, exitOK, r.status, r.stderr)
	assert.Contains(t, r.stdout, "copied wxtoken:token:wx1 from redis://")
	assert.Contains(t, r.stdout, "be done by ")
	r = cli(t, map[string]string{"OLD": memcached}, "move", "-from", "env:OLD", "-to", files, "-key", "token:wx1")
	assert.Equal(t, exitOK, r.status, r.stderr)
	_, moved := service(t, platform, files, false)
	assert.Equal(t, token, moved)
	assert.Equal(t, 1, platform.Stats().Fetches().Total())
	assert.NotContains(t, r.stdout+r.stderr, token)

	r = cli(t, nil, "move", "-from", redis, "-to", memcached, "-key", "token:wx1")
	assert.Equal(t, exitFailed, r.status)
	assert.Contains(t, r.stderr, "has a record under wxtoken:token:wx1 already; -replace")
	assert.Equal(t, exitOK, cli(t, nil, "move", "-from", redis, "-to", memcached, "-key", "token:wx1", "-replace").status)
	r = cli(t, nil, "move", "-from", redis, "-to", memcached, "-key", "token:wx2")
	assert.Equal(t, exitFailed, r.status)
	assert.Contains(t, r.stderr, "has no record under wxtoken:token:wx2")

	key := [32]byte{1, 2, 3}
	one, two := "redis://"+servers.Redis(t).Addr(), "redis://"+servers.Redis(t).Addr()
	_, token = service(t, platform, one, true, wxtoken.WithEncryption(key))
	assert.Equal(t, exitOK, cli(t, nil, "move", "-from", one, "-to", two, "-key", "stable:wx1").status)
	_, moved = service(t, platform, two, true, wxtoken.WithEncryption(key))
	assert.Equal(t, token, moved)
}
