package serve

import (
	"container/list"
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// conns limits the connections of clients, in number and in time.
//
// It leaves descriptors for the store and the platform: when there are too many
// connections, it closes the one that has been without a request for longest, or the
// new one if all have a request. So neither idle connections nor incomplete requests
// lock out other clients.
//
// It replaces the timeouts of an http.Server, which set a deadline several times in
// each request: that takes longer than the request.
type conns struct {
	most int

	mu    sync.Mutex
	now   int64 // in seconds since the start
	all   map[net.Conn]*list.Element
	order *list.List // of *connection: those without a request are in the order in which they became idle
	ended uint64
}

type connection struct {
	net.Conn
	requests int   // in flight; HTTP/2 can have several
	lasting  int   // those without a time limit
	since    int64 // when the first of them started or, if there is none, when the last one ended
}

// Seconds after which a connection is closed: one without a request, and one with a
// request that is not answered, or whose answer is not read.
const idleFor, busyFor = 120, int64(patience/time.Second) + 10

func newConns(most int) *conns {
	return &conns{most: most, all: map[net.Conn]*list.Element{}, order: list.New()}
}

// connOf is the key of a request's connection in its context.
type connOf struct{}

// attach makes a server report its connections.
func (c *conns) attach(srv *http.Server) {
	srv.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, connOf{}, c.add(conn))
	}
	srv.ConnState = func(conn net.Conn, state http.ConnState) {
		if state == http.StateClosed || state == http.StateHijacked {
			c.remove(conn)
		}
	}
	next := srv.Handler
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		place, _ := r.Context().Value(connOf{}).(*list.Element)
		c.work(place, +1)
		defer c.work(place, -1)
		next.ServeHTTP(w, r)
	})
}

// add adds a connection, and closes one if there are too many.
func (c *conns) add(conn net.Conn) *list.Element {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.all) >= c.most {
		c.ended++
		victim := c.order.Front()
		for victim != nil && victim.Value.(*connection).requests > 0 {
			victim = victim.Next()
		}
		if victim == nil {
			_ = conn.Close() // the goroutine that is to serve it notices
			return nil
		}
		idle := victim.Value.(*connection).Conn
		_ = idle.Close()
		c.order.Remove(victim)
		delete(c.all, idle)
	}
	place := c.order.PushBack(&connection{Conn: conn, since: c.now})
	c.all[conn] = place
	return place
}

func (c *conns) remove(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if place := c.all[conn]; place != nil {
		c.order.Remove(place)
		delete(c.all, conn)
	}
}

// work records that a request of a connection started or ended. A nil place is a
// connection that is being closed.
func (c *conns) work(place *list.Element, change int) {
	if place == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	one := place.Value.(*connection)
	one.requests += change
	if one.requests == 0 {
		c.order.MoveToBack(place) // which does nothing if it has been removed
	}
	if one.requests == 0 || one.requests == 1 && change > 0 {
		one.since = c.now
	}
}

// lasts removes the time limit of ctx's request, until done is called.
func (c *conns) lasts(ctx context.Context) (done func()) {
	place, _ := ctx.Value(connOf{}).(*list.Element)
	if place == nil {
		return func() {}
	}
	change := func(by int) {
		c.mu.Lock()
		defer c.mu.Unlock()
		one := place.Value.(*connection)
		one.lasting += by
		one.since = c.now
	}
	change(+1)
	return func() { change(-1) }
}

// run closes connections that take too long, until ctx ends.
func (c *conns) run(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			for _, late := range c.late() {
				_ = late.Close() // the goroutine that serves it notices
			}
		case <-ctx.Done():
			return
		}
	}
}

// late advances the clock by a second, and returns the connections that take too
// long.
func (c *conns) late() (all []net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now++
	if c.now%5 > 0 { // to look at all of them takes a while
		return nil
	}
	for place := c.order.Front(); place != nil; place = place.Next() {
		one := place.Value.(*connection)
		most := int64(idleFor)
		if one.requests > 0 {
			most = busyFor
		}
		if one.lasting == 0 && c.now-one.since > most {
			all = append(all, one.Conn)
		}
	}
	return all
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
