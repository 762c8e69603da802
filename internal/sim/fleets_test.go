package sim

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wxtoken/wxtoken"
)

// A fleet is a row of the table of fleets: what is simulated, and what must hold.
type fleet struct {
	name   string
	cases  []Config // Length is set by the runner where it is 0
	bounds []bound
}

// A bound is a figure of one run and its maximum.
type bound struct {
	what string
	of   func(*Report) float64
	most float64
}

func stretch(most time.Duration) bound {
	return bound{"s without a token at a time", func(r *Report) float64 { return r.LongestWithout.Seconds() }, most.Seconds()}
}

// without is for a day, or for a run that is shorter.
func without(most time.Duration) bound {
	return bound{"s a day without a token", func(r *Report) float64 {
		return r.Without.Seconds() / max(r.Length.Hours()/24, 1)
	}, most.Seconds()}
}

func recovery(most time.Duration) bound {
	return bound{"s until a token is accepted", func(r *Report) float64 { return r.LongestUnused.Seconds() }, most.Seconds()}
}

func aDay(most float64) bound {
	return bound{"fetches a day", func(r *Report) float64 { return float64(r.Asked) / (r.Length.Hours() / 24) }, most}
}

func asked(most float64) bound {
	return bound{"fetches", func(r *Report) float64 { return float64(r.Asked) }, most}
}

func failed(most float64) bound {
	return bound{"errors and rejections", func(r *Report) float64 { return float64(r.Failed + r.Rejected) }, most}
}

var (
	reported = bound{"runs without a cache_error", func(r *Report) float64 {
		return float64(1 - min(r.Events[string(wxtoken.EventCacheError)], 1))
	}, 0}
	reads     = bound{"reads a minute", func(r *Report) float64 { return float64(r.ReadsPeak) }, 60}
	events    = bound{"events a minute", func(r *Report) float64 { return float64(r.EventsPeak) }, 3}
	megabytes = bound{"MB allocated by a call", func(r *Report) float64 { return float64(r.BytesPeak) / 1e6 }, 10}
	intact    = bound{"broken invariants", func(r *Report) float64 { return float64(r.Broken) }, 0}
)

func fleets() []fleet {
	return []fleet{
		{"short lives, plain", shortLives(Lenient, Strict), []bound{stretch(30 * time.Second), aDay(60)}},
		{"short lives, repeatable", shortLives(Stable, WeCom), []bound{stretch(5 * time.Second), aDay(60)}},
		{"one faulty process, denied by the platform", sickMember(denials()), []bound{without(0), aDay(320)}},
		{"one faulty process, unknown outcomes", sickMember(unknowns()), []bound{without(time.Minute), aDay(320)}},
		{"a sick member that lives for seconds, denied by the platform", sickForSeconds(false, denials()[:3]), []bound{without(0), aDay(320)}},
		{"a sick member that lives for seconds, unknown outcomes", sickForSeconds(false, unknowns()), []bound{without(time.Minute), aDay(320)}},
		{"a sick member that lives for seconds, beside cron jobs", sickForSeconds(true, append(denials()[:1], unknowns()[:2]...)), []bound{without(time.Minute), aDay(320)}},
		{"a sick member that lives for seconds, its clock ahead", sickForSeconds(false, denials()[:2], 3*time.Hour, 100*time.Minute, 12*time.Hour), []bound{without(0), aDay(320)}},
		{"a member that is killed in each fetch", killedInEachFetch(), []bound{stretch(3 * time.Minute), aDay(320)}},
		{"several sick members, beside cron jobs", severalSick(), []bound{stretch(10 * time.Minute), aDay(320)}},
		{"a denial that only one member meets", deniedAlone(45009, 45011), []bound{without(0), aDay(320)}},
		{"a busy platform that only one member meets", deniedAlone(-1, -1000), []bound{without(0)}}, // it asks every 30 s
		{"one faulty process with a timeout of minutes", patientMember(), []bound{without(time.Minute), aDay(320)}},
		{"one clock off", oneClockOff(), []bound{without(0), aDay(20)}},
		{"renewed values", renewedValues(), []bound{without(0), aDay(20)}},
		{"restarts in a conflict", conflict(), []bound{recovery(6 * time.Minute), aDay(320)}},
		{"record lost every 3 to 40 s", recordLost(), []bound{aDay(320), reported}},
		{"unreadable answers for 6 to 14 h", unreadable(), []bound{asked(120), stretch(11 * time.Minute)}},
		{"mixed options", mixedOptions(), []bound{without(5 * time.Second), aDay(40)}},
		{"a store that keeps small values only", smallValues(), []bound{aDay(320)}},
		{"short lives and a store that refuses tokens", refusedTokens(), []bound{aDay(320)}},
		{"WeCom, three days", weCom(), []bound{failed(0), aDay(14)}},
		{"reports of a valid token while the cache is down", reportsOffline(), []bound{without(3 * time.Second)}},
		{"50 callers report a token too young", tooYoung(), []bound{reads, events}},
		{"foreign records", foreignRecords(), []bound{megabytes, recovery(0)}}, // after the first minute
	}
}

func sec(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// each returns one Config for each value, built by do, which returns a description
// for its name.
func each[T any](values []T, do func(i int, v T, c *Config) string) []Config {
	var cases []Config
	for i, v := range values {
		c := Config{New: newReal, Retry: time.Second}
		c.Name = do(i, v, &c)
		cases = append(cases, c)
	}
	return cases
}

// product returns every pair.
func product[A, B any](as []A, bs []B) (pairs []struct {
	a A
	b B
}) {
	for _, b := range bs {
		for _, a := range as {
			pairs = append(pairs, struct {
				a A
				b B
			}{a, b})
		}
	}
	return pairs
}

const killedFetching = Waits + 1

// shortLives are processes that live for seconds: cron jobs, functions, a crash
// loop.
func shortLives(graces ...Grace) []Config {
	type lives struct {
		For, Every [2]time.Duration
		calls      time.Duration
		patience   time.Duration
		latency    time.Duration
	}
	spread := [2]time.Duration{sec(4), sec(20)}
	return each(product([]Exit{Returns, Killed, killedFetching, Waits}, []lives{
		{[2]time.Duration{sec(2.5), sec(14)}, spread, sec(0.5), 0, 0},
		{[2]time.Duration{}, [2]time.Duration{sec(10), sec(10)}, 0, sec(5), 400 * time.Millisecond}, // a cron job
		{[2]time.Duration{sec(10), sec(10)}, [2]time.Duration{sec(10), sec(10)}, sec(1), sec(5), 0},
		{[2]time.Duration{sec(2.5), sec(14)}, spread, 0, sec(2), 900 * time.Millisecond},
		{[2]time.Duration{sec(3), sec(3)}, [2]time.Duration{sec(15), sec(15)}, sec(1), sec(1), 0}, // killed fetches in a row, each with a lease that the next process waits for
		{[2]time.Duration{sec(2.5), sec(4)}, [2]time.Duration{sec(4), sec(6)}, sec(0.1), 0, 1200 * time.Millisecond},
	}), func(i int, v struct {
		a Exit
		b lives
	}, c *Config) string {
		exit, kills := v.a, 0
		if exit == killedFetching {
			exit, kills = Returns, 2
		}
		c.Grace, c.Latency = graces[(i+i/4)%len(graces)], v.b.latency
		if exit == Killed && v.b.For[1] == 0 {
			v.b.For[1] = v.b.patience // else it is killed before it asks
		}
		c.Members = []Member{{Every: v.b.calls, Patience: v.b.patience, Lives: &Lives{v.b.For, v.b.Every, exit, kills}}}
		return fmt.Sprintf("%s, lives %v, every %v, %s, calls %s", c.Grace, v.b.For, v.b.Every, [...]string{"killed", "returns", "waits", "every other fetch killed"}[v.a], v.b.calls)
	})
}

// oneClockOff is one process with a wrong clock, always or at its first fetch.
func oneClockOff() []Config {
	graces := []Grace{Stable, Lenient, WeCom, Strict}
	return each(product([]time.Duration{-time.Hour, 3 * time.Hour, -3 * time.Hour, time.Hour, -20 * time.Minute, 20 * time.Minute},
		graces), func(i int, v struct {
		a time.Duration
		b Grace
	}, c *Config) string {
		once := i%3 != 2
		c.Grace = v.b
		c.Members = []Member{{N: 1, Every: time.Second, Skew: v.a, SkewOnce: once}, {N: 4, Every: sec(10), Fixed: i%2 == 0}}
		return fmt.Sprintf("%s, off by %s, at first only %t", v.b, v.a, once)
	})
}

// renewedValues is a fetcher that returns the same value with a later expiry.
func renewedValues() []Config {
	return each(product([]bool{true, false}, []int{1, 5, 20}), func(i int, v struct {
		a bool
		b int
	}, c *Config) string {
		c.Grace, c.Unmarked = Renewed, v.a
		c.Members = []Member{{N: v.b, Every: []time.Duration{sec(1), sec(40)}[i%2], Fixed: i%2 == 0}}
		return fmt.Sprintf("%d processes, repeatable %t", v.b, !v.a)
	})
}

// conflict is another system that fetches for the same app, while processes
// start and end.
func conflict() []Config {
	type lives struct{ For, Every [2]time.Duration }
	graces := []Grace{Lenient, Strict}
	return each(product([]time.Duration{7 * time.Minute, 2 * time.Minute, 11 * time.Minute, 25 * time.Minute}, []lives{
		{[2]time.Duration{time.Minute, 5 * time.Minute}, [2]time.Duration{30 * time.Second, 2 * time.Minute}},
		{[2]time.Duration{10 * time.Minute, 10 * time.Minute}, [2]time.Duration{2 * time.Minute, 2 * time.Minute}},
		{[2]time.Duration{sec(2.5), sec(14)}, [2]time.Duration{sec(4), sec(20)}},
	}), func(i int, v struct {
		a time.Duration
		b lives
	}, c *Config) string {
		c.Grace, c.Faults.ForeignEvery, c.Faults.Fixed = graces[i%2], v.a, i%3 != 0
		c.Members = []Member{{Every: sec(5), Fixed: i%2 == 0, Lives: &Lives{For: v.b.For, Every: v.b.Every, Exit: Exit(i % 2)}}}
		return fmt.Sprintf("%s, another fetches every %s, lives %v, one every %v", c.Grace, v.a, v.b.For, v.b.Every)
	})
}

func recordLost() []Config {
	graces := []Grace{Strict, Stable, Lenient}
	return each(product([]time.Duration{sec(3), sec(40), sec(10)}, []int{5, 1, 20}), func(i int, v struct {
		a time.Duration
		b int
	}, c *Config) string {
		c.Grace, c.Faults.FlushEvery, c.Faults.Fixed = graces[i/2%3], v.a, i%2 == 0
		c.Members = []Member{{N: v.b, Every: []time.Duration{sec(1), sec(10)}[i%2], Fixed: i%3 == 0}}
		return fmt.Sprintf("%s, lost every %s, %d processes", c.Grace, v.a, v.b)
	})
}

// unreadable is a platform whose answers cannot be understood for hours.
func unreadable() []Config {
	type outage struct {
		hours, quota int
		lands        bool
	}
	graces := []Grace{Lenient, Stable}
	return each(product([]outage{{6, 0, true}, {14, 0, false}, {2, 200, true}, {14, 0, true}}, []int{4, 1, 20}), func(i int, v struct {
		a outage
		b int
	}, c *Config) string {
		c.Grace, c.Quota = graces[i%2], v.a.quota
		c.Faults.Outage = Window{30 * time.Minute, time.Duration(v.a.hours) * time.Hour}
		c.Faults.OutageIs = Ailment{Lands: v.a.lands, Err: errors.New("sim: unexpected end of JSON input")}
		c.Length = c.Faults.Outage.From + c.Faults.Outage.For + time.Hour
		c.Members = []Member{{N: v.b, Every: []time.Duration{sec(1), sec(55)}[i/2%2], Fixed: i%3 == 0}}
		return fmt.Sprintf("%s, %d h, %d processes, quota %d, tokens issued %t", c.Grace, v.a.hours, v.b, v.a.quota, v.a.lands)
	})
}

// mixedOptions are processes that do not agree on the durations.
func mixedOptions() []Config {
	timeouts := [][]wxtoken.Option{{wxtoken.WithFetchTimeout(time.Second)}, nil}
	ages := [][]wxtoken.Option{{wxtoken.WithLocalAge(10 * time.Second), wxtoken.WithRefreshAhead(20 * time.Minute)}, nil,
		{wxtoken.WithLocalAge(100 * time.Second), wxtoken.WithRefreshAhead(time.Minute)}}
	type mix struct {
		options [][]wxtoken.Option
		latency time.Duration
		name    string
	}
	return each(product([]mix{
		{timeouts, 2 * time.Second, "timeouts of 1 and 10 s, latency 2 s"}, {ages, 0, "local age and refresh-ahead"},
		{append(slices.Clone(ages), timeouts...), 2 * time.Second, "all, latency 2 s"},
	}, []time.Duration{time.Second, 55 * time.Second, 10 * time.Second}), func(i int, v struct {
		a mix
		b time.Duration
	}, c *Config) string {
		c.Grace, c.Latency = []Grace{Strict, Lenient, Stable}[i/2%3], v.a.latency
		for _, options := range v.a.options {
			c.Members = append(c.Members, Member{N: 2, Every: v.b, Fixed: i%2 == 0, Options: options})
		}
		return fmt.Sprintf("%s, %s, calls every %s", v.a.name, c.Grace, v.b)
	})
}

func smallValues() []Config {
	graces := []Grace{Lenient, Stable, Strict}
	return each(product([]Small{Drops, Fails, Evicts, SaysFalse}, []int{3, 1, 6}), func(i int, v struct {
		a Small
		b int
	}, c *Config) string {
		c.Grace, c.Small, c.Length = graces[i/3%3], v.a, 8*time.Hour
		c.Members = []Member{{N: v.b, Every: sec(1), Fixed: i%2 == 0}}
		if v.b > 1 { // more than one poll while they have no token
			c.Members[0].Every, c.Retry = time.Duration(v.b)*40*time.Second, 0
		}
		return fmt.Sprintf("%s, %s, %d processes", [...]string{"", "error", "false", "true", "true and gone"}[v.a], c.Grace, v.b)
	})
}

// refusedTokens are processes that live for seconds or minutes, one after the other, on
// a store that refuses each record with a token.
func refusedTokens() []Config {
	return each(product([]Small{Fails, SaysFalse}, []float64{10, 60, 3, 250}), func(i int, v struct {
		a Small
		b float64
	}, c *Config) string {
		c.Grace, c.Small, c.Length = []Grace{Lenient, Strict}[i/2%2], v.a, 8*time.Hour
		life := [2]time.Duration{sec(v.b), sec(v.b)}
		c.Members = []Member{{Every: sec(1), Patience: sec(5), Lives: &Lives{For: life, Every: life, Exit: Returns}}}
		return fmt.Sprintf("%s, %s, lives of %g s", [...]string{"", "error", "false"}[v.a], c.Grace, v.b)
	})
}

func weCom() []Config {
	return each(product([]Grace{WeCom, WeComEnd}, []time.Duration{time.Second, time.Minute, 10 * time.Second}), func(i int, v struct {
		a Grace
		b time.Duration
	}, c *Config) string {
		c.Grace, c.Length = v.a, 72*time.Hour
		c.Members = []Member{{N: 4, Every: v.b, Fixed: i/2%2 == 0}}
		return fmt.Sprintf("%s, calls every %s", v.a, v.b)
	})
}

// reportsOffline is one client that reports a good token again and again.
func reportsOffline() []Config {
	return each(product([]time.Duration{time.Second, 10 * time.Second, 3 * time.Second}, []bool{false, true}), func(i int, v struct {
		a time.Duration
		b bool
	}, c *Config) string {
		c.Grace, c.Length = []Grace{Lenient, Stable}[i/2%2], 100*time.Minute
		c.Faults.CacheDown, c.Faults.Silent = Window{10 * time.Minute, 90 * time.Minute}, v.b
		c.Members = []Member{{N: 1, Every: 100 * time.Millisecond, Fixed: true, Reporters: 1, Reports: v.a}}
		return fmt.Sprintf("%s, every %s, the cache is silent %t", c.Grace, v.a, v.b)
	})
}

// tooYoung is a token that was rejected right after others were.
func tooYoung() []Config {
	return each(product([]time.Duration{100 * time.Millisecond, 3 * time.Second, time.Second}, []int{5, 3}), func(i int, v struct {
		a time.Duration
		b int
	}, c *Config) string {
		c.Length = min(10*time.Second<<v.b, 5*time.Minute) // until it is believed
		c.Record = fmt.Sprintf(`{"v":1,"epoch":"e","seq":7,"token":"TOKEN","issued_at":NOW,"expires_at":LATER,"early":%d}`, v.b)
		c.Members = []Member{{N: 1, Every: sec(1), Reporters: 50, Reports: v.a}}
		return fmt.Sprintf("reports every %s, early %d", v.a, v.b)
	})
}

// foreignRecords are records that this protocol does not write.
func foreignRecords() []Config {
	type foreign struct{ name, record string }
	big := func(mb int) string { return strings.Repeat("0123456789abcdef", mb<<20/16) }
	const good = `"token":"TOKEN","issued_at":NOW,"expires_at":LATER`
	odd := `\u001b[31m\u202e\u0007\u2028`
	with := func(name, epoch, more string) foreign {
		return foreign{name, `{"v":1,"epoch":"` + epoch + `","seq":3,` + more + `}`}
	}
	century := fmt.Sprint(time.Now().AddDate(100, 0, 0).UnixMilli())
	return each([]foreign{
		with("epoch of 100 MB", big(100), good),
		with("message of 10 MB", "e", `"cooldown":{"until":LATER,"code":40013,"message":"`+big(10)+`"}`),
		with("expiry in 100 years", "e", `"token":"x","issued_at":NOW,"expires_at":`+century),
		with("control characters in the message", "e", `"cooldown":{"until":LATER,"code":-1,"message":"`+odd+`"}`),
		with("control characters in the epoch", odd, good),
		with("control characters in the lease", "e", good+`,"lease":"`+odd+`"`),
		with("epoch of 200 bytes", big(1)[:200], good),
		with("epoch of 20 KB", big(1)[:20_000], good),
		with("lease of 3 MB", "e", `"lease":"`+big(3)+`"`),
		with("token of 1 MB", "e", `"token":"`+big(1)+`","issued_at":NOW,"expires_at":LATER`),
		with("scope of 40 MB", "e", `"cooldown":{"until":LATER,"code":40125,"scope":"`+big(40)+`"}`),
		with("cooldown for 100 years", "e", `"cooldown":{"until":`+century+`,"code":-1}`),
		with("expiry in 31 days", "e", `"token":"x","issued_at":NOW,"expires_at":`+fmt.Sprint(time.Now().AddDate(0, 0, 31).UnixMilli())),
		with("unknown fields of 50 MB", "e", good+`,"other":"`+big(50)+`"`),
		{"40 MB that are not JSON", big(40)},
		{"20 MB of brackets", strings.Repeat("[", 20<<20)},
		{"a newline of 64 MB", strings.Repeat("\n", 64<<20)},
		{"sealed, 30 MB", `{"v":1,"sealed":"` + big(30) + `"}`},
	}, func(i int, v foreign, c *Config) string {
		c.Grace, c.Length, c.Record, c.Bytes = []Grace{Lenient, Stable}[i%2], 10*time.Minute, v.record, true
		c.Members = []Member{{N: 1 + i%3, Every: sec(1)}}
		return v.name
	})
}
