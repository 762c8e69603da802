package sdktest

import (
	"sync"
	"testing"
	"time"

	"github.com/fastwego/offiaccount/apis/util"
	"github.com/silenceper/wechat/v2/officialaccount/message"
	"github.com/stretchr/testify/assert"

	"github.com/wxtoken/wxtoken/wxtest"
)

// Three SDKs, with 8 goroutines for each kind of call, share one Source, while the
// token is revoked with calls in flight: no call fails, and each revocation causes
// one fetch.
func TestSDKsShareOneSource(t *testing.T) {
	inWorld(t, func(t *testing.T, w world) {
		w.Inject(wxtest.Latency(50 * time.Millisecond))
		account := silenceperAccount(t, w, w.client)
		basic, messages := account.GetBasic(), message.NewMessageManager(account.GetContext()) // not safe for concurrent use
		weapp, fastwego := weappClient(w), fastwegoAccount(w)
		calls := map[string]func() error{
			"silenceper get":  func() error { _, err := basic.GetAPIDomainIP(); return err },
			"silenceper post": func() error { return messages.Send(message.NewCustomerTextMessage("openid", "hello")) },
			"weapp":           func() error { return sendText(weapp) },
			"fastwego":        func() error { _, err := util.GetApiDomainIp(fastwego); return err },
		}
		const revoked, goroutines, each = 5, 8, 4
		_, err := w.src.Token(t.Context())
		assert.NoError(t, err)
		for range revoked {
			age()
			var wg sync.WaitGroup
			for name, call := range calls {
				for range goroutines {
					wg.Go(func() {
						for range each {
							assert.NoError(t, call(), name)
						}
					})
				}
			}
			time.Sleep(125 * time.Millisecond) // while they are in flight
			w.revoke(t)
			wg.Wait()
		}
		good, crowd := revoked*goroutines*each*len(calls), goroutines*len(calls)
		tally := w.Stats().Calls()
		assert.Equal(t, 1+revoked, w.Stats().Fetches().Total(), "fetches")
		assert.Equal(t, good, tally[0], "good calls")
		assert.GreaterOrEqual(t, tally[40001], revoked*crowd, "rejected, and recovered")
		t.Logf("business calls by errcode: %v", tally)
	})
}
