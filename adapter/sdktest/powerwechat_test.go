package sdktest

import (
	"context"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/ArtisanCloud/PowerLibs/v3/logger/contract"
	"github.com/ArtisanCloud/PowerLibs/v3/logger/drivers"
	"github.com/ArtisanCloud/PowerLibs/v3/object"
	"github.com/ArtisanCloud/PowerWeChat/v3/src/officialAccount"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/adapter"
	"github.com/wxtoken/wxtoken/wxtest"
)

// A replaceable is a RoundTripper that can be replaced.
type replaceable struct{ http.RoundTripper }

// A silentLogger takes the place of the SDK's own logger, which writes files.
type silentLogger struct{ drivers.DummyLogger }

func (s *silentLogger) WithContext(context.Context) contract.LoggerInterface { return s }

// newPowerWeChat makes an official account whose SDK has a wrong secret. It must be
// called outside of a bubble, because it starts goroutines that never end.
func newPowerWeChat(t *testing.T, under *replaceable) *officialAccount.OfficialAccount {
	t.Helper()
	account, err := officialAccount.NewOfficialAccount(&officialAccount.UserConfig{
		AppID: appID, Secret: "none",
		Http: officialAccount.Http{Transport: under},
		Log:  officialAccount.Log{Driver: &silentLogger{}},
	})
	require.NoError(t, err)
	return account
}

// withPowerWeChat runs test in a world with n official accounts of the SDK, each
// of which serves one goroutine at a time.
func withPowerWeChat(t *testing.T, n int, test func(t *testing.T, w world, accounts []*officialAccount.OfficialAccount, under *replaceable)) {
	t.Helper()
	under := &replaceable{}
	var accounts []*officialAccount.OfficialAccount
	for range n {
		accounts = append(accounts, newPowerWeChat(t, under))
	}
	inWorld(t, func(t *testing.T, w world) {
		w.Handle("/cgi-bin/getcallbackip", http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(rw, `{"ip_list":["127.0.0.1"]}`)
		}))
		under.RoundTripper = http.DefaultClient.Transport
		get := adapter.PowerWeChat[object.HashMap](w.src)
		for _, account := range accounts {
			account.AccessToken.GetCustomToken = get
		}
		test(t, w, accounts, under)
		time.Sleep(time.Minute) // the SDK leaves some response bodies open until its timeout
	})
}

func powerWeChatGet(t *testing.T, account *officialAccount.OfficialAccount) error {
	answer, err := account.Base.GetCallbackIP(t.Context())
	if err != nil {
		return err
	}
	return outcome(answer.ErrCode, nil)
}

func powerWeChatSend(t *testing.T, account *officialAccount.OfficialAccount) error {
	answer, err := account.CustomerService.Send(t.Context(), object.HashMap{"touser": "openid", "msgtype": "text"})
	if err != nil {
		return err
	}
	return outcome(answer.ErrCode, nil)
}

// The SDK reports the rejection itself.
func TestPowerWeChat(t *testing.T) {
	withPowerWeChat(t, 1, func(t *testing.T, w world, accounts []*officialAccount.OfficialAccount, _ *replaceable) {
		for i := range 4 {
			require.NoError(t, powerWeChatGet(t, accounts[0]))
			w.saw(t, 1+i, i)
			age()
			w.revoke(t)
		}
	})
}

// The SDK resends a POST without its body; over a Transport it need not resend.
func TestPowerWeChatPost(t *testing.T) {
	withPowerWeChat(t, 1, func(t *testing.T, w world, accounts []*officialAccount.OfficialAccount, under *replaceable) {
		require.NoError(t, powerWeChatSend(t, accounts[0]))
		age()
		w.revoke(t)
		require.Error(t, powerWeChatSend(t, accounts[0]))
		require.NoError(t, powerWeChatSend(t, accounts[0]), "the next one succeeds anyway")

		under.RoundTripper = w.client.Transport
		age()
		w.revoke(t)
		require.NoError(t, powerWeChatSend(t, accounts[0]))
		require.NoError(t, powerWeChatGet(t, accounts[0]))
		w.saw(t, 3, 2)
	})
}

func TestPowerWeChatAfterAnError(t *testing.T) {
	withPowerWeChat(t, 1, func(t *testing.T, w world, accounts []*officialAccount.OfficialAccount, _ *replaceable) {
		w.SetSecret(appID, "another")
		assert.EqualError(t, powerWeChatGet(t, accounts[0]), "errcode 41001")
		w.SetSecret(appID, secret)
		age()
		assert.NoError(t, powerWeChatGet(t, accounts[0]), "the failure is not cached")
	})
}

// The rejections of one revoked token arrive one by one, and cause one fetch.
func TestPowerWeChatInParallel(t *testing.T) {
	withPowerWeChat(t, 8, func(t *testing.T, w world, accounts []*officialAccount.OfficialAccount, _ *replaceable) {
		w.Inject(wxtest.Latency(50 * time.Millisecond))
		const revoked = 5
		require.NoError(t, powerWeChatGet(t, accounts[0]))
		for range revoked {
			age()
			var wg sync.WaitGroup
			for i, account := range accounts {
				wg.Go(func() {
					time.Sleep(time.Duration(i) * 10 * time.Millisecond)
					for range 4 {
						assert.NoError(t, powerWeChatGet(t, account))
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
