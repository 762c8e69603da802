package doctor

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/store"
	"github.com/wxtoken/wxtoken/internal/servers"
	"github.com/wxtoken/wxtoken/wxtest"
)

var update = flag.Bool("update", false, "write the outputs into docs/doctor.md and docs/zh-CN/doctor.md")

const appSecret = "secret-of-the-app-0123456789"

// An incident is an app on a fake platform, with a Redis.
type incident struct {
	*testing.T
	platform *wxtest.Server
	redis    *servers.Server
}

func newIncident(t *testing.T, args ...string) *incident {
	n := &incident{T: t, redis: servers.Redis(t, args...)}
	n.platform = wxtest.NewServer(wxtest.WithApp("wx1", appSecret), wxtest.WithGrace(0)) // a superseded token is invalid at once, not after 5 minutes
	t.Cleanup(n.platform.Close)
	return n
}

func (n *incident) url() string { return "redis://" + n.redis.Addr() }

func (n *incident) cache(database int) *wxtoken.RedisCache {
	c := redis.NewClient(&redis.Options{Addr: n.redis.Addr(), DB: database, ContextTimeoutEnabled: true})
	n.Cleanup(func() { _ = c.Close() })
	return wxtoken.NewRedisCache(c)
}

// service is a process of the app. All durations are three hundredths of the usual ones.
func (n *incident) service(c wxtoken.Cache, secret string, opts ...wxtoken.Option) *wxtoken.Source {
	return wxtoken.New(wxtoken.NewFetcher("wx1", secret, wxtoken.WithBaseURL(n.platform.URL)), c, append([]wxtoken.Option{
		wxtoken.WithFetchTimeout(300 * time.Millisecond), wxtoken.WithLocalAge(1350 * time.Millisecond),
	}, opts...)...)
}

func (n *incident) token(src *wxtoken.Source) string {
	n.Helper()
	var err error
	for start := time.Now(); time.Since(start) < 20*time.Second; {
		var token wxtoken.Token
		if token, err = src.Token(n.Context()); err == nil {
			return token.Value
		}
		time.Sleep(20 * time.Millisecond)
	}
	require.NoError(n, err)
	return ""
}

// examine runs wxtoken doctor.
func (n *incident) examine(change ...func(*Doctor)) *Report {
	n.Helper()
	s, err := store.Open(n.url())
	require.NoError(n, err)
	n.Cleanup(func() { _ = s.Close() })
	d := &Doctor{Store: s, Prefix: "wxtoken:", BaseURL: n.platform.URL}
	for _, c := range change {
		c(d)
	}
	fetches := n.platform.Stats().Fetches().Total()
	r := d.Examine(n.Context(), []string{"token:wx1"})
	assert.Equal(n, fetches, n.platform.Stats().Fetches().Total(), "doctor fetches nothing")
	return r
}

// unhurried is for a service that must get the platform's answer at its first try.
var unhurried = wxtoken.WithFetchTimeout(10 * time.Second)

// The situations that docs/doctor.md shows.
var situations = []struct {
	name  string
	flags string
	level Level
	says  string // the verdict
	play  func(n *incident) *Report
}{
	{"all is well", "", OK, "no problem found", func(n *incident) *Report {
		n.token(n.service(n.cache(0), appSecret))
		return n.examine()
	}},
	{"a second system fetches every 10 minutes", "", Fail, "another system fetches", func(n *incident) *Report {
		src := n.service(n.cache(0), appSecret)
		for range 3 {
			rejected := n.token(src)
			n.platform.Issue("wx1") // the other system
			require.Eventually(n, func() bool { return src.Invalidate(n.Context(), rejected) == nil }, 10*time.Second, 20*time.Millisecond)
		}
		n.token(src)
		n.platform.Issue("wx1")
		return n.examine()
	}},
	{"a memory cache by mistake", "", Fail, "another system fetches", func(n *incident) *Report {
		n.token(n.service(n.cache(0), appSecret))
		n.token(n.service(wxtoken.NewMemoryCache(), appSecret)) // one service of several
		return n.examine()
	}},
	{"two database numbers", " -scan", Fail, "wx1 has 2 records", func(n *incident) *Report {
		n.token(n.service(n.cache(0), appSecret))
		n.token(n.service(n.cache(3), appSecret))
		return n.examine(func(d *Doctor) { d.Scan = true })
	}},
	{"a wrong secret", "", Fail, "40125", func(n *incident) *Report {
		_, err := n.service(n.cache(0), "an-old-secret", unhurried).Token(n.Context())
		require.Error(n, err)
		return n.examine()
	}},
	{"an IP address off the whitelist", "", Fail, "for a reason of its own", func(n *incident) *Report {
		n.platform.SetWhitelist("wx1", "203.0.113.7")
		_, err := n.service(n.cache(0), appSecret, unhurried).Token(n.Context())
		require.Error(n, err)
		return n.examine()
	}},
	{"a sealed record without the key", "", Fail, "the record is sealed", func(n *incident) *Report {
		n.token(n.service(n.cache(0), appSecret, wxtoken.WithEncryption([32]byte{1})))
		return n.examine()
	}},
	{"a full Redis", "", Fail, "it is full", func(n *incident) *Report {
		n.token(n.service(n.cache(0), appSecret))
		n.fill()
		return n.examine()
	}},
}

// fill writes until the server accepts no more.
func (n *incident) fill() {
	c := redis.NewClient(&redis.Options{Addr: n.redis.Addr()})
	defer c.Close()
	require.NoError(n, c.ConfigSet(n.Context(), "maxmemory", "4mb").Err())
	for i := 0; ; i++ {
		if err := c.Set(n.Context(), fmt.Sprint("report:", i), strings.Repeat("x", 10_000), 0).Err(); err != nil {
			require.ErrorContains(n, err, "OOM")
			return
		}
	}
}

// The outputs in docs/doctor.md, in both languages, come from this program.
func TestSituations(t *testing.T) {
	outputs := map[string]string{}
	for _, s := range situations {
		t.Run(s.name, func(t *testing.T) {
			n := newIncident(t)
			r := s.play(n)
			verdict := r.Verdict()
			var out strings.Builder
			require.NoError(t, r.Write(&out))
			t.Logf("\n%s", out.String())
			if latest := n.platform.Latest("wx1"); latest != "" {
				assert.NotContains(t, out.String(), latest)
			}
			assert.Equal(t, s.level, verdict.Level)
			assert.Contains(t, verdict.Text, s.says)
			for _, f := range r.Findings {
				assert.True(t, f.Level == OK || f.Do != "", "what is to be done about: %s", f.Text)
			}
			assert.NotContains(t, out.String(), appSecret)
			outputs[s.name] = "$ wxtoken doctor -store redis://127.0.0.1:6379/0 -key token:wx1" + s.flags + "\n" + typical(out.String())
		})
	}
	if t.Failed() {
		return
	}
	for _, page := range []string{"doctor.md", "zh-CN/doctor.md"} {
		inPage(t, "../../../../docs/"+page, outputs)
	}
}

// typical replaces the figures of this run by typical ones.
func typical(out string) string {
	for _, r := range [][2]string{
		{`127\.0\.0\.1:\d+`, "127.0.0.1:6379"}, {`(Redis|Valkey) \d[\w.]*`, "Redis 7.0.15"}, {`answers in [\d.]+ (ms|s)`, "answers in 0.3 ms"},
		{`memory 4\.\d MB of 4\.0 MB`, "memory 4.0 MB of 4.0 MB"}, {`memory \d\.\d MB, no limit`, "memory 1.1 MB, no limit"},
		{`to [\d.]+ ms`, "to 0.2 ms"}, {`to 0 s`, "to 0.0 ms"}, {`of [\d.]+ (ms|s) ago`, "of 12 min ago"}, {`good for 1 h \d+ min`, "good for 1 h 47 min"},
		{`; no process (younger than 5 min )?asks again for [\d.]+ m?s(, but one with another secret may)?`, ""}, {`rid: [0-9a-f-]+`, "rid: 6aac005a-01bfdbee-79769285"},
		{`failed is \w+`, "failed is 3KQ7XW2MZP4T"},
	} {
		out = regexp.MustCompile(r[0]).ReplaceAllString(out, r[1])
	}
	return out
}

// inPage compares the outputs with those in a page, or updates the page. Each is in a
// text code block after a comment that names its situation.
func inPage(t *testing.T, path string, outputs map[string]string) {
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	page := string(text)
	for name, out := range outputs {
		begin := "<!-- doctor: " + name + " -->\n```text\n"
		head, rest, found := strings.Cut(page, begin)
		require.True(t, found, "%s has no place for: %s", path, name)
		old, tail, found := strings.Cut(rest, "```\n")
		require.True(t, found)
		if *update {
			page = head + begin + out + "```\n" + tail
			continue
		}
		assert.Equal(t, out, old, "%s: %s; go test ./cmd/wxtoken/internal/doctor -update updates it", path, name)
	}
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(page), 0o644))
	}
}
