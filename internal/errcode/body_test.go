package errcode

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const rejection = `{"errcode":40001,"errmsg":"invalid credential, access_token is invalid or not latest rid: 1-2-3"}`

func respond(body io.Reader) *http.Response {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(body)}
}

// Where an errcode is found; the whole body remains readable.
func TestOf(t *testing.T) {
	long := strings.Repeat("x", 70<<10)
	for name, tc := range map[string]struct {
		body string
		want int
	}{
		"40001":                {rejection, 40001},
		"40014":                {`{"errcode":40014}`, 40014},
		"42001":                {`{"errmsg":"access_token expired","errcode": 42001 }`, 42001},
		"BOM and space":        {"\ufeff \r\n\t" + rejection, 40001},
		"after nested":         {`{"a":{"errcode":0},"b":[{"errcode":0}],"errcode":40001}`, 40001},
		"escaped key":          {`{"err\u0063ode":40001}`, 40001},
		"cut off after it":     {`{"errcode":40001,"errmsg":"inv`, 40001},
		"long, near the start": {`{"errcode":40001,"a":"` + long + `"}`, 40001},
		"ok":                   {`{"errcode":0,"errmsg":"ok"}`, 0},
		"negative":             {`{"errcode":-1}`, -1},
		"more digits":          {`{"errcode":400014}`, 400014},
		"nested":               {`{"a":{"errcode":40001}}`, 0},
		"in an array":          {`[{"errcode":40001}]`, 0},
		"in a string":          {`{"a":"\"errcode\":40001,"}`, 0},
		"other case":           {`{"ErrCode":40001}`, 0},
		"a string":             {`{"errcode":"40001"}`, 0},
		"null":                 {`{"errcode":null}`, 0},
		"cut off within it":    {`{"errcode":40001`, 0},
		"past 64 KiB":          {`{"a":"` + long + `","errcode":40001}`, 0},
		"split by 64 KiB":      {`{"a":"` + long[:(64<<10)-23] + `","errcode":400012}`, 0},
		"space past 64 KiB":    {strings.Repeat(" ", 64<<10) + rejection, 0},
		"HTML":                 {"<html>" + rejection, 0},
		"binary":               {"\xff\xd8\xff" + rejection, 0},
		"half a BOM":           {"\xef", 0},
		"empty":                {"", 0},
		"broken":               {`{"a" "errcode":40001}`, 0},
		"not an object":        {"{", 0},
	} {
		t.Run(name, func(t *testing.T) {
			for _, complete := range []bool{false, true} {
				resp := respond(strings.NewReader(tc.body))
				resp.ContentLength = int64(len(tc.body))
				assert.Equal(t, tc.want, Of(resp))
				if complete {
					Complete(resp)
				}
				text, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				assert.Equal(t, tc.body, string(text))
				assert.EqualValues(t, len(tc.body), resp.ContentLength)
				assert.NoError(t, resp.Body.Close())
			}
		})
	}
	for name, resp := range map[string]*http.Response{
		"no response": nil, "no body": {}, "NoBody": {Body: http.NoBody},
		"another protocol": {StatusCode: http.StatusSwitchingProtocols, Body: io.NopCloser(iotest.ErrReader(errors.New("read")))},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Zero(t, Of(resp))
		})
	}
}

// No more of a body is waited for than is needed: the rest streams to the caller.
func TestOfReadsNoFurtherThanNeeded(t *testing.T) {
	for text, ahead := range map[string]int{
		"\x89PNG slowly":                   1,
		"\xef\xbb\xbc....":                 3, // looks like a BOM at first
		`{"errcode":0,"list":[1,2,3]}`:     13,
		`{"a":{"b":0}}` + "  \n":           13,
		`{"errcode":40001,"errmsg":"inv"}`: 17,
	} {
		read := 0
		slowly := iotest.OneByteReader(strings.NewReader(text))
		resp := respond(readerFunc(func(p []byte) (int, error) { n, err := slowly.Read(p); read += n; return n, err }))
		Of(resp)
		assert.Equal(t, ahead, read, text)
		got := make([]byte, len(text))
		for i := range got {
			_, err := io.ReadFull(resp.Body, got[i:i+1])
			require.NoError(t, err)
			assert.LessOrEqual(t, read, max(ahead, i+1), text)
		}
		assert.Equal(t, text, string(got))
	}
}

func TestTheBodysErrorIsKept(t *testing.T) {
	cut := errors.New("connection reset")
	for text, complete := range map[string]bool{`{"a":1,`: false, `{"errcode":40001,`: true} {
		resp := respond(io.MultiReader(strings.NewReader(text), iotest.ErrReader(cut)))
		Of(resp)
		if complete {
			Complete(resp)
		}
		for range 2 {
			got, err := io.ReadAll(resp.Body)
			assert.Equal(t, text, string(got))
			assert.ErrorIs(t, err, cut)
			text = ""
		}
	}
}

// A stalling is a body that comes in parts, each after a pause. It ends after the
// last one, if that is not "...".
type stalling struct {
	*io.PipeReader
	closed chan struct{}
}

func stall(pause time.Duration, parts ...string) *stalling {
	r, w := io.Pipe()
	s := &stalling{r, make(chan struct{})}
	go func() {
		for i, part := range parts {
			if part == "..." {
				return
			}
			if i > 0 {
				select {
				case <-time.After(pause):
				case <-s.closed:
				}
			}
			_, _ = io.WriteString(w, part)
		}
		_ = w.Close()
	}()
	return s
}

func (s *stalling) Close() error { close(s.closed); return s.PipeReader.Close() }

// A body that stalls is waited for at most a second, and one more if it is a
// rejection, which is cut there. Of any other body the caller gets all, when it comes.
func TestStalls(t *testing.T) {
	const begun, whole = `{"errcode":40001,"errmsg":"inv`, ""
	long := strings.Repeat("x", 5000)
	for name, tc := range map[string]struct {
		pause    time.Duration
		parts    []string
		returned time.Duration // Of and, after a rejection, Complete; the body is read right after
		read     time.Duration // since the beginning
		want     string        // else the parts
	}{
		"rejection":                   {time.Hour, []string{begun, "..."}, time.Second, time.Second, begun},
		"rejection, in two parts":     {900 * time.Millisecond, []string{begun[:15], begun[15:], "..."}, 1900 * time.Millisecond, 1900 * time.Millisecond, begun},
		"slow rejection":              {900 * time.Millisecond, []string{`{"errcode":`, `40001,`, `"e":"", `, `"f":""}`}, 1900 * time.Millisecond, 1900 * time.Millisecond, `{"errcode":40001,"e":"", `},
		"rejection that comes late":   {3 * time.Second, []string{"", begun + `"}`}, time.Second, 3 * time.Second, whole},
		"before the errcode":          {time.Minute, []string{`{"errc`, `ode":40001}`}, time.Second, time.Minute, whole},
		"within the errcode":          {time.Minute, []string{`{"errcode":4000`, `1}`}, time.Second, time.Minute, whole},
		"long poll":                   {25 * time.Second, []string{"", `{"errcode":0}`}, time.Second, 25 * time.Second, whole},
		"long poll, large":            {25 * time.Second, []string{"{", long, long, "}"}, time.Second, 75 * time.Second, whole},
		"drop by drop":                {400 * time.Millisecond, []string{`{`, `"`, `a`, `"`, `:`, `1`, `}`}, time.Second, 2400 * time.Millisecond, whole},
		"after another errcode":       {time.Minute, []string{`{"errcode":45009,"errmsg":"`, `"}`}, 0, time.Minute, whole},
		"after what is not an object": {time.Minute, []string{"<", "html>"}, 0, time.Minute, whole},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				body, start := stall(tc.pause, tc.parts...), time.Now()
				resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: body}
				if Of(resp) == 40001 {
					Complete(resp)
				}
				assert.Equal(t, tc.returned, time.Since(start))
				want := tc.want
				if want == whole {
					want = strings.Join(tc.parts, "")
				} else {
					<-body.closed
				}
				text, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				assert.Equal(t, want, string(text))
				assert.Equal(t, tc.read, time.Since(start))
			})
		})
	}
}

// What a body does in Read happens to the caller, not to the process.
func TestABodyThatPanics(t *testing.T) {
	for _, misbehave := range []func(){func() { panic("no luck") }, runtime.Goexit} {
		var fault any
		var text []byte
		func() {
			defer func() { fault = recover() }()
			resp := respond(readerFunc(func([]byte) (int, error) { misbehave(); return 0, nil }))
			Of(resp)
			var err error
			text, err = io.ReadAll(resp.Body)
			assert.ErrorContains(t, err, "ended its goroutine")
		}()
		assert.True(t, fault == "no luck" || fault == nil && len(text) == 0, "%v", fault)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Whatever is sent can be read from the body byte for byte, and for a complete JSON
// document the errcode is the one that encoding/json finds.
func FuzzOf(f *testing.F) {
	for _, seed := range []string{
		rejection, "", "{", "{}", "\ufeff" + rejection, `{"a":{"errcode":40001}}`, `{"errcode":40001,"errcode":0}`,
		`{"err\u0063ode":42001}`, `{"errcode":4e4}`, `[1]`, "\xef\xbb{", `{"errcode":40014`, `{"a":"` + strings.Repeat(`\"`, 300) + `","errcode":40001}`,
	} {
		for mode := range uint8(4) {
			f.Add([]byte(seed), mode)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, mode uint8) {
		body := io.Reader(bytes.NewReader(text))
		if mode&1 != 0 {
			body = iotest.OneByteReader(body)
		}
		resp := respond(body)
		code := Of(resp)
		if mode&2 != 0 {
			Complete(resp)
		}
		back, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.True(t, bytes.Equal(text, back), "the body was changed")

		document := bytes.TrimPrefix(text, []byte("\ufeff"))
		// Of several errcodes, encoding/json takes the last; Of, which stops early, cannot.
		single := bytes.Count(document, []byte("errcode"))+bytes.Count(document, []byte(`\u`)) <= 1
		if single && json.Valid(document) && len(text) <= 64<<10 {
			var fields map[string]json.RawMessage
			_ = json.Unmarshal(document, &fields)
			var want int
			if json.Unmarshal(fields["errcode"], &want) != nil {
				want = 0
			}
			require.Equal(t, want, code)
		}
	})
}
