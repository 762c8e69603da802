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

// fetches is how many token requests are in flight at most, over all apps.
const fetches = 64

// A gate is an http.RoundTripper that lets few requests through at a time. A waiting
// request has asked for a connection without getting one, so a caller that gives up
// knows that nothing was sent.
type gate struct {
	base  http.RoundTripper
	slots chan struct{}
}

func newGate() *gate {
	base := http.DefaultTransport.(*http.Transport).Clone()
	// http.Transport resends a GET that fails on a reused connection, which could
	// issue two tokens.
	base.DisableKeepAlives = true
	return &gate{base, make(chan struct{}, fetches)}
}

// RoundTrip implements http.RoundTripper. A place is released when the response body
// is closed.
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

// A keeper keeps tokens fresh. It starts few at a time, so that thousands of apps
// start without a burst of connections.
type keeper struct {
	starting chan struct{} // one place for each token being started
	running  sync.WaitGroup
}

// patient is how long the start of one token may delay the next.
const patient = 3 * time.Second

func newKeeper() *keeper { return &keeper{starting: make(chan struct{}, fetches)} }

// keep keeps these tokens fresh, each until its life ends, and starts no more of them
// once ctx ends. It returns at once.
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
	_, _ = one.source.Token(first) // its events report failures
	cancel()
	<-k.starting
	_ = one.source.Run(one.life) // ends only with its life
}
