package openplatform

import (
	"context"
	"sync"
	"time"

	"github.com/wxtoken/wxtoken/internal/bridge"
)

// lookEvery is how often a process that lacks something looks whether another
// process has been given it, while it is asked for a token.
const lookEvery = 2 * time.Second

// A gate is what a process knows of a credential apart from its token. The zero
// gate is open.
type gate struct {
	mu       sync.Mutex
	revision bridge.Revision
	closed   error     // why no token is handed out
	until    time.Time // when closed is over in any case
	lacking  bool      // the last fetch lacked what another process may be given
	looked   time.Time
	looking  bool
}

// opened says that the credential can be had again.
func (g *gate) opened() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.revision++
	g.closed, g.lacking = nil, false
}

// changed says that a failure of this process has lost its reason.
func (g *gate) changed() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.revision++
}

// lacks says that a fetch failed for the want of what may come at any time.
func (g *gate) lacks() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lacking, g.looked = true, time.Now()
}

// has says that a fetch lacked nothing.
func (g *gate) has() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lacking = false
}

// close says that no token is to be handed out before until, unless the gate is
// opened.
func (g *gate) close(why error, until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed, g.until, g.looked = why, until, time.Now()
}

// state is what bridge.Gate asks for. Where something is lacking it has look
// called now and then, which reports whether it has come.
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
