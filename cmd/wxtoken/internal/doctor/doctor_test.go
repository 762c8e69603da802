package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/store"
	"github.com/wxtoken/wxtoken/internal/protocol"
	"github.com/wxtoken/wxtoken/internal/servers"
	"github.com/wxtoken/wxtoken/wxtest"
)

// at returns a Doctor for the store at this URL.
func at(t *testing.T, url string) *Doctor {
	t.Helper()
	s, err := store.Open(url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return &Doctor{Store: s, Prefix: "wxtoken:", sleep: func(context.Context, time.Duration) {}}
}

// said returns the report for people.
func said(t *testing.T, r *Report) string {
	t.Helper()
	var out strings.Builder
	require.NoError(t, r.Write(&out))
	return out.String()
}

// put stores a record as another process would.
func (d *Doctor) put(t *testing.T, credential string, change func(*protocol.Record)) {
	t.Helper()
	now := time.Now()
	r := protocol.Record{Epoch: "E", Seq: 1, Token: "tok-secret-0123456789", IssuedAt: now.Add(-time.Hour).UnixMilli(), ExpiresAt: now.Add(time.Hour).UnixMilli()}
	if change != nil {
		change(&r)
	}
	key := d.Prefix + credential
	old, err := d.Store.Get(t.Context(), key)
	if err != nil {
		old = nil
	}
	stored, err := d.Store.CompareAndSwap(t.Context(), key, old, protocol.Encode(r, protocol.Sealer{CacheKey: key}), time.Hour)
	require.NoError(t, err)
	require.True(t, stored)
}

func TestEveryStoreIsExamined(t *testing.T) {
	sentinel, cluster := servers.Sentinel(t), servers.Cluster(t)
	memcached, dead := servers.Memcached(t), servers.Memcached(t)
	dead.Kill()
	secured := servers.Redis(t, "--requirepass", "hush")
	gone := servers.Redis(t)
	gone.Kill()
	replica := sentinel.Nodes[1].Addr()
	directory := t.TempDir()
	wide := t.TempDir()
	require.NoError(t, os.Chmod(wide, 0o777))
	for name, test := range map[string]struct {
		url   string
		level Level
		says  []string
	}{
		"sentinel":           {fmt.Sprintf("redis+sentinel://%s/%s", sentinel.Sentinels[0].Addr(), sentinel.MasterName), OK, []string{"it is the master, with 2 replicas", "scratch key works; the key is removed"}},
		"a replica":          {"redis://" + replica, Fail, []string{"it is a replica of 127.0.0.1:", "it takes no writes"}},
		"cluster":            {"redis+cluster://" + cluster.Nodes[0].Addr(), OK, []string{", node 127.0.0.1:", "scratch key works; the key is removed"}},
		"memcached":          {"memcached://" + memcached.Addr(), OK, []string{"version 1.", "costs one fetch", "the store's clock", "the key is removed"}},
		"a dead memcached":   {"memcached://" + dead.Addr(), Fail, []string{"does not answer"}},
		"one of them dead":   {"memcached://" + memcached.Addr() + "," + memcached.Addr() + "," + dead.Addr(), Fail, []string{"version 1.", "does not answer"}},
		"a directory":        {"file://" + directory, OK, []string{"mode 0", "the key is removed"}},
		"one for all":        {"file://" + wide, Warn, []string{"mode 0777", "chmod 0700"}},
		"no directory":       {"file://" + directory + "/missing", Warn, []string{"does not exist yet"}},
		"nothing listens":    {"redis://" + gone.Addr() + "?max_retries=-1", Fail, []string{"connection refused", "check address"}},
		"no password":        {"redis://" + secured.Addr(), Fail, []string{"NOAUTH", "missing in the URL"}},
		"a wrong password":   {"redis://:wrong@" + secured.Addr(), Fail, []string{"WRONGPASS"}},
		"the right password": {"redis://:hush@" + secured.Addr(), OK, []string{"no problem found"}},
		"no such database":   {"redis://:hush@" + secured.Addr() + "/99", Fail, []string{"no such database number"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := at(t, test.url)
			d.sleep = nil
			r := d.Examine(t.Context(), nil)
			out := said(t, r)
			assert.Equal(t, test.level, r.Verdict().Level, out)
			for _, s := range test.says {
				assert.Contains(t, out, s)
			}
			assert.NotContains(t, out, "hush")
			assert.NotContains(t, out, ":wrong@")
		})
	}
	left, err := filepath.Glob(filepath.Join(directory, "*"))
	require.NoError(t, err)
	assert.Empty(t, left, "the scratch key has left files")
}

// The rights that operations.md asks for are enough for doctor as well, and missing
// ones are noticed.
func TestRightsAreExamined(t *testing.T) {
	server := servers.Redis(t)
	admin := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = admin.Close() })
	user := func(name string, rules ...any) *Doctor {
		require.NoError(t, admin.Do(t.Context(), append([]any{"ACL", "SETUSER", name, "on", ">password"}, rules...)...).Err())
		d := at(t, fmt.Sprintf("redis://%s:password@%s", name, server.Addr()))
		d.sleep = nil
		return d
	}
	full := user("full", "+get", "+set", "+eval", "~wxtoken:*")
	full.put(t, "token:wx1", nil)
	r := full.Examine(t.Context(), nil)
	assert.Equal(t, OK, r.Verdict().Level, said(t, r))
	assert.Contains(t, said(t, r), "which wxtoken does not need")

	r = user("reader", "+get", "~wxtoken:*").Examine(t.Context(), nil)
	assert.Equal(t, Fail, r.Verdict().Level)
	assert.Contains(t, r.Verdict().Text, "may not do what wxtoken needs")
	r = user("elsewhere", "+get", "+set", "+eval", "~other:*").Examine(t.Context(), nil)
	assert.Equal(t, Fail, r.Verdict().Level)
	assert.Contains(t, r.Verdict().Do, "~wxtoken:*")
}

func TestWhatARecordSays(t *testing.T) {
	platform := wxtest.NewServer()
	t.Cleanup(platform.Close)
	redis := servers.Redis(t)
	now := time.Now()
	for name, test := range map[string]struct {
		change func(r *protocol.Record)
		level  Level
		says   string
	}{
		"expired":         {func(r *protocol.Record) { r.ExpiresAt = now.Add(-5 * time.Minute).UnixMilli() }, Fail, "the token expired 5 min ago and was not replaced"},
		"overdue":         {func(r *protocol.Record) { r.ExpiresAt = now.Add(2 * time.Minute).UnixMilli() }, Fail, "it should have been replaced by now"},
		"rejected":        {func(r *protocol.Record) { r.Rejected = true; r.Early = 1 }, Warn, "which an API rejected: the next call fetches another"},
		"early once":      {func(r *protocol.Record) { r.Rejected, r.Early = true, 1 }, Warn, "that happens now and then"},
		"early":           {func(r *protocol.Record) { r.Rejected, r.Early = true, 7 }, Warn, "7 tokens in a row were rejected before they expired"},
		"owed":            {func(r *protocol.Record) { r.Rejected, r.Owed = true, 2 }, Warn, "2 more fetches are owed"},
		"lease":           {func(r *protocol.Record) { r.Rejected, r.Lease, r.LeaseFor = true, "P.n", 12000 }, Warn, "under a lease of 12 s"},
		"lease of 0.1":    {func(r *protocol.Record) { r.Rejected, r.Lease = true, "P.n" }, Warn, "under a lease of 15 s"},
		"from the future": {func(r *protocol.Record) { r.IssuedAt = now.Add(30 * time.Minute).UnixMilli() }, Fail, "min in the future"},
		"busy": {func(r *protocol.Record) {
			r.Rejected, r.Cooldown = true, &protocol.Cooldown{Until: now.Add(20 * time.Second).UnixMilli(), Code: -1, Message: "system error"}
		}, Fail, "the last fetch failed: platform answered errcode -1: system error"},
		"no answer": {func(r *protocol.Record) {
			r.Rejected, r.Cooldown = true, &protocol.Cooldown{Until: now.Add(-time.Hour).UnixMilli(), Message: "no answer", By: "PROC"}
		}, Fail, "the process that failed is PROC"},
		"no answer, or a death": {func(r *protocol.Record) {
			r.Rejected, r.Cooldown = true, &protocol.Cooldown{Until: now.Add(20 * time.Second).UnixMilli(), Message: "no answer", By: "PROC", Member: "M"}
		}, Fail, "find out what ends such processes"},
		"of a young process": {func(r *protocol.Record) {
			r.Rejected, r.Cooldown = true, &protocol.Cooldown{Until: now.Add(20 * time.Second).UnixMilli(), Code: -1, Member: "M"}
		}, Fail, "; no process younger than 5 min asks again for"},
		"lifted": {func(r *protocol.Record) {
			r.Cooldown = &protocol.Cooldown{Until: now.UnixMilli(), Code: 41002, Member: "M", Lifted: true}
		}, Fail, "others fetch, but one service, whose processes live for minutes at most, cannot; the last failure: platform answered errcode 41002"},
		"lifted, several members": {func(r *protocol.Record) {
			r.Cooldown = &protocol.Cooldown{Until: now.UnixMilli(), Member: "M", Before: "N O", Lifted: true}
		}, Fail, "others fetch, but each of 3 services, whose"},
		"retried": {func(r *protocol.Record) {
			*r = protocol.Record{Version: 1, Epoch: "e", Cooldown: &protocol.Cooldown{Until: now.UnixMilli(), Code: 41002, Member: "M"}}.Retried(now)
		}, Fail, "no token yet, and wxtoken retry has ended the wait after a failure: no service has fetched since"},
		"quota, yet a token": {func(r *protocol.Record) {
			r.Cooldown = &protocol.Cooldown{Until: now.Add(20 * time.Minute).UnixMilli(), Code: 45009}
		}, Fail, "warn  record    the last fetch failed: platform answered errcode 45009"},
	} {
		t.Run(name, func(t *testing.T) {
			d := at(t, "redis://"+redis.Addr())
			d.BaseURL = platform.URL // knows none of the tokens
			d.put(t, "token:wx1", test.change)
			r := d.Examine(t.Context(), []string{"token:wx1"})
			out := said(t, r)
			assert.Contains(t, out, test.says)
			assert.Equal(t, test.level, r.Verdict().Level, out)
			assert.NotContains(t, out, "tok-secret")
			assert.Equal(t, strings.HasPrefix(name, "lifted"), strings.Contains(out, "others fetch"), out)
		})
	}
	c := at(t, "redis://"+redis.Addr())
	require.NoError(t, c.Store.Redis.Set(t.Context(), "wxtoken:token:wx9", `{"v":2}`, 0).Err())
	assert.Contains(t, said(t, c.Examine(t.Context(), []string{"token:wx9"})), "written by a newer wxtoken")
	require.NoError(t, c.Store.Redis.Set(t.Context(), "wxtoken:token:wx9", `a foreign token`, 0).Err())
	assert.Contains(t, said(t, c.Examine(t.Context(), []string{"token:wx9"})), "something else writes to this key")
	c.put(t, "stable:wx5", nil)
	assert.Contains(t, said(t, c.Examine(t.Context(), []string{"token:wx5"})), "but there is wxtoken:stable:wx5")
	assert.Contains(t, said(t, c.Examine(t.Context(), []string{"qq:1109"})), "there is no record")
}

// The platform rejects a good token now and then, and a process may be replacing it
// at this very moment.
func TestWhatThePlatformSays(t *testing.T) {
	redis := servers.Redis(t)
	platform := wxtest.NewServer(wxtest.WithApp("wx1", appSecret))
	t.Cleanup(platform.Close)
	d := at(t, "redis://"+redis.Addr())
	d.BaseURL = platform.URL
	token := platform.Issue("wx1")
	fresh := func(r *protocol.Record) { r.Token = token }
	examine := func() (Finding, string) {
		d.put(t, "token:wx1", fresh)
		r := d.Examine(t.Context(), []string{"token:wx1"})
		return r.Verdict(), said(t, r)
	}
	_, out := examine()
	assert.Contains(t, out, "it honours the record's token")

	lift := platform.Inject(wxtest.Denial(40001).On(wxtest.BusinessCalls).Times(1))
	v, out := examine()
	assert.Contains(t, out, "it rejected the record's token once and honoured it then")
	assert.Equal(t, OK, v.Level)
	lift()

	defer platform.Inject(wxtest.Denial(42001).On(wxtest.BusinessCalls))()
	d.sleep = func(_ context.Context, wait time.Duration) {
		if wait == time.Second { // between two attempts
			d.put(t, "token:wx1", func(r *protocol.Record) { r.Rejected = true })
		}
	}
	_, out = examine()
	assert.Contains(t, out, "a process has noticed")
	d.sleep = func(context.Context, time.Duration) {}
	v, _ = examine()
	assert.Contains(t, v.Text, "it rejects the record's token (42001)")

	for name, handler := range map[string]http.HandlerFunc{
		"not JSON": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>log in</html>")) },
		"did not try": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"errcode":-1,"errmsg":"system error"}`))
		},
		"1 h 0 min ahead of": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
			_, _ = w.Write([]byte(`{}`))
		},
		"2[0-2] s behind": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(-20*time.Second).UTC().Format(http.TimeFormat))
			_, _ = w.Write([]byte(`{}`))
		},
	} {
		srv := httptest.NewServer(handler)
		d.BaseURL = srv.URL
		_, out = examine()
		srv.Close()
		assert.Regexp(t, strings.ReplaceAll(name, "1 h 0 min", `(1 h 0 min|59 min|60 min)`), out)
	}
	v, out = examine() // nothing listens
	assert.Equal(t, Warn, v.Level)
	assert.Contains(t, out, "this machine does not reach it")
	assert.NotContains(t, out, token)

	d.put(t, "ticket:jsapi:token:wx1", fresh)
	r := d.Examine(t.Context(), []string{"ticket:jsapi:token:wx1"})
	assert.Contains(t, said(t, r), "no API says whether a token of the kind \"ticket\" is good")
}

func TestScanFindsDuplicates(t *testing.T) {
	for name, url := range map[string]string{
		"redis": "redis://" + servers.Redis(t).Addr(), "cluster": "redis+cluster://" + servers.Cluster(t).Nodes[0].Addr(),
		"memcached": "memcached://" + servers.Memcached(t).Addr(), "file": "file://" + t.TempDir(),
	} {
		t.Run(name, func(t *testing.T) {
			d := at(t, url)
			d.Scan = true
			d.put(t, "token:wx1", nil)
			d.put(t, "stable:wx2", nil)
			d.put(t, "token:wx3", nil)
			stored, err := d.Store.CompareAndSwap(t.Context(), "cache:token:wx1", nil, []byte("a plain token of an old system"), time.Hour)
			require.NoError(t, err)
			require.True(t, stored)
			var r *Report
			require.Eventually(t, func() bool { // memcached lists only items that it has moved
				r = d.Examine(t.Context(), nil)
				return strings.Contains(said(t, r), "3 records, no duplicates")
			}, time.Minute, 50*time.Millisecond)
			assert.Equal(t, OK, r.Verdict().Level, said(t, r))

			d.Prefix = "shop:"
			d.put(t, "token:wx1", nil)
			d.put(t, "stable:wx2", nil)
			d.put(t, "token:wx3", func(r *protocol.Record) { r.ExpiresAt = time.Now().Add(-time.Minute).UnixMilli() })
			var out string
			require.Eventually(t, func() bool {
				r = d.Examine(t.Context(), nil)
				out = said(t, r)
				return strings.Contains(out, "wx1 has 2 records") && strings.Contains(out, "wx2 has 2 records") && strings.Contains(out, "wx3 has 2 records")
			}, time.Minute, 50*time.Millisecond)
			assert.Contains(t, r.Verdict().Text, "wx1 has 2 records: ")
			assert.Contains(t, out, "warn  scan      wx2 has 2 records")
			assert.Contains(t, out, "warn  scan      wx3 has 2 records")
			d.Prefix = "wxtoken:"
			r = new(Report)
			d.scan(t.Context(), r, []string{"token:wx3"})
			assert.Len(t, r.Findings, 1)
		})
	}
}

func TestWatchReportsEachChange(t *testing.T) {
	d := at(t, "redis://"+servers.Redis(t).Addr())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	now := time.Now()
	steps := []struct {
		do   func()
		want []string
	}{
		{func() { d.put(t, "token:wx1", func(r *protocol.Record) { r.Token, r.Lease = "", "PROC.nonce" }) }, []string{"there is a record", "process PROC fetches"}},
		{func() { d.put(t, "token:wx1", nil) }, []string{"a new token, good for 59 min"}},
		{func() {}, nil},
		{func() { d.put(t, "token:wx1", func(r *protocol.Record) { r.Rejected, r.Early = true, 2 }) }, []string{"an API rejected the token, which was 1 h 0 min old", "that makes 2 in a row"}},
		{func() {
			d.put(t, "token:wx1", func(r *protocol.Record) {
				r.Rejected, r.Early, r.Owed = true, 2, 2
				r.Cooldown = &protocol.Cooldown{Until: now.UnixMilli(), Code: 40125, Message: "invalid appsecret"}
			})
		}, []string{"a fetch failed: platform answered errcode 40125", "2 more fetches are owed"}},
		{func() {
			d.put(t, "token:wx1", func(r *protocol.Record) { r.Token, r.IssuedAt = "another-token", now.UnixMilli() })
		}, []string{"a new token", "it is certain again"}},
		{func() { d.put(t, "token:wx1", nil) }, []string{"the store went back to a token of"}},
		{func() { require.NoError(t, d.Store.Redis.Del(t.Context(), "wxtoken:token:wx1").Err()) }, []string{"the record is gone"}},
	}
	var got []Change
	at := -1
	check := func() {
		if at >= 0 {
			var all strings.Builder
			for _, c := range got {
				require.NoError(t, c.Write(&all))
			}
			require.Equal(t, len(steps[at].want), len(got), "step %d: %s", at, all.String())
			for _, want := range steps[at].want {
				assert.Contains(t, all.String(), want, "step %d", at)
			}
			assert.NotContains(t, all.String(), "tok-secret")
		}
	}
	d.sleep = func(context.Context, time.Duration) {
		check()
		got = nil
		if at++; at == len(steps) {
			cancel()
			return
		}
		steps[at].do()
	}
	d.Watch(ctx, []string{"token:wx1"}, func(c Change) { got = append(got, c) })
	assert.Equal(t, len(steps), at)
}

func TestTheReportForMachines(t *testing.T) {
	r := &Report{Store: "redis://h"}
	r.ok("store", "fine")
	r.add(Finding{Level: Warn, Area: "clock", Text: "first", Do: "this"})
	r.add(Finding{Level: Fail, Area: "record", Text: "light <b>", Do: "that"})
	r.add(Finding{Level: Fail, Area: "platform", Text: "heavy", Do: "that", weight: heavy})
	var out strings.Builder
	require.NoError(t, r.WriteJSON(&out))
	var back struct {
		Store    string
		Verdict  struct{ Level, Text string }
		Findings []struct{ Level, Area, Text, Do string }
	}
	require.NoError(t, json.Unmarshal([]byte(out.String()), &back))
	assert.Equal(t, "FAIL", back.Verdict.Level)
	assert.Equal(t, "heavy", back.Verdict.Text)
	assert.Len(t, back.Findings, 4)
	assert.Contains(t, out.String(), "light <b>")
	assert.Equal(t, 1, strings.Count(out.String(), "\n"))
	text := said(t, r)
	assert.Contains(t, text, "→ as above")
	assert.Equal(t, Fail, r.Verdict().Level)
	assert.Equal(t, OK, new(Report).Verdict().Level)
}

func TestCredentialsAreNamedByTheirKeys(t *testing.T) {
	for name, ok := range map[string]bool{
		"token:wx1": true, "stable:wx1": true, "wecom:ww1:0123456789abcdef": true, "authorizer:wxc:wxa": true,
		"": false, "wx1": false, "token:": false, ":wx1": false, "wxtoken:token:wx1": false, "token:w x": false,
	} {
		assert.Equal(t, ok, CheckCredential(name) == nil, name)
	}
}
