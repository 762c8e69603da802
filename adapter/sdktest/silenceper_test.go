package sdktest

import (
	"net/http"
	"strings"
	"testing"

	"github.com/silenceper/wechat/v2"
	"github.com/silenceper/wechat/v2/cache"
	"github.com/silenceper/wechat/v2/credential"
	miniconfig "github.com/silenceper/wechat/v2/miniprogram/config"
	minimessage "github.com/silenceper/wechat/v2/miniprogram/message"
	"github.com/silenceper/wechat/v2/miniprogram/qrcode"
	"github.com/silenceper/wechat/v2/officialaccount"
	offconfig "github.com/silenceper/wechat/v2/officialaccount/config"
	"github.com/silenceper/wechat/v2/officialaccount/material"
	"github.com/silenceper/wechat/v2/officialaccount/message"
	"github.com/silenceper/wechat/v2/util"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/adapter"
)

var (
	_ credential.AccessTokenHandle        = adapter.Silenceper(wxtoken.New(wxtoken.NewFetcher("a", "b"), nil))
	_ credential.AccessTokenContextHandle = adapter.Silenceper(wxtoken.New(wxtoken.NewFetcher("a", "b"), nil))
)

// silenceperAccount is an official account whose SDK has a wrong secret: all of its
// tokens come from the Source.
func silenceperAccount(t *testing.T, w world, client *http.Client) *officialaccount.OfficialAccount {
	t.Helper()
	before := util.DefaultHTTPClient
	t.Cleanup(func() { util.DefaultHTTPClient = before })
	wc := wechat.NewWechat()
	wc.SetHTTPClient(client)
	account := wc.GetOfficialAccount(&offconfig.Config{AppID: appID, AppSecret: "none", Cache: cache.NewMemory()})
	account.SetAccessTokenHandle(adapter.Silenceper(w.src))
	return account
}

func TestSilenceperOfficialAccount(t *testing.T) {
	inWorld(t, func(t *testing.T, w world) {
		account := silenceperAccount(t, w, w.client)
		calls := []func() error{
			func() error { _, err := account.GetBasic().GetAPIDomainIP(); return err },
			func() error {
				return message.NewMessageManager(account.GetContext()).Send(message.NewCustomerTextMessage("openid", "hello"))
			},
			func() error {
				_, err := account.GetMaterial().MediaUploadFromReader(material.MediaTypeImage, "a.jpg", strings.NewReader("\xff\xd8"))
				return err
			},
			func() error {
				_, err := account.GetJs().GetConfigContext(t.Context(), "https://example.com/")
				return err
			},
		}
		for _, call := range calls {
			require.NoError(t, call())
		}
		w.saw(t, 1, 0)
		for i, call := range calls[:3] { // the SDK has cached the ticket by now
			age()
			w.revoke(t)
			require.NoError(t, call())
			w.saw(t, 2+i, 1+i)
		}
	})
}

func TestSilenceperMiniProgram(t *testing.T) {
	inWorld(t, func(t *testing.T, w world) {
		w.Handle("/wxa/getwxacode", http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "image/jpeg")
			_, _ = rw.Write([]byte("\xff\xd8 a code"))
		}))
		silenceperAccount(t, w, w.client) // sets the SDK's one HTTP client
		program := wechat.NewWechat().GetMiniProgram(&miniconfig.Config{AppID: appID, AppSecret: "none", Cache: cache.NewMemory()})
		program.SetAccessTokenContextHandle(adapter.Silenceper(w.src))
		for i := range 2 {
			require.NoError(t, program.GetCustomerMessage().Send(minimessage.NewCustomerTextMessage("openid", "hello")))
			w.saw(t, 1+i, i)
			if i == 0 {
				age()
				w.revoke(t)
			}
		}
		age()
		w.revoke(t)
		code, err := program.GetQRCode().GetWXACode(qrcode.QRCoder{Path: "/index"})
		require.NoError(t, err)
		assert.Equal(t, "\xff\xd8 a code", string(code))
		w.saw(t, 3, 2)
	})
}

// The SDK alone never learns that a token was rejected, which is what Transport is
// for.
func TestSilenceperWithoutTransport(t *testing.T) {
	inWorld(t, func(t *testing.T, w world) {
		account := silenceperAccount(t, w, w.Client())
		_, err := account.GetBasic().GetAPIDomainIP()
		require.NoError(t, err)
		age()
		w.revoke(t)
		for range 2 {
			_, err = account.GetBasic().GetAPIDomainIP()
			require.ErrorContains(t, err, "40001")
		}
		w.saw(t, 1, 2)
	})
}

func TestSilenceperGetsTheSourcesError(t *testing.T) {
	inWorld(t, func(t *testing.T, w world) {
		w.SetSecret(appID, "another")
		_, err := silenceperAccount(t, w, w.client).GetBasic().GetAPIDomainIP()
		var denied *wxtoken.APIError
		require.ErrorAs(t, err, &denied)
		assert.Equal(t, 40125, denied.Code)
		assert.NotContains(t, err.Error(), secret)
	})
}
