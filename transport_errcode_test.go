package wxtoken_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

// Which answers make the Transport send again; all reach the caller in full.
func TestTransportFindsErrcode(t *testing.T) {
	long := strings.Repeat("x", 70<<10)
	for name, tc := range map[string]struct {
		body string
		want bool
	}{
		"40001":                {refusal, true},
		"40014":                {`{"errcode":40014}`, true},
		"42001":                {`{"errmsg":"access_token expired","errcode": 42001 }`, true},
		"BOM and space":        {"\ufeff \r\n\t" + refusal, true},
		"after nested":         {`{"a":{"errcode":0},"b":[{"errcode":0}],"errcode":40001}`, true},
		"escaped key":          {`{"err\u0063ode":40001}`, true},
		"cut off after it":     {`{"errcode":40001,"errmsg":"inv`, true},
		"long, near the start": {`{"errcode":40001,"a":"` + long + `"}`, true},
		"ok":                   {`{"errcode":0,"errmsg":"ok"}`, false},
		"42007":                {`{"errcode":42007}`, false},
		"45009":                {`{"errcode":45009}`, false},
		"more digits":          {`{"errcode":400014}`, false},
		"nested":               {`{"a":{"errcode":40001}}`, false},
		"in an array":          {`[{"errcode":40001}]`, false},
		"in a string":          {`{"a":"\"errcode\":40001,"}`, false},
		"other case":           {`{"ErrCode":40001}`, false},
		"a string":             {`{"errcode":"40001"}`, false},
		"null":                 {`{"errcode":null}`, false},
		"cut off within it":    {`{"errcode":40001`, false},
		"past 64 KiB":          {`{"a":"` + long + `","errcode":40001}`, false},
		"split by 64 KiB":      {`{"a":"` + long[:(64<<10)-23] + `","errcode":400012}`, false},
		"space past 64 KiB":    {strings.Repeat(" ", 64<<10) + refusal, false},
		"HTML":                 {"<html>" + refusal, false},
		"binary":               {"\xff\xd8\xff" + refusal, false},
		"half a BOM":           {"\xef", false},
		"empty":                {"", false},
		"broken":               {`{"a" "errcode":40001}`, false},
		"not an object":        {"{", false},
	} {
		t.Run(name, func(t *testing.T) {
			base, src := &platform{answers: []string{tc.body}}, &rotatingSource{}
			resp, err := (&wxtoken.Transport{Source: src, Base: base}).RoundTrip(get(t, apiURL))
			require.NoError(t, err)
			assert.Equal(t, tc.body, readAll(t, resp))
			assert.EqualValues(t, len(tc.body), resp.ContentLength)
			if tc.want {
				assert.Equal(t, []string{"token-1"}, src.rejected)
				assert.Len(t, base.sent, 2)
			} else {
				assert.Empty(t, src.rejected)
				assert.Len(t, base.sent, 1)
			}
		})
	}
}

func TestTransportKeepsTheBodysError(t *testing.T) {
	cut := errors.New("connection reset")
	base := baseFunc(func(req *http.Request) (*http.Response, error) {
		body := io.MultiReader(strings.NewReader(`{"a":1,`), iotest.ErrReader(cut))
		return &http.Response{StatusCode: 200, Body: io.NopCloser(body)}, nil
	})
	resp, err := (&wxtoken.Transport{Source: &rotatingSource{}, Base: base}).RoundTrip(get(t, apiURL))
	require.NoError(t, err)
	text, err := io.ReadAll(resp.Body)
	assert.Equal(t, `{"a":1,`, string(text))
	assert.ErrorIs(t, err, cut)
}
