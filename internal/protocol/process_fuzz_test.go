package protocol

import (
	"cmp"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// FuzzProcess lets two processes run over one store, in which anything may stand
// and whose every answer may be wrong. script says what happens; foreign is a
// value that someone else writes.
func FuzzProcess(f *testing.F) {
	for _, v := range readVectors(f) {
		for n, script := range []string{"", "\x00\x05\x03\x08\x01\x00\x00\x01\x00\x02\x00", strings.Repeat("\x01\x00\x07\x03\x09\x0b", 20), "\xff\xee\x10\x21\x32\x43\x54\x65\x76\x87\x98\xa9"} {
			f.Add([]byte(script), []byte(v.record), byte(n))
		}
	}
	for value, verdict := range readLimits(f) {
		if verdict == "ok" {
			f.Add([]byte(strings.Repeat("\x07\x00\x02\x01\x05\x00\x03", 30)), []byte(value), byte(len(value)))
		}
	}
	f.Fuzz(func(t *testing.T, script, foreign []byte, rules byte) {
		w := &fuzzed{t: t, script: script, now: clock, foreign: foreign}
		for i := range 2 {
			ru := usual
			ru.Repeatable, ru.Changeable = rules&1 != 0, rules&2 != 0
			ru.AtExpiry, ru.FullLife = rules&4 != 0, rules&8 != 0
			ru.Fingerprint = []string{"", "5a5a"}[rules>>4&1]
			if rules&32 != 0 && i == 0 {
				ru.Fetch, ru.Local, ru.Ahead = 24*time.Hour, time.Nanosecond, 24*time.Hour
			}
			if rules&64 != 0 {
				ru.Member = func() string { return "m"[i*int(rules>>7):] } // the same, or not
			}
			w.processes = append(w.processes, &Process{Rules: ru})
		}
		for len(w.script) > 0 {
			w.act()
		}
		for _, p := range w.processes { // what remains must end by itself
			if p.run != nil {
				w.fly(p, math.MaxInt)
			}
		}
	})
}

type fuzzed struct {
	t         *testing.T
	script    []byte
	now       time.Time
	processes []*Process
	stored    []byte   // nil: nothing
	before    [][]byte // what was stored, to go back to
	foreign   []byte
	tokens    int
	flights   map[*Process]*fuzzFlight
}

// A fuzzFlight is what the test knows of a flight.
type fuzzFlight struct {
	raw   []byte // what was last read or stored
	newer bool   // a record of a newer version was read
	steps int
}

// pick takes a number below n from the script.
func (w *fuzzed) pick(n int) int {
	if len(w.script) == 0 {
		return 0
	}
	b := int(w.script[0])
	w.script = w.script[1:]
	return b % n
}

func (w *fuzzed) act() {
	p := w.processes[w.pick(2)]
	switch w.pick(8) {
	case 0:
		w.now = w.now.Add([]time.Duration{time.Millisecond, 700 * time.Millisecond, 6 * time.Second, 16 * time.Second, 64 * time.Second, 101 * time.Second, 6 * time.Minute, 2 * time.Hour}[w.pick(8)])
	case 1:
		p.Reject([]string{fmt.Sprint("t", w.tokens), "t1", "x", "token-1", cmp.Or(p.view.copy.Token, "none")}[w.pick(5)], w.now)
	case 2:
		w.store([][]byte{nil, w.foreign, []byte("garbage"), []byte(`{"v":2}`)}[w.pick(4)])
	case 3:
		if len(w.before) > 0 {
			w.stored = w.before[w.pick(len(w.before))]
		}
	case 4:
		p.Ages(w.now)
		p.Tolerable(w.now)
		p.Withholds(w.now)
		p.Forgive()
		p.Unwanted = !p.Unwanted
	default:
		w.fly(p, 1+w.pick(12))
	}
	if r, usable := p.Held(w.now); usable {
		require.True(w.t, CanHold(r.Token) && !r.expired(w.now))
	}
}

func (w *fuzzed) store(raw []byte) {
	w.before = append(w.before, w.stored)
	w.stored = raw
}

// fly begins a flight, unless one is under way, and takes some steps of it.
func (w *fuzzed) fly(p *Process, steps int) {
	if w.flights == nil {
		w.flights = map[*Process]*fuzzFlight{}
	}
	f := w.flights[p]
	if p.run == nil {
		f = &fuzzFlight{}
		w.flights[p] = f
		p.Begin(w.pick(4) == 3, w.now)
	}
	for ; steps > 0; steps-- {
		f.steps++
		require.Less(w.t, f.steps, 100_000, "the flight does not end")
		st := p.Next(fmt.Sprint("n", f.steps), w.now)
		switch st.Do {
		case Read:
			w.wait(st.Pause)
			w.read(p, f)
		case Swap:
			w.swap(p, f, st)
		case Fetch:
			w.wait(st.Pause)
			w.fetch(p, f, st)
		case Secret:
			require.True(w.t, p.Changeable)
			p.Fingerprint = []string{"5a5a", "7b7b"}[w.pick(2)]
		case Return, Fail:
			p.End()
			return
		default:
			w.t.Fatalf("step %d", st.Do)
		}
	}
}

func (w *fuzzed) wait(d time.Duration) {
	require.LessOrEqual(w.t, d, 24*time.Hour)
	w.now = w.now.Add(d)
}

func (w *fuzzed) read(p *Process, f *fuzzFlight) {
	readAt := w.now
	w.wait(time.Millisecond)
	if w.pick(8) == 7 {
		p.CacheFailed(false)
		return
	}
	var r Record
	if w.stored != nil {
		var err error
		if r, err = Decode(w.stored, Sealer{}); err == ErrNewer {
			f.newer = true
			require.True(w.t, p.CacheFailed(true))
			return
		}
	}
	f.raw = w.stored
	p.DidRead(r, readAt, w.now)
}

func (w *fuzzed) swap(p *Process, f *fuzzFlight, st Step) {
	require.False(w.t, f.newer, "a record of a newer version is overwritten")
	raw := Encode(st.Next, Sealer{})
	same, err := Decode(raw, Sealer{})
	require.NoError(w.t, err, "%s", raw)
	same.Version = st.Next.Version
	require.Equal(w.t, st.Next, same)
	require.Positive(w.t, st.TTL)
	require.LessOrEqual(w.t, st.TTL, MaxLifetime+time.Hour)
	sentAt := w.now
	w.wait(time.Millisecond)
	stored := string(w.stored) == string(f.raw) && (w.stored == nil) == (f.raw == nil)
	switch w.pick(10) {
	case 9: // the reply is lost
		if stored {
			w.store(raw)
		}
		p.CacheFailed(false)
		return
	case 8: // or was taken for another one
		if stored {
			w.store(raw)
		}
		stored = false
	case 7:
		p.CacheFailed(false)
		return
	}
	if stored {
		w.store(raw)
		f.raw = raw
	}
	p.DidSwap(stored, sentAt, w.now)
}

func (w *fuzzed) fetch(p *Process, f *fuzzFlight, st Step) {
	require.False(w.t, f.newer, "it fetches beside a record of a newer version")
	require.True(w.t, st.Until.After(w.now.Add(-p.Patience())), "until %s, now %s", st.Until, w.now)
	if !p.Repeatable {
		r, err := Decode(f.raw, Sealer{})
		require.NoError(w.t, err)
		require.True(w.t, p.owns(r.Lease), "it fetches without a lease")
	}
	sent := w.now
	w.wait([]time.Duration{time.Millisecond, time.Second, 9 * time.Second, 20 * time.Second}[w.pick(4)])
	result := Result{Err: errOwn}
	switch w.pick(5) {
	case 0, 1:
		w.tokens += w.pick(2)
		life := []time.Duration{2 * time.Hour, 0, time.Minute, MaxLifetime}[w.pick(4)]
		result = Result{Outcome: Issued, Token: Record{Token: fmt.Sprint("t", w.tokens), IssuedAt: sent.UnixMilli(), ExpiresAt: sent.Add(life).UnixMilli()}}
	case 2:
		result.Outcome, result.Code = Denied, []int{40125, 45009, -1, 41002, 40164, 99999}[w.pick(6)]
		result.Message = string(w.foreign)
	case 3:
		result.Outcome = Unsent
	case 4:
		result.Outcome = Unknown
	}
	p.DidFetch(result, w.now)
}
