package openplatform

import (
	"context"
	"sync"
	"time"

	"github.com/wxtoken/wxtoken/internal/bridge"
)

// lookEvery is how often a process that lacks something checks whether another
// process has received it, while callers ask for a token.
const lookEvery = 2 * time.Second

// A gate is what a process knows about a credential besides its token. The zero gate
// is open.
type gate struct {
	mu       sync.Mutex
	revision bridge.Revision
	closed   error     // why no token is handed out
	until    time.Time // when closed ends in any case
	lacking  bool      // the last fetch lacked something that another process may receive
	looked   time.Time
	looking  bool
}

// opened records that the credential is available again.
func (g *gate) opened() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.revision++
	g.closed, g.lacking = nil, false
}

// changed records that the cause of this process's last failure may be gone.
func (g *gate) changed() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.revision++
}

// lacks records that a fetch failed for lack of something that may arrive at any
// time.
func (g *gate) lacks() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lacking, g.looked = true, time.Now()
}

// has records that a fetch lacked nothing.
func (g *gate) has() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lacking = false
}

// close records that no token is to be handed out before until, unless the gate is
// opened.
func (g *gate) close(why error, until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed, g.until, g.looked = why, until, time.Now()
}

// state implements bridge.Gate. While something is lacking, it calls look now and
// then, which reports whether it has arrived.
func (g *gate) state(look func(context.Context) bool) (bridge.Revision, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if g.closed != nil && !now.Before(g.until) {
		g.closed = nil
		g.revision++
	}
	if (g.lacking || g.closed != nil) && !g.looking && now.Sub(g.looked) >= lookEvery {
		g.looking = true
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), cacheCall)
			defer cancel()
			found := look(ctx)
			if found {
				g.opened()
			}
			g.mu.Lock()
			defer g.mu.Unlock()
			g.looking, g.looked = false, time.Now()
		}()
	}
	return g.revision, g.closed
}
