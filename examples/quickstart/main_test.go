package main

import (
	"bytes"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestItShowsWhatItPromises(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		require.NoError(t, run(t.Context(), &out, func(string) string { return "" }))
		assert.Regexp(t, `burst +1,000 concurrent callers, 1 fetch,`, out.String())
		assert.Regexp(t, `token +Token\(redacted, expires `, out.String())
		assert.Regexp(t, `call +\{"ip_list":`, out.String())
		assert.Regexp(t, `refused .* got \{"ip_list":.* and 2 fetches were made in all`, out.String())
		assert.Contains(t, out.String(), "NewRedisCache")
	})
}

func TestHalfACredentialIsAnError(t *testing.T) {
	err := run(t.Context(), new(bytes.Buffer), func(name string) string {
		return map[string]string{"WECHAT_APPID": "wx1"}[name]
	})
	require.ErrorContains(t, err, "WECHAT_SECRET")
}
