package serve

import (
	"container/list"
	"context"
	"net"
	"net/http"
	"sync"
)

// conns bounds the connections of clients, so that descriptors are left for the
// store and the platform. When there are too many, one that has no request under
// way is closed, the one that has had none for longest; if all have, the new one
// is. So neither idle connections nor half a request lock anybody out.
type conns struct {
	most int

	mu    sync.Mutex
	all   map[net.Conn]*connection
	idle  *list.List // of the net.Conn without a request, the longest idle first
	ended uint64
}

type connection struct {
	requests int           // under way; HTTP/2 can have several
	place    *list.Element // in idle; nil while there are requests
}

func newConns(most int) *conns {
	return &conns{most: most, all: map[net.Conn]*connection{}, idle: list.New()}
}

// connOf is the key of a request's connection in its context.
type connOf struct{}

// attach makes a server tell of its connections.
func (c *conns) attach(srv *http.Server) {
	srv.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, connOf{}, conn)
	}
	srv.ConnState = func(conn net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			if victim := c.add(conn); victim != nil {
				_ = victim.Close() // the goroutine that serves it notices
			}
		case http.StateClosed, http.StateHijacked:
			c.remove(conn)
		}
	}
	next := srv.Handler
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _ := r.Context().Value(connOf{}).(net.Conn)
		c.work(conn, +1)
		defer c.work(conn, -1)
		next.ServeHTTP(w, r)
	})
}

// add takes a connection in and gives the one to close, if there are too many.
func (c *conns) add(conn net.Conn) (victim net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) >= c.most {
		c.ended++
		first := c.idle.Front()
		if first == nil {
			return conn
		}
		victim = first.Value.(net.Conn)
		c.idle.Remove(first)
		delete(c.all, victim)
	}
	c.all[conn] = &connection{place: c.idle.PushBack(conn)}
	return victim
}

func (c *conns) remove(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one := c.all[conn]; one != nil && one.place != nil {
		c.idle.Remove(one.place)
	}
	delete(c.all, conn)
}

// work notes that a request of conn began, or ended.
func (c *conns) work(conn net.Conn, change int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one := c.all[conn]
	if one == nil {
		return // it is being closed
	}
	one.requests += change
	switch {
	case one.requests > 0 && one.place != nil:
		c.idle.Remove(one.place)
		one.place = nil
	case one.requests == 0 && one.place == nil:
		one.place = c.idle.PushBack(conn)
	}
}

func (c *conns) count() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return float64(len(c.all))
}

func (c *conns) closed() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return float64(c.ended)
}
