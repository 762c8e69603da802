package protocol

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var repeat = regexp.MustCompile(`«(.[^*]*)\*(\d+)»`)

// readLimits returns the values of testdata/limits.txt, and what Decode says of them.
func readLimits(t testing.TB) map[string]string {
	t.Helper()
	raw, err := os.ReadFile("testdata/limits.txt")
	require.NoError(t, err)
	values := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		verdict, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		require.True(t, ok, line)
		value = repeat.ReplaceAllStringFunc(value, func(match string) string {
			parts := repeat.FindStringSubmatch(match)
			n, err := strconv.Atoi(parts[2])
			require.NoError(t, err)
			return strings.Repeat(parts[1], n)
		})
		values[value] = verdict
	}
	require.Greater(t, len(values), 60)
	return values
}

func TestLimits(t *testing.T) {
	for value, want := range readLimits(t) {
		t.Run(want+" "+value[:min(len(value), 100)], func(t *testing.T) {
			r, err := Decode([]byte(value), Sealer{})
			switch want {
			case "ok":
				require.NoError(t, err)
				assert.JSONEq(t, value, string(Encode(r, Sealer{})), "nothing is lost")
			case "cleaned":
				require.NoError(t, err)
				require.NotNil(t, r.Cooldown)
				assert.NotEmpty(t, r.Cooldown.Message)
				assert.Equal(t, CleanMessage(r.Cooldown.Message), r.Cooldown.Message)
				assert.NotContains(t, value, `"`+r.Cooldown.Message+`"`)
			case "corrupt":
				assert.Equal(t, ErrCorrupt, err)
				assert.Equal(t, Record{}, r)
			case "newer":
				assert.Equal(t, ErrNewer, err)
			default:
				assert.Fail(t, "unknown verdict", want)
			}
		})
	}
}

// A later release adds fields without a new version where an older one may ignore
// them, as version 0.1 does with seen, member, row and lifted.
func TestUnknownFieldsAreIgnored(t *testing.T) {
	known := Record{Version: 1, Epoch: "e", Seq: 3, Token: "t", IssuedAt: 1, ExpiresAt: 9, Owed: 1, Seen: 5,
		Cooldown: &Cooldown{Until: 5, Code: -1, Step: 2, By: "b", Member: "m", Row: 4, Lifted: true}}
	raw := string(Encode(known, Sealer{}))
	for _, later := range []string{`"later":1,`, `"later":{"v":2,"seq":[]},`, `"sealed_by":"x",`, `"later":null,`} {
		text := strings.Replace(raw, `"epoch"`, later+`"epoch"`, 1)
		text = strings.Replace(text, `"until"`, later+`"until"`, 1)
		require.Equal(t, len(raw)+2*len(later), len(text))
		r, err := Decode([]byte(text), Sealer{})
		require.NoError(t, err, text)
		assert.Equal(t, known, r)
	}
}

func TestSizeOfARecord(t *testing.T) {
	const record = `{"v":1,"epoch":"e","seq":1}`
	padded := func(size int) []byte { return []byte(record + strings.Repeat(" ", size-len(record))) }
	_, err := Decode(padded(16<<10), Sealer{})
	assert.NoError(t, err)
	_, err = Decode(padded(16<<10+1), Sealer{})
	assert.Equal(t, ErrCorrupt, err)
	_, err = Decode([]byte(`{"v":2,"x":"`+strings.Repeat("x", 30<<20)+`"}`), Sealer{})
	assert.Equal(t, ErrNewer, err, "a newer version may write more")
	_, err = Decode([]byte(`{"v": 12}`+strings.Repeat(" ", 30<<10)), Sealer{})
	assert.Equal(t, ErrNewer, err)
	for _, foreign := range []string{`{"v":1,"x":"`, `{"x":"`, `{"v":"2","x":"`, `["v":2,"`, `{"v":-2,"x":"`, `{"v":99999999999999999999,"x":"`, `2,"`, ` {"v":2,"`, ``,
		`{"v":1,` + strings.Repeat(`"x":0,`, 1<<20), strings.Repeat("[", 5<<20), `{"v":1,"epoch":"e","seq":1,"cooldown":{"until":1,"code":45009,"message":"`} {
		raw := []byte(foreign + strings.Repeat("x", 30<<20) + `"}`)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err = Decode(raw, Sealer{})
		runtime.ReadMemStats(&after)
		assert.Equal(t, ErrCorrupt, err, "%.80s", foreign)
		assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20), "bytes for %.80s", foreign)
	}

	seal := Sealer{Keys: [][32]byte{{1}}, CacheKey: "k"}
	sealed := func(plain []byte) []byte {
		raw, err := json.Marshal(envelope{Version: 1, Sealed: seal.seal(plain)})
		require.NoError(t, err)
		return raw
	}
	r, err := Decode(sealed(padded(16<<10)), seal)
	assert.NoError(t, err)
	assert.Equal(t, "e", r.Epoch)
	_, err = Decode(sealed(padded(16<<10+1)), seal)
	assert.Equal(t, ErrCorrupt, err)

	largest := Record{Version: 1, Epoch: strings.Repeat("e", maxName), Seq: maxSeq, Token: strings.Repeat("t", maxToken), ExpiresAt: 1 << 50, IssuedAt: 1 << 50,
		Past: strings.Repeat("p", pastTokens*(idLength+1)-1), Lease: strings.Repeat("l", maxName), LeaseFor: maxCount - 1, Noted: true, Owed: maxOwed, Rejected: true, Early: maxCount - 1,
		Cooldown: &Cooldown{Until: 1 << 50, Code: math.MinInt, Message: strings.Repeat("\U0001F600", maxMessage), Scope: strings.Repeat("s", maxName), Step: maxCount - 1, By: strings.Repeat("b", maxName),
			Member: strings.Repeat("m", maxName), Row: maxCount - 1, Lifted: true},
		Seen: math.MaxInt64}
	raw := Encode(largest, Sealer{})
	assert.LessOrEqual(t, len(raw), maxRecord)
	for _, s := range []Sealer{{}, seal} {
		r, err := Decode(Encode(largest, s), s)
		require.NoError(t, err)
		assert.Equal(t, largest, r)
	}
}

func TestCleanMessage(t *testing.T) {
	for in, want := range map[string]string{
		"invalid appid rid: 6aac005a":       "invalid appid rid: 6aac005a",
		"密钥错误":                              "密钥错误",
		"a\nb\tc\x00d\x1b[31me\x7ff\u0085g": "a b c d [31me f g",
		"a\u2028b\u2029c":                   "a b c",
		"a\u202eb\u2066c\u200bd\ufeffe":     "abcde",
		"a\xffb\xc3":                        "ab",
	} {
		assert.Equal(t, want, CleanMessage(in))
	}
	assert.Equal(t, strings.Repeat("密", 512), CleanMessage(strings.Repeat("密", 513)))
	assert.Equal(t, strings.Repeat("a", 512), CleanMessage(strings.Repeat("a", 2<<20)))
	assert.Empty(t, CleanMessage(strings.Repeat("\u200b", 4000)+"late"), "what follows 2 KB is not looked at")
}

func TestCanHold(t *testing.T) {
	for token, want := range map[string]bool{
		"": false, "a": true, "!~": true, "a b": false, "a\n": false, "\x7f": false, "é": false, "\xff": false,
		strings.Repeat("t", 4096): true, strings.Repeat("t", 4097): false,
	} {
		assert.Equal(t, want, CanHold(token), "%.10q", token)
	}
}

func TestSealed(t *testing.T) {
	one, two := [32]byte{1}, [32]byte{2}
	r := Record{Version: 1, Epoch: "e", Seq: 4, Token: "token-1", IssuedAt: 1, ExpiresAt: 2}
	sealed := Encode(r, Sealer{Keys: [][32]byte{one, two}, CacheKey: "k"})
	assert.NotContains(t, string(sealed), "token-1")
	plain := Encode(r, Sealer{})
	for name, test := range map[string]struct {
		raw  []byte
		seal Sealer
		want error
	}{
		"the key":          {sealed, Sealer{Keys: [][32]byte{one}, CacheKey: "k"}, nil},
		"an older key":     {sealed, Sealer{Keys: [][32]byte{two, one}, CacheKey: "k"}, nil},
		"another key":      {sealed, Sealer{Keys: [][32]byte{two}, CacheKey: "k"}, ErrNoKey},
		"another record":   {sealed, Sealer{Keys: [][32]byte{one}, CacheKey: "k2"}, ErrNoKey},
		"no key":           {sealed, Sealer{}, ErrNoKey},
		"plain":            {plain, Sealer{Keys: [][32]byte{one}, CacheKey: "k"}, ErrPlain},
		"plain, permitted": {plain, Sealer{Keys: [][32]byte{one}, CacheKey: "k", Plain: true}, nil},
		"garbage":          {[]byte("x"), Sealer{Keys: [][32]byte{one}, CacheKey: "k"}, ErrCorrupt},
		"newer, sealed":    {[]byte(`{"v":2,"sealed":{}}`), Sealer{Keys: [][32]byte{one}, CacheKey: "k"}, ErrNewer},
		"not base64":       {[]byte(`{"v":1,"sealed":"*"}`), Sealer{Keys: [][32]byte{one}, CacheKey: "k"}, ErrCorrupt},
		"too short":        {[]byte(`{"v":1,"sealed":"AAAA"}`), Sealer{Keys: [][32]byte{one}, CacheKey: "k"}, ErrNoKey},
		"sealed null":      {[]byte(`{"v":1,"sealed":null}`), Sealer{}, ErrCorrupt},
		"sealed null, key": {[]byte(`{"v":1,"sealed":null}`), Sealer{Keys: [][32]byte{one}, CacheKey: "k"}, ErrCorrupt},
		"sealed empty":     {[]byte(`{"v":1,"sealed":""}`), Sealer{}, ErrCorrupt},
	} {
		got, err := Decode(test.raw, test.seal)
		assert.Equal(t, test.want, err, name)
		if err == nil {
			assert.Equal(t, r, got, name)
		}
	}
}

// Records that version 0.1 wrote, and what this version does with them.
func TestRecordsOfVersion01(t *testing.T) {
	names, err := filepath.Glob("testdata/version-0.1/*.json")
	require.NoError(t, err)
	require.Len(t, names, 9)
	const issued = 1_800_000_000_000
	want := map[string]struct {
		usable bool
		do     Action
		take   bool
	}{
		"lease":            {false, Swap, false}, // notes it
		"token":            {true, Return, false},
		"rejected":         {false, Swap, true},
		"rejected-lease":   {false, Swap, false},
		"early":            {true, Return, false},
		"owed-cooldown":    {true, Return, false},
		"cooldown-secret":  {false, Swap, true},
		"cooldown-message": {true, Return, false},
		"sealed":           {true, Return, false},
	}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		require.NoError(t, err)
		name = strings.TrimSuffix(filepath.Base(name), ".json")
		seal := Sealer{}
		if name == "sealed" {
			seal = Sealer{Keys: [][32]byte{{1}}, CacheKey: "wxtoken:stub"}
		}
		r, err := Decode(raw, seal)
		require.NoError(t, err, name)
		switch name {
		case "sealed":
		case "cooldown-message": // as the platform sent it
			assert.Equal(t, "invalid appid  rid:  [31m6b49ed6d", r.Cooldown.Message)
		default:
			assert.JSONEq(t, string(raw), string(Encode(r, Sealer{})), name)
		}
		now := time.UnixMilli(issued).Add(3 * time.Minute)
		if name == "sealed" {
			now = time.UnixMilli(r.IssuedAt).Add(3 * time.Minute)
		}
		p := &Process{Rules: usual, began: now.Add(-time.Hour)}
		p.view.lease, p.view.leaseSeen = r.Lease, now.Add(-3*time.Second)
		p.Begin(false, now)
		p.DidRead(r, now, now)
		st := p.Next("n1", now)
		_, usable := p.Held(now)
		assert.Equal(t, want[name].usable, usable, name)
		assert.Equal(t, want[name].do, st.Do, name)
		assert.Equal(t, want[name].take, st.take, name)
	}
}

// usual are the Rules of a Source without options.
var usual = Rules{Fetch: 10 * time.Second, Local: 45 * time.Second, Ahead: 5 * time.Minute}

func FuzzDecodeRecord(f *testing.F) {
	for _, v := range readVectors(f) {
		f.Add([]byte(v.record))
		f.Add([]byte(v.next))
	}
	for value := range readLimits(f) {
		f.Add([]byte(value))
	}
	for _, seed := range []string{
		"", "null", "{}", "[1]", `"t"`, `{"v":1}`, `{"v":2}`, `{"v":1,"sealed":""}`, `{"v":1,"sealed":"AAAA"}`,
		`{"v":1,"epoch":"E","seq":9223372036854775807,"expires_at":-9223372036854775808}`,
	} {
		f.Add([]byte(seed))
	}
	key := Sealer{Keys: [][32]byte{{1}}, CacheKey: "k"}
	f.Add(Encode(Record{Epoch: "e", Token: "t", ExpiresAt: 1}, key))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, seal := range []Sealer{{}, key, {Keys: key.Keys, CacheKey: "k", Plain: true}} {
			r, err := Decode(raw, seal)
			if err != nil {
				require.True(t, errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNewer) || errors.Is(err, ErrNoKey) || errors.Is(err, ErrPlain), "%v", err)
				require.Equal(t, Record{}, r)
				continue
			}
			require.True(t, r.Token == "" || CanHold(r.Token))
			require.LessOrEqual(t, len(r.Epoch)+len(r.Lease)+len(r.Past), 3*maxName)
			require.LessOrEqual(t, r.left(time.UnixMilli(r.IssuedAt)), MaxLifetime)
			same, err := Decode(Encode(r, seal), seal)
			require.NoError(t, err)
			require.Equal(t, r, same)
		}
	})
}
