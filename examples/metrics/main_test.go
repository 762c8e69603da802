package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOutput(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	assert.Contains(t, out.String(), `wxtoken_fetches_total{app="wxfake",result="ip"} 1`)
	assert.Contains(t, out.String(), `wxtoken_token_remaining_seconds{app="wxfake"} 0`)
	for _, name := range []string{"wxtoken.fetches", "wxtoken.events", "wxtoken.fetch.duration", "wxtoken.token.remaining"} {
		assert.Contains(t, out.String(), name+" (metricdata.")
	}
}
