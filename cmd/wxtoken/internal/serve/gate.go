package serve

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"
)

// fetches is how many requests for a token are under way at most, over all apps.
const fetches = 64

// A gate is an http.RoundTripper that lets few requests through at a time. One
// that waits has asked for a connection and not got one: anyone who gives it up
// knows that nothing was sent.
type gate struct {
	base  http.RoundTripper
	slots chan struct{}
}

func newGate() *gate {
	base := http.DefaultTransport.(*http.Transport).Clone()
	// http.Transport sends a GET again that dies on a reused connection, and so
	// could have two tokens issued.
	base.DisableKeepAlives = true
	return &gate{base, make(chan struct{}, fetches)}
}

// RoundTrip implements http.RoundTripper. A place is given back when the
// answer's body is closed.
func (g *gate) RoundTrip(req *http.Request) (*http.Response, error) {
	if trace := httptrace.ContextClientTrace(req.Context()); trace != nil && trace.GetConn != nil {
		trace.GetConn(req.URL.Host)
	}
	select {
	case g.slots <- struct{}{}:
	case <-req.Context().Done():
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, context.Cause(req.Context())
	}
	leave := sync.OnceFunc(func() { <-g.slots })
	resp, err := g.base.RoundTrip(req)
	if err != nil {
		leave()
		return nil, err
	}
	resp.Body = &gatedBody{resp.Body, leave}
	return resp, nil
}

type gatedBody struct {
	io.ReadCloser
	leave func()
}

func (b *gatedBody) Close() error {
	defer b.leave()
	return b.ReadCloser.Close()
}

// A keeper keeps tokens fresh. It begins with few at a time, so that thousands
// of apps start without a storm of connections.
type keeper struct {
	starting chan struct{} // a place for each token that is being begun with
	running  sync.WaitGroup
}

// patient is how long the start of one token may hold up the next.
const patient = 3 * time.Second

func newKeeper() *keeper { return &keeper{starting: make(chan struct{}, fetches)} }

// keep keeps these fresh, each until its life ends, and begins with no more of
// them when ctx ends. It returns at once.
func (k *keeper) keep(ctx context.Context, all []*kept) {
	k.running.Go(func() {
		for _, one := range all {
			select {
			case k.starting <- struct{}{}:
				k.running.Go(func() { k.run(one) })
			case <-ctx.Done():
				return
			}
		}
	})
}

func (k *keeper) run(one *kept) {
	time.Sleep(rand.N(20 * time.Millisecond))
	first, cancel := context.WithTimeout(one.life, patient)
	_, _ = one.source.Token(first) // its events tell of failures
	cancel()
	<-k.starting
	_ = one.source.Run(one.life) // ends with its life alone
}
