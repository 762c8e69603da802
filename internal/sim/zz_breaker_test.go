package sim

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// job is one run of a cron job: a process that asks for one token, waits for the
// library's work, and ends.
func job(t *testing.T, name string, f wxtoken.Fetcher, c wxtoken.Cache, patience time.Duration) (token string, err error) {
	m := startMortal(f, c)
	m.name = name
	defer m.die()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tok, err := m.Token(ctx)
	_ = m.Wait(ctx)
	return tok.Value, err
}

// A member that is sick is one process after the other: a cron job behind a bad
// proxy, or a crash loop. Each of them has a new id, so the record takes it for a
// failure of different processes.
func TestASickMemberThatLivesShortly(t *testing.T) {
	for _, v := range []struct {
		way        string
		good, sick time.Duration
		goodLives  time.Duration // 0: cron jobs too
	}{
		{"without the query", 30 * time.Second, time.Second, 0},
		{"without the query", 60 * time.Second, 5 * time.Second, 0},
		{"502", 30 * time.Second, time.Second, 0},
		{"502", 10 * time.Second, 2 * time.Second, 0},
		{"without the query", 10 * time.Second, time.Second, 24 * time.Hour},
		{"502", 30 * time.Second, 300 * time.Millisecond, 24 * time.Hour},
	} {
		bubble(t, fmt.Sprint(v), func(t *testing.T) {
			p, c := newPlatform(), wxtoken.NewMemoryCache()
			way := withoutQuery
			if v.way == "502" {
				way = badGateway
			}
			sick := wxtoken.NewFetcher(sampleApp, sampleSecret, through(p, way))
			over, stop := context.WithCancel(t.Context())
			go func() {
				for over.Err() == nil {
					_, _ = job(t, "sick", sick, c, 5*time.Second)
					time.Sleep(v.sick)
				}
			}()
			time.Sleep(time.Minute)
			without, runs := 0, 0
			src := wxtoken.New(plain(p), c)
			var gap, longest time.Duration
			for begin := time.Now(); time.Since(begin) < day/2; time.Sleep(v.good) {
				runs++
				var err error
				if v.goodLives == 0 {
					_, err = job(t, "good", plain(p), c, 5*time.Second)
				} else {
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					_, err = src.Token(ctx)
					cancel()
				}
				if err != nil {
					without++
					gap += v.good
					longest = max(longest, gap)
				} else {
					gap = 0
				}
			}
			stop()
			t.Logf("%d of %d healthy runs without a token, at most for %s; %d fetches reached the platform", without, runs, longest, fetches(p))
			assert.LessOrEqual(t, longest, time.Minute, "without a token")
		})
	}
}

// The same, beside members that live long and have a token that is replaced when it
// expires, as WeCom's is.
func TestASickMemberThatLivesShortlyAtAnExpiry(t *testing.T) {
	for _, v := range []struct{ good, sick time.Duration }{
		{10 * time.Second, time.Second}, {30 * time.Second, 300 * time.Millisecond}, {time.Minute, 5 * time.Second}, {3 * time.Second, 500 * time.Millisecond},
	} {
		bubble(t, fmt.Sprint(v), func(t *testing.T) {
			p, c := newPlatform(), wxtoken.NewMemoryCache()
			p.AddCorp("ww1", sampleSecret)
			corp := func(way func(http.RoundTripper) http.RoundTripper) wxtoken.Fetcher {
				return wxtoken.NewWeComFetcher("ww1", sampleSecret, through(p, way))
			}
			var srcs []*wxtoken.Source
			for range 3 {
				srcs = append(srcs, wxtoken.New(corp(nil), c))
				need(t, srcs[0])
			}
			over, stop := context.WithCancel(t.Context())
			defer stop()
			go func() {
				for over.Err() == nil {
					_, _ = job(t, "sick", corp(withoutQuery), c, 5*time.Second)
					time.Sleep(v.sick)
				}
			}()
			began, last, longest := time.Now(), time.Now(), time.Duration(0)
			for i := 0; time.Since(began) < 8*time.Hour; i++ {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				if _, err := srcs[i%3].Token(ctx); err == nil {
					last = time.Now()
				}
				cancel()
				longest = max(longest, time.Since(last))
				time.Sleep(v.good / 3)
			}
			t.Logf("without a token for %s; %d fetches", longest, fetches(p))
			assert.LessOrEqual(t, longest, time.Minute, "without a token")
		})
	}
}

// A member whose clock is ahead, and whose processes live for seconds: each new one
// takes every token for old enough to believe a rejection. It reports each token,
// as one does that sends them to the wrong API.
func TestAClockThatIsAheadInShortLivesThatReportEveryToken(t *testing.T) {
	for _, v := range []struct{ off, every time.Duration }{
		{10 * time.Minute, 10 * time.Second}, {time.Hour, 10 * time.Second}, {100 * time.Minute, time.Minute}, {3 * time.Hour, 30 * time.Second}, {0, 10 * time.Second}, {-time.Hour, 10 * time.Second},
	} {
		bubble(t, fmt.Sprint(v), func(t *testing.T) {
			p, c := newPlatform(wxtest.WithQuota(0, 0)), wxtoken.NewMemoryCache()
			over, stop := context.WithCancel(t.Context())
			defer stop()
			go func() {
				for over.Err() == nil {
					m := startMortal(plain(p), skewed{c, v.off})
					ctx, cancel := context.WithTimeout(over, 5*time.Second)
					if tok, err := m.Token(ctx); err == nil {
						_ = m.Invalidate(ctx, tok.Value)
						_, _ = m.Token(ctx)
					}
					cancel()
					m.die()
					time.Sleep(v.every)
				}
			}()
			good := []*wxtoken.Source{wxtoken.New(plain(p), c), wxtoken.New(plain(p), c)}
			rejected := 0
			for begin := time.Now(); time.Since(begin) < day/4; time.Sleep(5 * time.Second) {
				for _, src := range good {
					if tok, err := src.Token(t.Context()); err != nil || !p.Honoured(tok.Value) {
						rejected++
					}
				}
			}
			t.Logf("%d fetches a day, %d calls of the others without a good token", 4*fetches(p), rejected)
			assert.LessOrEqual(t, 4*fetches(p), 340, "fetches a day")
		})
	}
}

// In a conflict, the clock of the member that fetched last was ahead, and all
// others live for seconds: nobody sees the token get old.
func TestShortLivesInAConflictAfterAClockThatWasAhead(t *testing.T) {
	for _, off := range []time.Duration{0, 10 * time.Minute, time.Hour, 3 * time.Hour} {
		bubble(t, off.String(), func(t *testing.T) {
			p, c := newPlatform(), wxtoken.NewMemoryCache()
			first, err := job(t, "good", plain(p), c, 5*time.Second)
			assert.NoError(t, err)
			time.Sleep(10 * time.Minute)
			p.Issue(sampleApp) // another system fetches
			p.Issue(sampleApp)
			m := startMortal(plain(p), skewed{c, off})
			assert.NoError(t, m.Invalidate(t.Context(), first))
			need(t, m)
			m.die()
			time.Sleep(10 * time.Minute)
			p.Issue(sampleApp)
			p.Issue(sampleApp)
			var last, longest = time.Now(), time.Duration(0)
			for begin := time.Now(); time.Since(begin) < 6*time.Hour; time.Sleep(10 * time.Second) {
				m := startMortal(plain(p), c)
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				tok, err := m.Token(ctx)
				if err == nil && !p.Honoured(tok.Value) {
					_ = m.Invalidate(ctx, tok.Value)
					tok, err = m.Token(ctx)
				}
				if err == nil && p.Honoured(tok.Value) {
					last = time.Now()
				}
				longest = max(longest, time.Since(last))
				time.Sleep(3 * time.Second)
				cancel()
				m.die()
			}
			t.Logf("without a good token for %s", longest)
			assert.LessOrEqual(t, longest, 6*time.Minute)
		})
	}
}

// A member whose clock is ahead is told that the quota of the minute is used up. The
// others live for seconds: each takes the time in the record for longer than it is.
func TestShortLivesAfterACooldownByAClockThatIsAhead(t *testing.T) {
	for _, v := range []struct {
		off  time.Duration
		code int
	}{{3 * time.Hour, 45011}, {time.Hour, 45011}, {0, 45011}, {-time.Hour, 45011}, {time.Hour, 45009}, {0, 45009}, {time.Hour, -1}} {
		bubble(t, fmt.Sprint(v), func(t *testing.T) {
			p, c := newPlatform(), wxtoken.NewMemoryCache()
			lift := p.Inject(wxtest.Denial(v.code).On(wxtest.TokenCalls))
			_, err := job(t, "first", plain(p), skewed{c, v.off}, 5*time.Second)
			assert.Error(t, err)
			lift()
			begin := time.Now()
			for ; time.Since(begin) < 6*time.Hour; time.Sleep(10 * time.Second) {
				if _, err := job(t, "good", plain(p), c, 5*time.Second); err == nil {
					break
				}
			}
			t.Logf("%d: without a token for %s", v.code, time.Since(begin))
			most := map[int]time.Duration{45011: time.Minute, 45009: 30 * time.Minute, -1: 30 * time.Second}[v.code]
			assert.LessOrEqual(t, time.Since(begin), most+20*time.Second)
		})
	}
}

// A ticket that was not new when it was first fetched: nobody knows when it expires,
// so that it is asked for again every 5 minutes. Processes that live for seconds must
// do that too: no API reports an expired ticket.
func TestTicketsOfShortLives(t *testing.T) {
	for _, v := range []struct {
		old   time.Duration // of the ticket when it is first fetched
		every time.Duration
		lives bool // long
		off   time.Duration
	}{
		{time.Hour, 10 * time.Second, false, 0}, {100 * time.Minute, 4 * time.Second, false, 0}, {time.Hour, 10 * time.Second, true, 0},
		{time.Hour, 10 * time.Second, true, 3 * time.Hour}, {90 * time.Minute, 30 * time.Second, true, time.Hour}, {time.Hour, 10 * time.Second, true, -time.Hour},
	} {
		bubble(t, fmt.Sprint(v), func(t *testing.T) {
			p := newPlatform()
			tickets := func(c wxtoken.Cache) *mortal {
				src := wxtoken.New(plain(p), c)
				return startMortal(wxtoken.NewTicketFetcher(src, "jsapi", through(p, nil)), c)
			}
			need(t, tickets(wxtoken.NewMemoryCache())) // by another system, or before the store lost everything
			time.Sleep(v.old)
			c := wxtoken.NewMemoryCache()
			if v.off != 0 { // the first member's clock was off, and it is gone
				m := tickets(skewed{c, v.off})
				need(t, m)
				m.die()
			}
			long := tickets(c)
			good, longest := time.Now(), time.Duration(0)
			for begin := time.Now(); time.Since(begin) < 12*time.Hour; time.Sleep(v.every) {
				m := long
				if !v.lives {
					m = tickets(c)
				}
				if p.TicketHonoured(need(t, m)) {
					good = time.Now()
				}
				longest = max(longest, time.Since(good))
				if !v.lives {
					ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
					_ = m.Wait(ctx)
					time.Sleep(3 * time.Second)
					m.die()
					cancel()
				}
			}
			t.Logf("pages were signed with an expired ticket for %s; %d requests", longest, p.Stats().Results[wxtest.TicketPath].Total())
			assert.LessOrEqual(t, longest, 6*time.Minute)
		})
	}
}

// The platform is busy or out of reach for some minutes, which nobody waits long for;
// then one answer is lost. The wait doubles, but from 30 s to 10 minutes it is not
// twice.
func TestOneLostReplyAfterMinutesOfBusy(t *testing.T) {
	for _, v := range []struct {
		name   string
		first  time.Duration
		second wxtest.Fault
		n      int
	}{
		{"busy", 5 * time.Minute, wxtest.LostReply(), 1}, {"no secret", 5 * time.Minute, wxtest.ServerError(502), 1},
		{"no secret", 8 * time.Minute, wxtest.ServerError(502), 3}, {"busy", 15 * time.Minute, wxtest.Truncated(), 3}, {"nothing", time.Minute, wxtest.ServerError(502), 1},
	} {
		bubble(t, fmt.Sprint(v.name, v.first, v.n), func(t *testing.T) {
			p, c := newPlatform(), wxtoken.NewMemoryCache()
			down := v.name == "no secret" // its store is down, and nothing is sent
			secret := wxtoken.WithSecretFunc(func(context.Context) (string, error) {
				if down {
					return "", errors.New("the vault is sealed")
				}
				return sampleSecret, nil
			})
			var srcs []*wxtoken.Source
			for range v.n {
				srcs = append(srcs, wxtoken.New(wxtoken.NewFetcher(sampleApp, "", through(p, nil), secret), c))
			}
			lift := func() {}
			if v.name == "busy" {
				lift = p.Inject(wxtest.Busy().On(wxtest.TokenCalls))
			}
			try := func() bool {
				for _, src := range srcs {
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					_, err := src.Token(ctx)
					cancel()
					if err == nil {
						return true
					}
				}
				return false
			}
			if v.name != "nothing" {
				for begin := time.Now(); time.Since(begin) < v.first; time.Sleep(time.Second) {
					try()
				}
			}
			lift()
			down = false
			p.Inject(v.second.On(wxtest.TokenCalls).Times(v.n))
			begin := time.Now()
			for ; !try(); time.Sleep(time.Second) {
			}
			t.Logf("without a token for %s after that", time.Since(begin))
			assert.LessOrEqual(t, time.Since(begin), 2*time.Minute)
		})
	}
}

// Records that this protocol does not write, but that are within its limits: a good
// token is there within 6 minutes (a lease is capped at 5), for members that live long
// and for cron jobs.
func TestRecordsAtTheLimits(t *testing.T) {
	const maxSeq, maxCount = "9007199254740991", "1073741823"
	const month = 30 * 24 * time.Hour
	at := func(d time.Duration) string {
		return fmt.Sprint(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(d).UnixMilli())
	}
	token := func(issued, life time.Duration, more string) string {
		return `{"v":1,"epoch":"e","seq":7,"token":"planted","issued_at":` + at(issued) + `,"expires_at":` + at(issued+life) + more + `}`
	}
	for _, v := range []struct{ name, record string }{
		{"seq", `{"v":1,"epoch":"e","seq":` + maxSeq + `,"owed":3}`},
		{"seq and token", token(0, month, `,"owed":3,"seq":`+maxSeq)},
		{"token of a month", token(0, month, "")},
		{"rejected, at most early", token(0, month, `,"rejected":true,"early":`+maxCount)},
		{"at most early", token(-time.Hour, month, `,"early":`+"1073741822")},
		{"issued in a year", token(365*24*time.Hour, month, "")},
		{"issued in a year, early", token(365*24*time.Hour, month, `,"early":3`)},
		{"lease", `{"v":1,"epoch":"e","seq":1,"lease":"x.y","lease_for":` + maxCount + `}`},
		{"lease, noted", `{"v":1,"epoch":"e","seq":1,"noted":true,"lease":"x.y","lease_for":` + maxCount + `}`},
		{"lease of no length, noted", `{"v":1,"epoch":"e","seq":1,"noted":true,"lease":"x.y"}`},
		{"cooldown, busy", `{"v":1,"epoch":"e","seq":1,"cooldown":{"code":-1,"until":9223372036854775807,"step":1073741822}}`},
		{"cooldown, secret", `{"v":1,"epoch":"e","seq":1,"cooldown":{"code":40125,"until":9223372036854775807,"step":9,"scope":"x"}}`},
		{"cooldown in the past", `{"v":1,"epoch":"e","seq":1,"cooldown":{"code":45009,"until":-9223372036854775808,"step":9}}`},
		{"cooldown, own address", `{"v":1,"epoch":"e","seq":1,"cooldown":{"code":40164,"until":9223372036854775807,"step":9}}`},
		{"past", token(0, month, `,"past":"`+strings.Repeat("0123456789 ", 5)+`0123456789"`)},
	} {
		for _, short := range []bool{false, true} {
			bubble(t, fmt.Sprint(v.name, ", short lives ", short), func(t *testing.T) {
				p, c := newPlatform(), wxtoken.NewMemoryCache()
				stored, err := c.CompareAndSwap(t.Context(), sampleKey, nil, []byte(v.record), month)
				assert.True(t, stored && err == nil)
				long, begin := startMortal(plain(p), c), time.Now()
				for ; time.Since(begin) < time.Hour; time.Sleep(5 * time.Second) {
					m := long
					if short {
						m = startMortal(plain(p), c)
					}
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					tok, err := m.Token(ctx)
					if err == nil && !p.Honoured(tok.Value) {
						_ = m.Invalidate(ctx, tok.Value)
						tok, err = m.Token(ctx)
					}
					cancel()
					if err == nil && p.Honoured(tok.Value) {
						break
					}
					if short {
						m.die()
					}
				}
				t.Logf("BREAK %s, %t: without a good token for %s", v.name, short, time.Since(begin))
				assert.LessOrEqual(t, time.Since(begin), 6*time.Minute)
			})
		}
	}
}

// One member has another key, or a key where the others have none. The options must
// agree, but it is one member's mistake: once the store has lost the record, that
// member may write the next one, and all others are without a token as long as it
// goes on.
func TestOneMemberWithAnotherKey(t *testing.T) {
	for _, v := range []struct {
		others []wxtoken.Option
		good   time.Duration
	}{
		{nil, 10 * time.Second}, {[]wxtoken.Option{wxtoken.WithEncryption([32]byte{1})}, 10 * time.Second}, {nil, time.Minute},
	} {
		bubble(t, fmt.Sprint(len(v.others), v.good), func(t *testing.T) {
			p, c := newPlatform(), wxtoken.NewMemoryCache()
			var srcs []*wxtoken.Source
			for range 3 {
				srcs = append(srcs, wxtoken.New(plain(p), c, v.others...))
				need(t, srcs[0])
			}
			over, stop := context.WithCancel(t.Context())
			defer stop()
			odd := wxtoken.New(plain(p), c, wxtoken.WithEncryption([32]byte{2}))
			go func() {
				for ; over.Err() == nil; time.Sleep(time.Second) {
					ctx, cancel := context.WithTimeout(over, tolerated)
					_, _ = odd.Token(ctx)
					cancel()
				}
			}()
			with, longest := time.Now(), time.Duration(0)
			go func() {
				for range 5 {
					time.Sleep(51*time.Minute + 1300*time.Millisecond)
					put(t, c, nil)
				}
			}()
			for i, begin := 0, time.Now(); time.Since(begin) < 12*time.Hour; time.Sleep(v.good / 3) {
				i++
				ctx, cancel := context.WithTimeout(t.Context(), tolerated)
				if tok, err := srcs[i%3].Token(ctx); err == nil && p.Honoured(tok.Value) {
					with = time.Now()
				}
				cancel()
				longest = max(longest, time.Since(with))
			}
			t.Logf("the others were without a good token for %s", longest)
			assert.LessOrEqual(t, longest, time.Minute)
		})
	}
}
