package sdktest

import (
	"testing"

	"github.com/fastwego/offiaccount"
	"github.com/fastwego/offiaccount/apis/customservice"
	"github.com/fastwego/offiaccount/apis/util"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/adapter"
)

func fastwegoAccount(w world) *offiaccount.OffiAccount {
	account := offiaccount.New(offiaccount.Config{Appid: appID, Secret: "none"})
	account.Logger = nil // it prints URLs, tokens included
	account.AccessToken.GetAccessTokenHandler, account.AccessToken.NoticeAccessTokenExpireHandler =
		adapter.Fastwego[offiaccount.OffiAccount](w.src)
	return account
}

func fastwegoSend(account *offiaccount.OffiAccount) error {
	_, err := customservice.SendMessage(account, []byte(`{"touser":"openid","msgtype":"text"}`))
	return err
}

// The SDK reports the rejection itself.
func TestFastwego(t *testing.T) {
	inWorld(t, func(t *testing.T, w world) {
		account := fastwegoAccount(w)
		for i := range 4 {
			_, err := util.GetApiDomainIp(account)
			require.NoError(t, err)
			w.saw(t, 1+i, i)
			age()
			w.revoke(t)
		}
	})
}

// The SDK resends a POST without its body; over a Transport it need not resend.
func TestFastwegoPost(t *testing.T) {
	inWorld(t, func(t *testing.T, w world) {
		account := fastwegoAccount(w)
		require.NoError(t, fastwegoSend(account))
		age()
		w.revoke(t)
		require.Error(t, fastwegoSend(account))
		require.NoError(t, fastwegoSend(account), "the next one succeeds anyway")

		setDefaultTransport(t, w.client.Transport)
		age()
		w.revoke(t)
		require.NoError(t, fastwegoSend(account))
		w.saw(t, 3, 2)
	})
}

func TestFastwegoGetsTheSourcesError(t *testing.T) {
	inWorld(t, func(t *testing.T, w world) {
		w.SetSecret(appID, "another")
		_, err := util.GetApiDomainIp(fastwegoAccount(w))
		var denied *wxtoken.APIError
		require.ErrorAs(t, err, &denied)
		assert.Equal(t, 40125, denied.Code)
	})
}
