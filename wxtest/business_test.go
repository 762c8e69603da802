package wxtest_test

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/wxtest"
)

func TestBusinessCallsCheckTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t)
		expired := p.Issue("wx1")
		time.Sleep(2 * time.Hour)
		superseded := p.Issue("wx1")
		p.Issue("wx1")
		time.Sleep(5 * time.Minute)
		revoked := p.Issue("wx1")
		p.Revoke(revoked)
		ended := p.Issue("wx1")
		p.Expire(ended)
		good := p.Issue("wx1")

		tests := []struct {
			name, token, message string
			code                 int
		}{
			{"good", good, "", 0},
			{"missing", "", "access_token missing", 41001},
			{"malformed", "not-a-token", "invalid access_token", 40014},
			{"bad characters", strings.Repeat("~", 140), "invalid access_token", 40014},
			{"too long", strings.Repeat("x", 513), "invalid access_token", 40014},
			{"never issued", strings.Repeat("x", 140), "invalid or not latest", 40001},
			{"expired", expired, "access_token expired", 42001},
			{"superseded", superseded, "invalid or not latest, could get access_token by getStableAccessToken", 40001},
			{"revoked", revoked, "invalid or not latest", 40001},
			{"ended early", ended, "access_token expired", 42001},
		}
		want := wxtest.Tally{}
		for _, tt := range tests {
			a := p.get("/cgi-bin/get_api_domain_ip?access_token=" + tt.token)
			assert.Equal(t, tt.code, a.Errcode, tt.name)
			assert.Contains(t, a.Errmsg, tt.message, tt.name)
			assert.Equal(t, tt.code == 0, p.Honoured(tt.token), tt.name)
			want[tt.code]++
		}
		assert.Equal(t, want, p.Stats().Calls())
		assert.Equal(t, want, p.Stats().Results["/cgi-bin/get_api_domain_ip"])
		assert.Zero(t, p.Stats().Fetches().Total(), "Issue is no request")
		p.Revoke("unknown")
		p.Expire("unknown")
	})
}

func TestSendEchoes(t *testing.T) {
	p := newPlatform(t)
	url := "/cgi-bin/message/custom/send?access_token=" + p.fetch()
	a := p.post(url, "application/json", `{"touser":"o1","text":{"content":"hi"}}`)
	assert.Equal(t, "ok", a.Errmsg)
	assert.JSONEq(t, `{"touser":"o1","text":{"content":"hi"}}`, string(a.Echo))
	assert.Equal(t, 47001, p.post(url, "application/json", `{`).Errcode)
	assert.Equal(t, 43002, p.get(url).Errcode)
}

func TestMedia(t *testing.T) {
	p := newPlatform(t)
	token := p.fetch()
	upload := "/cgi-bin/media/upload?type=image&access_token=" + token
	form := func(field string, data []byte) (contentType, body string) {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		part, err := w.CreateFormFile(field, "a.png")
		require.NoError(t, err)
		_, err = part.Write(data)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		return w.FormDataContentType(), b.String()
	}
	data := append([]byte("\x89PNG\r\n\x1a\n"), make([]byte, 1<<20)...)
	contentType, body := form("media", data)
	a := p.post(upload, contentType, body)
	require.NotEmpty(t, a.MediaID, a.Errmsg)

	resp, got := fetchPage(t, p.client, api+"/cgi-bin/media/get?access_token="+token+"&media_id="+a.MediaID)
	assert.True(t, string(data) == got, "not what was sent")
	assert.Equal(t, "image/png", resp.Header.Get("Content-Type"))
	assert.Equal(t, `attachment; filename="a.png"`, resp.Header.Get("Content-Disposition"))

	assert.Equal(t, 40007, p.get("/cgi-bin/media/get?media_id=nosuch&access_token="+token).Errcode)
	assert.Equal(t, 43002, p.get(upload).Errcode)
	assert.Equal(t, 41005, p.post(upload, "application/json", "{}").Errcode)
	contentType, body = form("other", data)
	assert.Equal(t, 41005, p.post(upload, contentType, body).Errcode)
	contentType, body = form("media", nil)
	assert.Equal(t, 41005, p.post(upload, contentType, body).Errcode)
}

func TestHandle(t *testing.T) {
	p := newPlatform(t)
	p.Handle("/wxa/mine", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"errcode":0,"errmsg":"`+r.Host+r.RequestURI[:9]+`"}`)
	}))
	assert.Equal(t, 40014, p.get("/wxa/mine?access_token=bad").Errcode)
	assert.Equal(t, "api.weixin.qq.com/wxa/mine", p.get("/wxa/mine?access_token="+p.fetch()).Errmsg)
	assert.Equal(t, wxtest.Tally{0: 1, 40014: 1}, p.Stats().Calls())
}

func TestAnyPath(t *testing.T) {
	p := newPlatform(t, wxtest.WithAnyPath())
	token := p.fetch()
	a := p.post("/cgi-bin/menu/create?access_token="+token, "application/json", "{}")
	assert.Zero(t, a.Errcode)
	assert.Equal(t, "ok", a.Errmsg)
	assert.Equal(t, 41001, p.get("/cgi-bin/menu/get").Errcode)
	assert.Equal(t, 40014, p.get("/cgi-bin/menu/get?access_token=bad").Errcode)
	p.Revoke(token)
	assert.Equal(t, 40001, p.get("/cgi-bin/menu/get?access_token="+token).Errcode)
	assert.Equal(t, wxtest.Tally{0: 1}, p.Stats().Results["/cgi-bin/menu/create"])
}
