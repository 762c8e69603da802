package main

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken/examples/internal/exampletest"
)

func TestOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, err := exampletest.Env{}.Run(t, run)
		require.NoError(t, err)
		assert.Regexp(t, `burst +1,000 concurrent callers, 1 fetch,`, out)
		assert.Regexp(t, `token +Token\(redacted, expires `, out)
		assert.Regexp(t, `call +\{"ip_list":`, out)
		assert.Regexp(t, `rejected .* got \{"ip_list":.* with 2 fetches in all`, out)
		assert.Contains(t, out, "NewRedisCache")
	})
}

func TestIncompleteCredentialIsAnError(t *testing.T) {
	_, err := exampletest.Env{"WECHAT_APPID": "wx1"}.Run(t, run)
	require.ErrorContains(t, err, "WECHAT_SECRET")
}
