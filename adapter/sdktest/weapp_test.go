package sdktest

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/medivhzhan/weapp/v3"
	"github.com/medivhzhan/weapp/v3/logger"
	"github.com/medivhzhan/weapp/v3/phonenumber"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/adapter"
)

func weappClient(w world) *weapp.Client {
	client := weapp.NewClient(appID, "none",
		weapp.WithAccessTokenSetter(adapter.Weapp(w.src)), weapp.WithHttpClient(w.client))
	client.SetLogLevel(logger.Silent) // it prints URLs, tokens included
	return client
}

func sendText(client *weapp.Client) error {
	answer, err := client.SendTextMsg("openid", &weapp.CSMsgText{Content: "hello"})
	if err != nil {
		return err
	}
	return answer.GetResponseError()
}

func TestWeapp(t *testing.T) {
	picture := filepath.Join(t.TempDir(), "a.jpg")
	require.NoError(t, os.WriteFile(picture, []byte("\xff\xd8\xff a picture"), 0o600))
	inWorld(t, func(t *testing.T, w world) {
		w.Handle("/wxa/business/getuserphonenumber", http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(rw, `{"errcode":0,"errmsg":"ok","phone_info":{"phoneNumber":"13800138000"}}`)
		}))
		client := weappClient(w)
		var media string
		calls := []func() error{
			func() error { return sendText(client) },
			func() error {
				answer, err := client.UploadTempMedia(weapp.TempMediaTypeImage, picture)
				if err != nil {
					return err
				}
				media = answer.MediaID
				return answer.GetResponseError()
			},
			func() error {
				answer, err := client.NewPhonenumber().GetPhoneNumber(&phonenumber.GetPhoneNumberRequest{Code: "c"})
				if err != nil {
					return err
				}
				assert.Equal(t, "13800138000", answer.Data.PhoneNumber)
				return answer.GetResponseError()
			},
		}
		for i, call := range calls {
			require.NoError(t, call())
			age()
			w.revoke(t)
			require.NoError(t, call())
			w.saw(t, 2+i, 1+i)
			time.Sleep(2 * time.Second) // until the SDK drops the revoked token
		}

		answer, _, err := client.GetTempMedia(media) // by way of http.DefaultClient
		require.NoError(t, err)
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		assert.Equal(t, "\xff\xd8\xff a picture", string(body))
		w.saw(t, 4, 3)
	})
}

// The SDK drops errors of its getter; the Transport finds the token missing and asks
// the Source again, so the caller gets the error.
func TestWeappGetsTheSourcesError(t *testing.T) {
	inWorld(t, func(t *testing.T, w world) {
		w.SetSecret(appID, "another")
		client := weappClient(w)
		err := sendText(client)
		require.ErrorContains(t, err, "40125")
		assert.NotContains(t, err.Error(), secret)
		w.saw(t, 1, 0)

		w.SetSecret(appID, secret)
		time.Sleep(time.Hour)
		require.NoError(t, sendText(client), "the failure is not cached")
	})
}

// For a day, the SDK's own cache never keeps a token that another system has
// replaced.
func TestWeappFollowsTheSource(t *testing.T) {
	inWorld(t, func(t *testing.T, w world) {
		client := weappClient(w)
		for range 24 * 60 {
			require.NoError(t, sendText(client))
			time.Sleep(time.Minute)
		}
		stats := w.Stats()
		assert.LessOrEqual(t, stats.Fetches().Total(), 13)
		assert.Equal(t, 24*60, stats.Calls()[0])
		assert.Equal(t, 24*60, stats.Calls().Total(), "none rejected")
	})
}
