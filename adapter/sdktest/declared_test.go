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

	"github.com/wxtoken/wxtoken/adapter"
	"github.com/wxtoken/wxtoken/wxtest"
)

// One SDK cannot be downloaded as a module: this is its interface as it declares it,
// and a client that calls it in the same order.

// accessTokenServer is core.AccessTokenServer of chanxuehong/wechat.
type accessTokenServer interface {
	Token() (token string, err error)
	RefreshToken(currentToken string) (token string, err error)
	IID01332E16DF5011E5A9D5A4DB30FED8E1()
}

// chanxuehongCall calls server as core.Client does: Token, and after 40001 or 42001
// RefreshToken, once, with the rejected token.
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

// 8 goroutines share one Source while its token is revoked.
func TestChanxuehong(t *testing.T) {
	inWorld(t, func(t *testing.T, w world) {
		w.Inject(wxtest.Latency(50 * time.Millisecond))
		server := adapter.Chanxuehong(w.src)
		const revoked = 5
		require.NoError(t, chanxuehongCall(server))
		for range revoked {
			age()
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					time.Sleep(time.Duration(i) * 10 * time.Millisecond) // rejections arrive one by one
					for range 4 {
						assert.NoError(t, chanxuehongCall(server))
					}
				})
			}
			time.Sleep(125 * time.Millisecond)
			w.revoke(t)
			wg.Wait()
		}
		assert.Equal(t, 1+revoked, w.Stats().Fetches().Total(), "fetches")
		assert.GreaterOrEqual(t, w.Stats().Calls()[40001], revoked*8, "rejected, and recovered")
	})
}
