package servers

import (
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// FaultProxy passes TCP bytes between clients and a server, and disturbs them as a
// bad network does. Faults last until Heal. It knows no protocol: what the server
// sends in one piece counts as one reply, which is correct for clients that wait for
// each answer and for answers under 64 KB. The answer to a client's greeting
// (go-redis sends HELLO on each new connection) is a reply too.
type FaultProxy struct {
	target   string
	listener net.Listener
	running  sync.WaitGroup

	mu      sync.Mutex
	pairs   map[*pair]struct{}
	cut     bool
	hole    chan struct{} // nil, or closed when the black hole ends
	delay   time.Duration
	drop    func() bool // asked for each reply; nil: keep all
	dropped int
}

// pair is a client's connection and the connection to the server that serves it.
type pair struct {
	client, server net.Conn
	once           sync.Once
	gone           chan struct{}
}

// Proxy starts a proxy without faults in front of target, a "host:port".
func Proxy(tb TB, target string) *FaultProxy {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("servers: proxy: %v", err)
	}
	p := &FaultProxy{target: target, listener: l, pairs: make(map[*pair]struct{})}
	p.running.Go(p.accept)
	tb.Cleanup(p.Close)
	return p
}

// Addr returns the address for clients.
func (p *FaultProxy) Addr() string { return p.listener.Addr().String() }

// Cut closes all connections and each new one as soon as it is made.
func (p *FaultProxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	p.closePairs()
}

// BlackHole keeps connections open and passes no bytes. What is sent meanwhile
// arrives after Heal, as it does when a network recovers before TCP gives up: a
// request can still take effect long after its sender has given up.
func (p *FaultProxy) BlackHole() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hole == nil {
		p.hole = make(chan struct{})
	}
}

// Delay delays every reply by d.
func (p *FaultProxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// DropReplies loses the next n replies: the server has done the work, and the
// client's connection is closed.
func (p *FaultProxy) DropReplies(n int) {
	p.dropWhen(func() bool {
		n--
		return n >= 0
	})
}

// DropRepliesRandomly loses each reply with the given probability, in a sequence set
// by seed.
func (p *FaultProxy) DropRepliesRandomly(probability float64, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	p.dropWhen(func() bool { return rng.Float64() < probability })
}

func (p *FaultProxy) dropWhen(drop func() bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop = drop
}

// Dropped returns the number of replies lost so far.
func (p *FaultProxy) Dropped() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dropped
}

// Heal ends every fault.
func (p *FaultProxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut, p.delay, p.drop = false, 0, nil
	if p.hole != nil {
		close(p.hole)
		p.hole = nil
	}
}

// Close ends the proxy and its connections.
func (p *FaultProxy) Close() {
	_ = p.listener.Close()
	p.Cut() // and stay cut: a connection accepted at this moment is closed
	p.running.Wait()
}

func (p *FaultProxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(client) })
	}
}

func (p *FaultProxy) serve(client net.Conn) {
	server, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil {
		_ = client.Close()
		return
	}
	c := &pair{client: client, server: server, gone: make(chan struct{})}
	defer c.close()

	p.mu.Lock()
	if p.cut {
		p.mu.Unlock()
		return
	}
	p.pairs[c] = struct{}{}
	p.mu.Unlock()

	p.running.Go(func() { c.pass(client, server, p.admitRequest) })
	c.pass(server, client, p.admitReply)

	p.mu.Lock()
	delete(p.pairs, c)
	p.mu.Unlock()
}

// pass copies from one side to the other what admit lets through, until either side
// ends.
func (c *pair) pass(from, to net.Conn, admit func(*pair) bool) {
	defer c.close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if !admit(c) {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *FaultProxy) admitRequest(c *pair) bool {
	return p.leaveHole(c)
}

func (p *FaultProxy) admitReply(c *pair) bool {
	p.mu.Lock()
	delay, drop := p.delay, p.drop != nil && p.drop()
	if drop {
		p.dropped++
	}
	p.mu.Unlock()
	if drop {
		return false
	}
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-c.gone:
			return false
		}
	}
	return p.leaveHole(c)
}

// leaveHole waits for the end of a black hole and reports whether the connections are
// still open.
func (p *FaultProxy) leaveHole(c *pair) bool {
	for {
		p.mu.Lock()
		hole := p.hole
		p.mu.Unlock()
		if hole == nil {
			return true
		}
		select {
		case <-hole:
		case <-c.gone:
			return false
		}
	}
}

// closePairs resets all connections; p.mu is held.
func (p *FaultProxy) closePairs() {
	for c := range p.pairs {
		c.close()
	}
}

func (c *pair) close() {
	c.once.Do(func() {
		close(c.gone)
		_ = c.client.Close()
		_ = c.server.Close()
	})
}
