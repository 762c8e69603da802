package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestServesItsApps(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	done := make(chan error)
	go func() {
		done <- run(ctx, writer, []string{"-listen", "127.0.0.1:0", "-app", "wx1:one", "-app", "wx2:two"})
	}()
	line, err := bufio.NewReader(reader).ReadString('\n')
	require.NoError(t, err)
	url := regexp.MustCompile(`http://\S+`).FindString(line)

	resp, err := http.Get(url + "/cgi-bin/token?grant_type=client_credential&appid=wx2&secret=two")
	require.NoError(t, err)
	defer resp.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
	assert.NotEmpty(t, answer.AccessToken)
	assert.Equal(t, 7200, answer.ExpiresIn)

	cancel()
	assert.NoError(t, <-done)
}

func TestErrorsSayWhatToPass(t *testing.T) {
	for want, args := range map[string][]string{
		"pass an app to fakeplatform": {},
		"want appID:secret":           {"-app", "wx1"},
		"another address":             {"-app", "wx1:one", "-listen", "nowhere"},
	} {
		assert.ErrorContains(t, run(t.Context(), io.Discard, args), want)
	}
}
