package protocol

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// clock is what the clock of every vector reads: 2027-01-15T08:00:00Z.
var clock = time.UnixMilli(1_800_000_000_000)

// A vector is one file of testdata, whose README.md explains the format.
type vector struct {
	record, copy, next string // JSON; "": there is none
	process, step      fields
}

func readVectors(t testing.TB) map[string]vector {
	t.Helper()
	names, err := filepath.Glob("testdata/*.txtar")
	require.NoError(t, err)
	require.Greater(t, len(names), 40)
	vectors := map[string]vector{}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		require.NoError(t, err)
		sections := map[string]string{}
		parts := strings.Split("\n"+string(raw), "\n-- ")
		require.Greater(t, len(strings.TrimSpace(parts[0])), 20, "%s: say what rule it shows", name)
		for _, part := range parts[1:] {
			head, body, ok := strings.Cut(part, " --\n")
			require.True(t, ok, "%s: %q", name, part)
			sections[head] = strings.TrimSpace(body)
		}
		v := vector{sections["record.json"], sections["copy.json"], sections["next.json"], parse(t, sections["process"]), parse(t, sections["step"])}
		for _, known := range []string{"record.json", "copy.json", "next.json", "process", "step"} {
			delete(sections, known)
		}
		require.Empty(t, sections, name)
		vectors[strings.TrimSuffix(filepath.Base(name), ".txtar")] = v
	}
	return vectors
}

// fields are lines of the form "key: value". What has been asked for is removed,
// so that a misspelt key is found.
type fields map[string]string

func parse(t testing.TB, section string) fields {
	f := fields{}
	for line := range strings.Lines(section) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		require.True(t, ok, "%q is not of the form key: value", line)
		f[key] = value
	}
	return f
}

func (f fields) text(key, otherwise string) string {
	value, ok := f[key]
	if !ok {
		return otherwise
	}
	delete(f, key)
	return value
}

func (f fields) is(key string) bool { return f.text(key, "no") == "yes" }

func (f fields) number(t testing.TB, key string, otherwise int) int {
	n, err := strconv.Atoi(f.text(key, strconv.Itoa(otherwise)))
	require.NoError(t, err, key)
	return n
}

func (f fields) duration(t testing.TB, key string, otherwise time.Duration) time.Duration {
	d, err := time.ParseDuration(strings.TrimSuffix(f.text(key, otherwise.String()), " ago"))
	require.NoError(t, err, key)
	return d
}

// before is the time that is as long ago as key says; now, if it says nothing.
func (f fields) before(t testing.TB, key string, otherwise time.Duration) time.Time {
	return clock.Add(-f.duration(t, key, otherwise))
}

func record(t testing.TB, raw string) Record {
	if raw == "" {
		return Record{}
	}
	r, err := Decode([]byte(raw), Sealer{})
	require.NoError(t, err, raw)
	return r
}

// build makes the Process that f and v describe.
func build(t testing.TB, f fields, v vector) (*Process, Record) {
	r, c := record(t, v.record), record(t, v.copy)
	if f.is("copy was never published") {
		c.Epoch = ""
	}
	last := r // read last, before the store dropped it
	if lease, cooldown := f.text("lease that the store dropped", ""), f.text("cooldown that the store dropped", "null"); lease != "" || cooldown != "null" {
		last = record(t, fmt.Sprintf(`{"v":1,"epoch":"e0","seq":0,"lease":%q,"cooldown":%s}`, lease, cooldown))
	}
	before := last.Cooldown
	if read := f.text("cooldown that was read before", ""); read != "" {
		before = record(t, `{"v":1,"epoch":"e0","seq":0,"cooldown":`+read+`}`).Cooldown
	}
	p := &Process{
		Rules: Rules{
			Fetch: f.duration(t, "fetch timeout", 10*time.Second), Local: f.duration(t, "local age", 45*time.Second),
			Ahead: f.duration(t, "refresh ahead", 5*time.Minute), Repeatable: f.is("repeatable"),
			AtExpiry: f.is("repeated until expiry"), FullLife: f.is("repeated with full life"),
			Fingerprint: f.text("fingerprint", ""), Changeable: f.is("secret may change"),
			VagueMember: f.is("member name is vague"),
		},
		Unwanted: f.is("nobody waits"),
		declined: f.is("nobody waited before"),

		id:    f.text("id", "me"),
		began: f.before(t, "started", time.Hour),
		view: View{
			copy: c, copyRead: f.before(t, "copy read", time.Minute), copySeen: f.before(t, "copy first seen", time.Hour),
			born: f.text("copy first seen in", c.Epoch),
			observed: observed{
				lease: last.Lease, leaseSeen: f.before(t, "lease watched for", 0), longer: f.duration(t, "next lease lasts at least", 0),
				epoch: last.Epoch, seq: last.Seq, seqSeen: f.before(t, "seq watched for", 0),
				cooldown: before, cooledSeen: f.before(t, "cooldown watched for", 0),
			},
		},
	}
	if row := f.number(t, "rejections believed", 0); row > 0 {
		p.rejects = rejects{at: f.before(t, "last of them", 0), row: int32(row), issues: int32(f.number(t, "tokens first seen since", 0))}
	}
	if member := f.text("member", ""); member != "" {
		p.Member = func() string { return member }
	}
	if wait := f.duration(t, "own failure blocks for", 0); wait > 0 {
		p.view.own = &failure{err: errOwn, at: f.before(t, "own failure", 0), wait: wait, scope: f.text("own failure is about secret", "")}
	}
	if lease := f.text("own lease", ""); lease != "" {
		asked := f.before(t, "asked for", 0)
		c := claim{lease: lease, asked: asked, ends: asked.Add(f.duration(t, "lasts", 12*time.Second)), base: f.text("in place of token", ""), settles: -1}
		if f.is("settles") {
			c.settles = r.Seq
		}
		switch outcome := f.text("fetch", "not yet"); outcome {
		case "not yet":
		case "issued":
			token := record(t, `{"v":1,"epoch":"e","seq":0,`+f.text("issued", "")+`}`)
			c.Result = Result{Outcome: Issued, Token: Record{Token: token.Token, IssuedAt: token.IssuedAt, ExpiresAt: token.ExpiresAt}}
		case "denied":
			c.Result = Result{Outcome: Denied, Code: f.number(t, "errcode", 0), Message: f.text("errmsg", ""), Err: errOwn}
		case "unknown":
			c.Result = Result{Outcome: Unknown, Err: errOwn}
		case "not sent":
			c.Result = Result{Outcome: Unsent, Err: errOwn}
		default:
			require.Fail(t, "no such outcome", outcome)
		}
		p.view.claim = &c
	}
	return p, r
}

var errOwn = errors.New("what this process met")

func TestVectors(t *testing.T) {
	for name, v := range readVectors(t) {
		t.Run(name, func(t *testing.T) {
			f, want := v.process, v.step
			p, r := build(t, f, v)
			nonce := f.text("nonce", "n1")
			reported := f.text("reported as rejected", "")
			p.Begin(f.is("only decides on rejections"), clock)
			require.Empty(t, f, "unknown keys")
			if reported != "" {
				_, decided := p.Reject(reported, clock)
				require.False(t, decided)
			}
			assert.Equal(t, want.text("on reading", ""), p.DidRead(r, clock, clock))

			st := p.Next(nonce, clock)
			names := map[Action]string{Return: "return", Read: "read", Swap: "swap", Fetch: "fetch", Secret: "ask for the secret", Fail: "fail"}
			require.Equal(t, want.text("do", ""), names[st.Do])
			assert.Equal(t, want.duration(t, "after", 0), st.Pause)
			assert.Equal(t, want.text("event", ""), st.Event)
			assert.Equal(t, want.is("drops its token"), st.Dropped)
			if st.Do == Swap {
				assert.JSONEq(t, v.next, string(Encode(st.Next, Sealer{})))
				assert.Equal(t, want.duration(t, "ttl", 0), st.TTL)
				record(t, v.next) // must be readable
			} else {
				assert.Empty(t, v.next)
			}
			if st.Do == Fetch || st.Do == Fail {
				assert.Equal(t, want.duration(t, "until", 0), st.Until.Sub(clock))
			}
			if st.Do == Fail {
				assert.Equal(t, want.number(t, "errcode", 0), st.Cause.Code)
				assert.Equal(t, want.is("its own failure"), errors.Is(st.Cause.Err, errOwn))
			}
			held, usable := p.Held(clock)
			if !usable {
				held.Token = "nothing"
			}
			assert.Equal(t, want.text("hands out", "nothing"), held.Token)
			verdict := want.text("verdict", "")
			require.Empty(t, want, "unknown keys")
			if st.Event == Reject {
				p.DidSwap(true, clock, clock)
			}
			got := ""
			if decision, ok := p.End()[reported]; ok && decision.Believed {
				got = "believed"
			} else if ok {
				got = fmt.Sprintf("believed from %s, ask again in %s", decision.Young, decision.Until.Sub(clock))
			}
			assert.Equal(t, verdict, got)
		})
	}
}

func TestVectorsAreExplained(t *testing.T) {
	raw, err := os.ReadFile("testdata/README.md")
	require.NoError(t, err)
	for name, v := range readVectors(t) {
		for _, f := range []fields{v.process, v.step} {
			for key := range f {
				assert.Contains(t, string(raw), "`"+key+"`", name)
			}
		}
	}
}
