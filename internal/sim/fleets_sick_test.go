package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/wxtoken/wxtoken"
)

// The fleets with one member that the platform denies a token, or whose way to it is
// bad.

func denials() (all []Ailment) {
	for _, code := range []int{41002, 40013, 40125, 43002, 47001, 61024} {
		all = append(all, Ailment{Name: fmt.Sprint(code), Err: &wxtoken.APIError{Code: code, Message: "denied rid: 1-2-3"}})
	}
	return all
}

func unknowns() []Ailment {
	return []Ailment{
		{Name: "502", Err: errors.New("sim: HTTP 502")},
		{Name: "truncated", Lands: true, Err: errors.New("sim: unexpected end of JSON input")},
		{Name: "black hole", Silent: true},
		{Name: "black hole on the way back", Lands: true, Silent: true},
	}
}

// sickMember is three to five healthy members and one with a bad connection to the
// platform, called often or seldom.
func sickMember(ailments []Ailment) []Config {
	type pattern struct{ good, sick time.Duration }
	graces := []Grace{Lenient, Strict, Stable}
	return each(product([]pattern{
		{time.Second, time.Second}, {55 * time.Second, 50 * time.Millisecond}, {time.Second, time.Hour},
		{55 * time.Second, time.Minute}, {time.Second, 50 * time.Millisecond}, {20 * time.Second, 5 * time.Second},
	}, ailments), func(i int, v struct {
		a pattern
		b Ailment
	}, c *Config) string {
		fixed := i%2 == 0
		c.Grace, c.HTTP = graces[i%3], v.b.Name == "40125" // a fingerprint distinguishes the secrets
		if v.a.sick < time.Second {
			c.Length = 8 * time.Hour
		}
		c.Members = []Member{{N: 3 + i%3, Every: v.a.good, Fixed: fixed}, {N: 1, Every: v.a.sick, Fixed: fixed, Ails: &v.b}}
		return fmt.Sprintf("%s, %s, good called every %s, sick every %s", v.b.Name, c.Grace, v.a.good, v.a.sick)
	})
}

// sickForSeconds are healthy members that live long, or cron jobs of one, and a sick one
// whose processes live for seconds: to each of them all is new. What holds a new process
// back can be short by its options, or over by its clock, which is ahead.
func sickForSeconds(cron bool, ailments []Ailment, ahead ...time.Duration) []Config {
	type pattern struct {
		fetch, age time.Duration // its options; 0: the defaults
		calls      time.Duration
		lives      Lives
		good       time.Duration
	}
	lives := func(least, most, next float64) Lives {
		return Lives{For: [2]time.Duration{sec(least), sec(most)}, Every: [2]time.Duration{sec(next), sec(next)}}
	}
	return each(product([]pattern{
		{sec(1), sec(1), sec(1), lives(2.5, 5, 5), sec(5)},
		{0, sec(10), sec(1), lives(30, 60, 50), sec(5)},
		{sec(0.5), sec(1), sec(0.5), lives(1.5, 3, 2), sec(20)},
		{0, 0, sec(1), lives(2.5, 14, 4), sec(55)},
	}, ailments), func(i int, v struct {
		a pattern
		b Ailment
	}, c *Config) string {
		c.Grace, c.Length, c.HTTP = []Grace{Strict, Stable, Lenient}[i/2%3], 8*time.Hour, v.b.Name == "40125" // a fingerprint distinguishes the secrets
		good := Member{N: 3, Every: v.a.good, Fixed: i%2 == 0}
		if cron {
			good = Member{Patience: sec(5), Lives: &Lives{Every: [2]time.Duration{v.a.good, v.a.good * 5 / 4}, Exit: Returns}}
		}
		sick := Member{Every: v.a.calls, Ails: &v.b, Lives: &v.a.lives, Options: []wxtoken.Option{wxtoken.WithFetchTimeout(v.a.fetch), wxtoken.WithLocalAge(v.a.age)}}
		if len(ahead) > 0 {
			sick.Skew = ahead[i%len(ahead)]
		}
		c.Members = []Member{good, sick}
		return fmt.Sprintf("%s, %s, timeout %s, age %s, %s ahead, lives %v, good called every %s, cron %t", v.b.Name, c.Grace, v.a.fetch, v.a.age, sick.Skew, v.a.lives.For, v.a.good, cron)
	})
}

// deniedAlone is one member that the platform denies what it gives the others.
func deniedAlone(codes ...int) []Config {
	type pattern struct{ good, sick time.Duration }
	return each(product([]pattern{
		{sec(20), sec(1)}, {sec(60), sec(0.3)}, {sec(5), sec(1)}, {sec(1), sec(5)},
	}, codes), func(i int, v struct {
		a pattern
		b int
	}, c *Config) string {
		c.Grace, c.Length = []Grace{Strict, Stable, Lenient}[i%3], 8*time.Hour
		c.Members = []Member{{N: 3, Every: v.a.good, Fixed: i%2 == 0}, {N: 1, Every: v.a.sick, Ails: &Ailment{Err: &wxtoken.APIError{Code: v.b, Message: "denied"}}}}
		return fmt.Sprintf("%d, %s, good called every %s, it every %s", v.b, c.Grace, v.a.good, v.a.sick)
	})
}

// patientMember is one whose way to the platform is bad, and which waits for very
// long.
func patientMember() []Config {
	return each(product([]time.Duration{10 * time.Minute, time.Minute, 24 * time.Hour, 3 * time.Minute}, unknowns()[2:]), func(i int, v struct {
		a time.Duration
		b Ailment
	}, c *Config) string {
		c.Grace = []Grace{Lenient, Strict, Stable}[i%3]
		c.Members = []Member{
			{N: 3, Every: sec(1), Fixed: i%2 == 0},
			{N: 1, Every: sec(0.5), Ails: &v.b, Options: []wxtoken.Option{wxtoken.WithFetchTimeout(v.a)}},
		}
		return fmt.Sprintf("%s, %s, fetch timeout %s", v.b.Name, c.Grace, v.a)
	})
}

// killedInEachFetch are healthy members that live long, or cron jobs of one, beside one
// whose processes are killed in each fetch, and started again.
func killedInEachFetch() []Config {
	type pattern struct {
		good time.Duration
		cron bool
	}
	return each(product([]pattern{
		{sec(20), true}, {sec(5), false}, {sec(60), true}, {sec(55), false},
	}, []time.Duration{sec(2), sec(30), sec(10), sec(5)}), func(i int, v struct {
		a pattern
		b time.Duration
	}, c *Config) string {
		c.Grace, c.Length = []Grace{Strict, Stable, Lenient}[i/2%3], 8*time.Hour
		good := Member{N: 3, Every: v.a.good, Fixed: i%2 == 0}
		if v.a.cron {
			good = Member{Patience: sec(5), Lives: &Lives{Every: [2]time.Duration{v.a.good, v.a.good * 5 / 4}, Exit: Returns}}
		}
		c.Members = []Member{good, {Every: sec(1), Lives: &Lives{For: [2]time.Duration{v.b, v.b}, Every: [2]time.Duration{v.b, v.b * 3 / 2}, Kills: 1}}}
		return fmt.Sprintf("%s, one starts every %s, good called every %s, cron %t", c.Grace, v.b, v.a.good, v.a.cron)
	})
}

// severalSick is a cron job beside several members that are killed in each fetch, or
// whose way to the platform is bad: together they fail so often that they could take all
// turns.
func severalSick() []Config {
	bad, truncated, denied := &unknowns()[0], &unknowns()[1], &denials()[0]
	jobs := func(every float64, exit Exit, a *Ailment) Member {
		return Member{Patience: sec(5), Ails: a, Lives: &Lives{Every: [2]time.Duration{sec(every), sec(every * 5 / 4)}, Exit: exit}}
	}
	loop := func(every float64, a *Ailment) Member {
		m := Member{Every: sec(1), Ails: a, Lives: &Lives{For: [2]time.Duration{sec(every), sec(every)}, Every: [2]time.Duration{sec(every), sec(every * 3 / 2)}}}
		if a == nil {
			m.Lives.Kills = 1
		}
		return m
	}
	long := Member{N: 1, Every: sec(1), Ails: bad}
	type sick struct {
		name    string
		members []Member
	}
	return each(product([]float64{20, 60, 5}, []sick{
		{"one killed, one 502", []Member{loop(2, nil), jobs(2, Waits, bad)}},
		{"502, one of them lives long", []Member{jobs(2, Waits, bad), long}},
		{"41002, 502", []Member{loop(2, denied), loop(10, bad)}},
		{"one killed, one 502 that lives long", []Member{loop(2, nil), long}},
		{"502, another too", []Member{jobs(2, Waits, bad), jobs(5, Waits, bad)}},
		{"one killed, another too", []Member{loop(2, nil), loop(10, nil)}},
		{"one killed, one 41002", []Member{loop(5, nil), jobs(2, Waits, denied)}},
		{"502, truncated", []Member{loop(2, bad), loop(10, truncated)}},
		{"502, two that live long", []Member{{N: 2, Every: sec(1), Ails: bad}}},
		{"two killed, one 502", []Member{loop(2, nil), loop(10, bad), loop(5, nil)}},
		{"502, another too, one killed", []Member{jobs(2, Waits, bad), jobs(5, Waits, bad), loop(5, nil)}},
	}), func(i int, v struct {
		a float64
		b sick
	}, c *Config) string {
		c.Grace, c.Length = []Grace{Strict, Stable, Lenient}[i/2%3], 8*time.Hour
		c.Members = append([]Member{jobs(v.a, Returns, nil)}, v.b.members...)
		return fmt.Sprintf("%s, %s, good called every %g s", c.Grace, v.b.name, v.a)
	})
}
