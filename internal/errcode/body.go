package errcode

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// Of gives the errcode of a response of any of the platform's APIs, or 0 if
// its first 64 KiB have none, and leaves the body to be read as if it had not.
func Of(resp *http.Response) int {
	if resp == nil || resp.Body == nil || resp.Body == http.NoBody || resp.StatusCode == http.StatusSwitchingProtocols {
		return 0
	}
	type body struct {
		io.Reader
		io.Closer
	}
	var seen bytes.Buffer
	code := findErrcode(io.TeeReader(io.LimitReader(resp.Body, 64<<10), &seen))
	resp.Body = body{io.MultiReader(&seen, resp.Body), resp.Body}
	return code
}

// findErrcode gives the errcode at the top level of the JSON object in r, or 0
// if there is none or it is no number. It reads no further than it must, and
// copes with an object that is cut off.
func findErrcode(r io.Reader) int {
	text := bufio.NewReaderSize(r, 512)
	for first := rune(0); first != '{'; {
		var err error
		if first, _, err = text.ReadRune(); err != nil || !strings.ContainsRune("{\ufeff \t\r\n", first) {
			return 0
		}
	}
	_ = text.UnreadRune()
	dec := json.NewDecoder(text)
	_, _ = dec.Token() // the brace
	for dec.More() {
		key, err := dec.Token()
		var value json.RawMessage
		if err != nil || dec.Decode(&value) != nil {
			return 0
		}
		if key != "errcode" {
			continue
		}
		if n, _ := dec.Buffered().Read(make([]byte, 1)); n == 0 {
			return 0 // where the reading stopped, more digits may follow
		}
		code, _ := strconv.Atoi(string(value))
		return code
	}
	return 0
}
