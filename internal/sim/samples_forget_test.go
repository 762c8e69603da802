package sim

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/wxtest"
)

// A store that forgets the record every few seconds never lets a process watch for
// as long as it takes until an owed fetch is due. A token that an API rejects is
// replaced all the same.
func TestARevokedTokenInAStoreThatForgets(t *testing.T) {
	for _, s := range few([]struct{ keeps, latency time.Duration }{ // shorter than a fetch, too
		{40 * time.Second, time.Second}, {10 * time.Second, 0}, {3 * time.Second, 2 * time.Second}, {700 * time.Millisecond, 900 * time.Millisecond},
	}) {
		for _, members := range few([]int{1, 12, 3}) {
			for _, period := range []time.Duration{time.Second, 13 * time.Second} {
				bubble(t, fmt.Sprintf("every %s, %d members, calls every %s", s.keeps, members, period), func(t *testing.T) {
					p, c := newPlatform(), shortMemory{wxtoken.NewMemoryCache(), s.keeps}
					p.Inject(wxtest.Latency(s.latency).On(wxtest.TokenCalls))
					var srcs []*wxtoken.Source
					for range members {
						srcs = append(srcs, wxtoken.New(plain(p), c))
					}
					worst := time.Duration(0)
					for range 4 {
						for begin := time.Now(); time.Since(begin) < 20*time.Minute; time.Sleep(rare(period)) {
							for _, src := range srcs {
								accepted(t, p, src, tolerated)
							}
						}
						p.Revoke(p.Latest(sampleApp))
						begin := time.Now()
						last := begin
						for time.Since(begin) < 10*time.Minute {
							for _, src := range srcs {
								if !accepted(t, p, src, tolerated) {
									last = time.Now()
								}
							}
							time.Sleep(period)
						}
						worst = max(worst, last.Sub(begin))
					}
					assert.LessOrEqual(t, worst, 2*time.Minute, "until every member has a good token")
				})
			}
		}
	}
}

// One member has another key, or a key where the others have none. It must not be the
// one that makes the next record once the store has lost this one, as the others could
// not read it.
func TestOneMemberWithAnotherKey(t *testing.T) {
	for _, v := range few([]struct {
		keys   [][32]byte // of the others
		period time.Duration
	}{{nil, 10 * time.Second}, {nil, time.Minute}, {[][32]byte{{1}}, 10 * time.Second}}) {
		bubble(t, fmt.Sprint(len(v.keys), " keys, calls every ", v.period), func(t *testing.T) {
			p, c := newPlatform(), wxtoken.NewMemoryCache()
			var srcs []*wxtoken.Source
			for range 3 {
				srcs = append(srcs, wxtoken.New(plain(p), c, wxtoken.WithEncryption(v.keys...)))
				need(t, srcs[0])
			}
			other := wxtoken.New(plain(p), c, wxtoken.WithEncryption([32]byte{2}))
			defer repeated(rare(time.Second), func(int) { got(t, other, tolerated) })()
			defer repeated(51*time.Minute+1300*time.Millisecond, func(i int) {
				if i > 0 {
					put(t, c, nil)
				}
			})()
			assert.LessOrEqual(t, longest(v.period/3, 4*time.Hour, func(i int) bool {
				return accepted(t, p, srcs[i%3], tolerated)
			}), time.Minute, "without a token")
		})
	}
}

// Records that this protocol does not write, but that are within its limits: a good
// token is there within 6 minutes, as a lease is capped at 5.
func TestRecordsAtTheLimits(t *testing.T) {
	const month = 30 * 24 * time.Hour
	const maxSeq, maxCount, maxTime, minTime = "9007199254740991", "1073741823", "9223372036854775807", "-9223372036854775808"
	token := func(issued, life time.Duration, more string) string {
		at := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(issued) // when bubbles begin
		return fmt.Sprintf(`"token":"planted","issued_at":%d,"expires_at":%d`, at.UnixMilli(), at.Add(life).UnixMilli()) + more
	}
	for _, v := range few([]struct {
		name, record string
		long         bool // for long lives alone
	}{
		{"lease", `"lease":"x.y","lease_for":` + maxCount, false},
		{"lease, noted", `"noted":true,"lease":"x.y","lease_for":` + maxCount, true},
		{"lease of no length, noted", `"noted":true,"lease":"x.y"`, true},
		{"seq", `"owed":3,"seq":` + maxSeq, false},
		{"seq and token", token(0, month, `,"owed":3,"seq":`+maxSeq), false},
		{"token of a month", token(0, month, ""), false},
		{"rejected, at most early", token(0, month, `,"rejected":true,"early":`+maxCount), false},
		{"at most early", token(-time.Hour, month, `,"early":`+maxCount), false},
		{"issued in a year", token(365*24*time.Hour, month, ""), false},
		{"issued in a year, early", token(365*24*time.Hour, month, `,"early":3`), false},
		{"cooldown, busy", `"cooldown":{"code":-1,"until":` + maxTime + `,"step":` + maxCount + `}`, false},
		{"cooldown, secret", `"cooldown":{"code":40125,"until":` + maxTime + `,"step":9,"scope":"x"}`, false},
		{"cooldown in the past", `"cooldown":{"code":45009,"until":` + minTime + `,"step":9}`, false},
		{"cooldown, own address", `"cooldown":{"code":40164,"until":` + maxTime + `,"step":9}`, false},
		{"past", token(0, month, `,"past":"`+strings.Repeat("0123456789 ", 5)+`0123456789"`), false},
	}) {
		for _, short := range []bool{false, true} {
			if v.long && short {
				continue
			}
			bubble(t, fmt.Sprint(v.name, ", short lives ", short), func(t *testing.T) {
				p, c := newPlatform(), wxtoken.NewMemoryCache()
				record := `{"v":1,"epoch":"e","seq":7,` + v.record + `}`
				stored, err := c.CompareAndSwap(t.Context(), sampleKey, nil, []byte(record), month)
				require.True(t, stored && err == nil)
				m := startProgram(plain(p), c)
				assert.LessOrEqual(t, longest(5*time.Second, 20*time.Minute, func(int) bool {
					if short {
						m.die()
						m = startProgram(plain(p), c)
					}
					return accepted(t, p, m.Source, patience)
				}), 6*time.Minute, "without a good token")
			})
		}
	}
}
