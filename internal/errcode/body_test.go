package errcode

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

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
