//go:build !race

package sim

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/wxtoken/wxtoken"
)

// Fleets of three healthy members that live long and one odd one, with the bounds of
// the fleets of sick members.
func TestFleetsWithAnOddMember(t *testing.T) {
	durations := func(fetch, local time.Duration) []wxtoken.Option {
		return []wxtoken.Option{wxtoken.WithFetchTimeout(fetch), wxtoken.WithLocalAge(local)}
	}
	lives := func(least, most, every float64) *Lives {
		return &Lives{For: [2]time.Duration{sec(least), sec(most)}, Every: [2]time.Duration{sec(every), sec(every)}, Exit: Killed}
	}
	denied := func(code int) *Ailment {
		return &Ailment{Err: &wxtoken.APIError{Code: code, Message: "denied"}}
	}
	blackHole := &Ailment{Silent: true}
	noWayBack := &Ailment{Lands: true, Silent: true}
	truncated := &Ailment{Lands: true, Err: errors.New("sim: unexpected end of JSON input")}
	for _, v := range []struct {
		name string
		good float64 // s between the calls of a healthy member
		odd  Member
	}{
		// A short WithLocalAge: each new process is the first to settle what is owed.
		{"short lives, timeout 1 s, age 1 s, no way back", 5, Member{Every: sec(1), Options: durations(sec(1), sec(1)), Lives: lives(2.5, 5, 5), Ails: noWayBack}},
		{"short lives, age 10 s, no way back", 5, Member{Every: sec(1), Options: durations(0, sec(10)), Lives: lives(30, 60, 50), Ails: noWayBack}},
		{"short lives, timeout 500 ms, age 1 s, truncated", 20, Member{Every: sec(0.5), Options: durations(sec(0.5), sec(1)), Lives: lives(1.5, 3, 2), Ails: truncated}},
		// A clock that is ahead: every token has expired, so that nothing else holds
		// a new process back.
		{"short lives, 2 h ahead, truncated", 5, Member{Every: sec(1), Skew: 2 * time.Hour, Lives: lives(2.5, 5, 5), Ails: truncated}},
		{"short lives, 3 h ahead, no way back", 5, Member{Every: sec(1), Skew: 3 * time.Hour, Lives: lives(2.5, 5, 5), Ails: noWayBack}},
		{"short lives, 3 h ahead, black hole", 5, Member{Every: sec(1), Skew: 3 * time.Hour, Lives: lives(2.5, 5, 5), Ails: blackHole}},
		{"short lives, 3 h ahead, busy", 5, Member{Every: sec(1), Skew: 3 * time.Hour, Lives: lives(2.5, 5, 5), Ails: denied(-1)}},
		{"short lives, 3 h ahead, 41002", 5, Member{Every: sec(1), Skew: 3 * time.Hour, Lives: lives(2.5, 5, 5), Ails: denied(41002)}},
		{"3 h ahead, truncated", 20, Member{N: 1, Every: sec(1), Skew: 3 * time.Hour, Ails: truncated}},
		{"3 h ahead, busy", 20, Member{N: 1, Every: sec(1), Skew: 3 * time.Hour, Ails: denied(-1)}},
		// A denial that everyone waits for, and that only one meets: it is first again.
		{"45009", 20, Member{N: 1, Every: sec(1), Ails: denied(45009)}},
		{"45009", 60, Member{N: 1, Every: sec(0.3), Ails: denied(45009)}},
	} {
		for i, g := range []Grace{Strict, Stable} {
			name := fmt.Sprintf("%s, %s, healthy ones called every %g s", v.name, g, v.good)
			t.Run(name, func(t *testing.T) {
				r := play(t, Config{Name: name, Seed: *seedFlag + uint64(i), Length: 3 * time.Hour, Grace: g, New: newReal, Retry: time.Second,
					Members: []Member{{N: 3, Every: sec(v.good)}, v.odd}})
				scale := 24 / r.Length.Hours()
				t.Logf("BREAK %s: %.0f s a day without a token, at most %.0f s, %.0f until one is accepted; %.0f fetches a day; of %d calls %d rejected twice", name,
					r.Without.Seconds()*scale, r.LongestWithout.Seconds(), r.LongestUnused.Seconds(), float64(r.Asked)*scale, r.Calls, r.RejectedTwice)
				assert.LessOrEqual(t, r.Without.Seconds(), 60.0, "s without a token")
				assert.LessOrEqual(t, float64(r.Asked)*scale, 320.0, "fetches a day")
				assert.LessOrEqual(t, r.RejectedTwice, 10, "calls rejected after one retry")
			})
		}
	}
}
