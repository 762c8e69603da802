package errcode

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	maxRead  = 64 << 10    // bytes in which an errcode is looked for, and that Complete reads
	patience = time.Second // how long Of and Complete each wait for a body
)

// Of returns the errcode of a response of any of the platform's APIs, and leaves the
// body readable as if it had not been read. It returns 0 if the first 64 KiB have no
// errcode, or if none arrives within a second: the caller then continues reading the
// body as it arrives.
func Of(resp *http.Response) int {
	if resp == nil || resp.Body == nil || resp.Body == http.NoBody || resp.StatusCode == http.StatusSwitchingProtocols {
		return 0
	}
	b := &body{later: &reader{body: resp.Body}}
	resp.Body = b
	defer b.later.giveUpAfter(patience)()
	return findErrcode(io.TeeReader(io.LimitReader(b.later, maxRead), &b.seen))
}

// Complete reads the rest of a short body that Of has read from, for at most a
// second. A body that has stalled is cut there.
func Complete(resp *http.Response) {
	b, ok := resp.Body.(*body)
	if !ok {
		return
	}
	defer b.later.giveUpAfter(patience)()
	if _, err := io.CopyN(&b.seen, b.later, maxRead); err == errStalled {
		b.later.abandon()
		resp.ContentLength = -1
		resp.Header.Del("Content-Length")
	}
}

// A body is what has been read of a response's body so far, and then the rest.
type body struct {
	seen  bytes.Buffer
	later *reader
}

func (b *body) Read(p []byte) (int, error) {
	if b.seen.Len() > 0 {
		return b.seen.Read(p)
	}
	return b.later.Read(p)
}

func (b *body) Close() error { return b.later.body.Close() }

// errStalled is returned by a reader that has given up waiting.
var errStalled = errors.New("nothing came in time")

// A reader reads a body, and can give up waiting for it without losing what arrives
// later: a Read of the body that is in progress then serves the next Read.
type reader struct {
	body    io.ReadCloser
	limit   <-chan time.Time // nil: no limit
	pending chan chunk       // receives the result of the Read in progress; nil: none
	chunk   chunk            // the unread part of the last one
}

// A chunk is the result of one Read of the body.
type chunk struct {
	data  []byte
	err   error
	fault any // of a Read that panicked
}

// giveUpAfter limits all Reads together to d, until the function that it returns is
// called.
func (r *reader) giveUpAfter(d time.Duration) (done func()) {
	timer := time.NewTimer(d)
	r.limit = timer.C
	return func() {
		timer.Stop()
		r.limit = nil
	}
}

// abandon closes the body and makes it end here.
func (r *reader) abandon() {
	_ = r.body.Close() // which ends the Read in progress
	r.body, r.pending, r.chunk = http.NoBody, nil, chunk{}
}

func (r *reader) Read(p []byte) (int, error) {
	if len(r.chunk.data) == 0 && r.chunk.err == nil {
		if r.limit == nil && r.pending == nil {
			return r.body.Read(p)
		}
		if r.pending == nil {
			r.pending = make(chan chunk, 1)
			go readInto(r.pending, r.body, len(p))
		}
		select {
		case r.chunk = <-r.pending:
			r.pending = nil
		case <-r.limit:
			return 0, errStalled
		}
		if r.chunk.fault != nil {
			panic(r.chunk.fault) // where the caller can recover
		}
	}
	n := copy(p, r.chunk.data)
	if r.chunk.data = r.chunk.data[n:]; len(r.chunk.data) > 0 {
		return n, nil
	}
	return n, r.chunk.err
}

func readInto(to chan<- chunk, body io.Reader, size int) {
	c := chunk{err: errors.New("wxtoken: reading the response's body ended its goroutine")}
	defer func() {
		c.fault = recover()
		to <- c
	}()
	data := make([]byte, size)
	n, err := body.Read(data)
	c.data, c.err = data[:n], err
}

// findErrcode returns the errcode at the top level of the JSON object in r, or 0 if
// there is none or it is not a number. It reads no further than necessary, and
// accepts an object that is cut off.
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
			return 0 // more digits may follow
		}
		code, _ := strconv.Atoi(string(value))
		return code
	}
	return 0
}
