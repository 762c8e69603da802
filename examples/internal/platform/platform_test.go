package platform_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/examples/internal/exampletest"
	"github.com/wxtoken/wxtoken/examples/internal/platform"
)

func TestFakeWithoutCredentials(t *testing.T) {
	p, err := platform.FromEnv(exampletest.Env{}.Get)
	require.NoError(t, err)
	require.NotNil(t, p.Fake)
	token, err := p.Fetcher.Fetch(t.Context())
	require.NoError(t, err)
	assert.True(t, p.Fake.Honoured(token.Value))
}

// cgi-bin/token would supersede the token that production uses.
func TestStableTokenWithCredentials(t *testing.T) {
	p, err := platform.FromEnv(exampletest.Env{"WECHAT_APPID": "wx1", "WECHAT_SECRET": "hush-hush"}.Get)
	require.NoError(t, err)
	assert.Nil(t, p.Fake)
	assert.Equal(t, "stable:wx1", p.Fetcher.Key())
	assert.NotContains(t, p.Name, "hush-hush")
}

func TestIncompleteCredentialIsAnError(t *testing.T) {
	for _, name := range []string{"WECHAT_APPID", "WECHAT_SECRET"} {
		_, err := platform.FromEnv(exampletest.Env{name: "half"}.Get)
		assert.ErrorContains(t, err, "set both WECHAT_APPID and WECHAT_SECRET")
	}
}
