package sdktest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/adapter"
	"github.com/wxtoken/wxtoken/wxtest"
)

// The two SDKs that cannot be downloaded as modules: their interfaces as they
// declare them, and clients that call these in the order in which they do.

// accessTokenServer is core.AccessTokenServer of chanxuehong/wechat.
type accessTokenServer interface {
	Token() (token string, err error)
	RefreshToken(currentToken string) (token string, err error)
	IID01332E16DF5011E5A9D5A4DB30FED8E1()
}

// chanxuehongCall calls as core.Client does: Token, and after 40001 or 42001
// once RefreshToken with the token that was refused.
func chanxuehongCall(server accessTokenServer) error {
	token, err := server.Token()
	if err != nil {
		return err
	}
	code, err := callWith(token)
	if err == nil && (code == 40001 || code == 42001) {
		if token, err = server.RefreshToken(token); err != nil {
			return err
		}
		code, err = callWith(token)
	}
	return outcome(code, err)
}

// hashMap is object.HashMap of PowerLibs, getCustomToken the type of the field
// in PowerWeChat's AccessToken.
type (
	hashMap        map[string]any
	getCustomToken func(key string, refresh bool) hashMap
)

// powerWeChatCall calls as kernel.BaseClient does: with false, and after a
// refusal with true, whose result is dropped, and false again.
func powerWeChatCall(get getCustomToken) error {
	value := func(refresh bool) string {
		m := get("powerwechat.access_token.0cc175b9c0f1b6a8", refresh)
		_ = m["expires_in"].(float64)
		return m["access_token"].(string)
	}
	code, err := callWith(value(false))
	if err == nil && wxtoken.IsTokenRejected(code) {
		value(true)
		code, err = callWith(value(false))
	}
	return outcome(code, err)
}

func callWith(token string) (errcode int, err error) {
	resp, err := http.Get("https://api.weixin.qq.com/cgi-bin/get_api_domain_ip?access_token=" + url.QueryEscape(token))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var answer struct{ Errcode int }
	err = json.NewDecoder(resp.Body).Decode(&answer)
	return answer.Errcode, err
}

func outcome(errcode int, err error) error {
	if err == nil && errcode != 0 {
		err = fmt.Errorf("errcode %d", errcode)
	}
	return err
}

// 8 goroutines each on one Source, while its token dies under them.
func TestDeclaredSDKs(t *testing.T) {
	inWorld(t, func(t *testing.T, w world) {
		w.Inject(wxtest.Latency(50 * time.Millisecond))
		server := adapter.Chanxuehong(w.src)
		get := adapter.PowerWeChat[hashMap](w.src)
		const deaths = 5
		require.NoError(t, chanxuehongCall(server))
		for range deaths {
			age()
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					time.Sleep(time.Duration(i) * 10 * time.Millisecond) // refusals come in one by one
					for range 4 {
						assert.NoError(t, chanxuehongCall(server), "chanxuehong")
						assert.NoError(t, powerWeChatCall(get), "PowerWeChat")
					}
				})
			}
			time.Sleep(125 * time.Millisecond)
			w.kill(t)
			wg.Wait()
		}
		assert.Equal(t, 1+deaths, w.Stats().Fetches().Total(), "fetches")
		assert.GreaterOrEqual(t, w.Stats().Calls()[40001], deaths*8, "refused, and healed")
	})
}

func TestPowerWeChatAfterAnError(t *testing.T) {
	inWorld(t, func(t *testing.T, w world) {
		get := adapter.PowerWeChat[hashMap](w.src)
		w.SetSecret(appID, "another")
		assert.EqualError(t, powerWeChatCall(get), "errcode 41001")
		w.SetSecret(appID, secret)
		age()
		assert.NoError(t, powerWeChatCall(get), "the failure is not kept")
	})
}
