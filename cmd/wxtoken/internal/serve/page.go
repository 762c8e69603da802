package serve

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/record"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/store"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS []byte

var pageTemplate = template.Must(template.New("page").Parse(pageHTML))

const (
	shown      = 100             // apps on the page
	readers    = 16              // records that are read at a time
	fastEnough = 2 * time.Second // for the store to answer the page
)

// adminHandler serves the operators of the server: the page, the metrics and the
// probes.
func (s *Server) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.servePage)
	mux.HandleFunc("GET /page.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		_, _ = w.Write(pageCSS)
	})
	mux.HandleFunc("GET /healthz", serveHealth)
	mux.HandleFunc("GET /readyz", s.serveReady)
	mux.HandleFunc("GET /metrics", s.serveMetrics)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, socket := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr); !socket && !directly(r.Host) {
			http.Error(w, "use an IP address or localhost: a domain name could belong to an attacker and point here", http.StatusForbidden)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		mux.ServeHTTP(w, r)
	})
}

// directly reports whether a Host header has no domain name, which a web page could
// have made point to this machine.
func directly(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	name = strings.Trim(name, "[]")
	return strings.EqualFold(name, "localhost") || net.ParseIP(name) != nil
}

// A page is what page.html shows.
type page struct {
	L                             string // language
	Title, Updates, Search, Query string
	Draining                      string
	Summary                       []fact
	Apps                          []card
	More, Nothing                 string
}

// A fact is a name and a text.
type fact struct {
	Name, Text string
	Bad        bool
}

// Long reports whether the text needs the full width.
func (f fact) Long() bool { return len(f.Text) > 60 }

// plain formats an error for readers of wxtoken's page.
func plain(err error) string { return strings.TrimPrefix(err.Error(), "wxtoken: ") }

// A card is one token.
type card struct {
	Name, State string
	Level       string // ok, warn or bad: the style
	Facts       []fact
}

func (s *Server) servePage(w http.ResponseWriter, r *http.Request) {
	l := preferred(r.Header.Get("Accept-Language"))
	query := cut(strings.TrimSpace(r.URL.Query().Get("q")), false)
	now := time.Now()
	all := s.catalog.Load().all()
	var found []*kept
	for _, k := range all {
		if strings.Contains(strings.ToLower(k.label), strings.ToLower(query)) {
			found = append(found, k)
		}
	}
	// Tokens that are missing come first.
	troubled := func(k *kept) int {
		if k.ready() {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(found, func(a, b *kept) int { return troubled(a) - troubled(b) })
	p := page{L: l.code(), Title: l.say("title"), Updates: l.say("updates"), Search: l.say("search"), Query: query}
	if len(found) > shown {
		p.More = l.say("more", len(found)-shown)
		found = found[:shown]
	} else if len(found) == 0 {
		p.Nothing = l.say("nothing")
	}
	if s.draining.Load() {
		p.Draining = l.say("draining")
	}
	readings, health := s.read(r.Context(), found)
	for i, k := range found {
		p.Apps = append(p.Apps, describe(l, k, readings[i], now))
	}
	slices.SortStableFunc(p.Apps, func(a, b card) int { return rank(a) - rank(b) })
	ready, bad := 0, 0
	for _, k := range all {
		ready += troubled(k)
	}
	for _, c := range p.Apps {
		if c.Level != "ok" {
			bad++
		}
	}
	p.Summary = []fact{
		{l.say("apps"), fmt.Sprintf("%d, %d %s", len(all), ready, l.say("with token")), ready < len(all)},
		{l.say("trouble"), fmt.Sprint(bad), bad > 0},
		health(l),
		{l.say("since"), l.duration(now.Sub(s.started)), false},
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := pageTemplate.Execute(w, p); err != nil && r.Context().Err() == nil {
		s.log.Warn("the page could not be written", "error", err.Error())
	}
}

func rank(c card) int { return slices.Index([]string{"bad", "warn", "ok"}, c.Level) }

// read reads the records of these tokens, and reports how the store answered.
func (s *Server) read(ctx context.Context, all []*kept) ([]record.Reading, func(language) fact) {
	ctx, cancel := context.WithTimeout(ctx, fastEnough)
	defer cancel()
	readings := make([]record.Reading, len(all))
	next := make(chan int)
	var busy sync.WaitGroup
	var slowest time.Duration
	var failure error
	var mu sync.Mutex
	for range min(readers, len(all)) {
		busy.Go(func() {
			for i := range next {
				start := time.Now()
				readings[i] = record.Read(ctx, s.store, all[i].key, s.keys)
				mu.Lock()
				slowest = max(slowest, time.Since(start))
				if readings[i].State(start) == record.Unknown {
					failure = readings[i].Err
				}
				mu.Unlock()
			}
		})
	}
	for i := range all {
		next <- i
	}
	close(next)
	busy.Wait()
	return readings, func(l language) fact {
		f := fact{Name: l.say("store"), Text: s.store.Name}
		switch {
		case failure != nil:
			f.Text, f.Bad = f.Text+": "+plain(failure), true
		case s.store.Kind == store.Memory:
			f.Text = l.say("memory")
		case len(all) > 0:
			f.Text += " " + l.say("answers", slowest.Round(100*time.Microsecond))
		}
		return f
	}
}

// describe collects what an operator needs to know about a token.
func describe(l language, k *kept, r record.Reading, now time.Time) card {
	h := k.watch.snapshot()
	c := card{Name: k.label, Level: "ok"}
	c.State, c.Level = state(l, r, h, now)
	ends := h.End
	if r.Err == nil && r.Raw != nil && r.Usable(now) {
		ends = r.Expires()
	}
	if ends.After(now) {
		c.Facts = append(c.Facts, fact{Name: l.say("left"), Text: l.duration(ends.Sub(now))})
	}
	if !h.Fetched.IsZero() {
		issued, by := h.Fetched, "by others"
		if h.Ours {
			by = "by us"
		} else if r.Err == nil && r.Record.IssuedAt > 0 {
			issued = r.Issued()
		}
		c.Facts = append(c.Facts, fact{Name: l.say("last fetch"), Text: l.say(by, l.duration(now.Sub(issued)))})
	}
	if until, why := cooling(k, r, now); why != nil {
		c.Facts = append(c.Facts, fact{l.say("cooldown"), l.duration(until.Sub(now)), true}, fact{l.say("reason"), plain(why), true})
	} else if h.Why != nil {
		c.Facts = append(c.Facts, fact{l.say("fetch fails"), l.say("ago", l.duration(now.Sub(h.Failed)), plain(h.Why)), true})
	}
	if early := r.Record.Early; r.Err == nil && early > 1 {
		c.Facts = append(c.Facts, fact{l.say("reason"), l.say("early", early), true})
	}
	for _, e := range []struct {
		name string
		kind wxtoken.EventKind
	}{{"conflicts", wxtoken.EventConflict}, {"rejections", wxtoken.EventReject}, {"cache", wxtoken.EventCacheError}} {
		f := fact{Name: l.say(e.name), Text: l.say("none")}
		if n := h.count(e.kind); n > 0 {
			recent := now.Sub(h.last(e.kind))
			f.Text, f.Bad = l.say("times", n, l.duration(recent)), recent < time.Hour && e.kind != wxtoken.EventReject
			if e.kind == wxtoken.EventCacheError && h.CacheErr != nil && recent < time.Hour {
				f.Text += ": " + plain(h.CacheErr)
			}
		}
		c.Facts = append(c.Facts, f)
	}
	if c.Level == "ok" && slices.ContainsFunc(c.Facts, func(f fact) bool { return f.Bad }) {
		c.Level = "warn"
	}
	return c
}

// cooling returns until when the platform is not asked, and why: because of this
// process's own wait, or of a shared one.
func cooling(k *kept, r record.Reading, now time.Time) (time.Time, error) {
	if !k.ready() {
		ended, cancel := context.WithCancel(context.Background())
		cancel() // returns what is known, without waiting
		_, err := k.source.Token(ended)
		var cool *wxtoken.CooldownError
		if errors.As(err, &cool) && cool.Until.After(now) {
			return cool.Until, cool.Err
		}
	}
	if r.Cooling(now) {
		return time.UnixMilli(r.Record.Cooldown.Until), r.Cause()
	}
	return time.Time{}, nil
}

// state describes a token's state in words, and which style that is.
func state(l language, r record.Reading, h history, now time.Time) (text, level string) {
	switch r.State(now) {
	case record.Good:
		if r.Expires().Sub(now) < 3*time.Minute && r.Expires().Sub(r.Issued()) > 20*time.Minute {
			return l.say("ending"), "warn"
		}
		return l.say("good"), "ok"
	case record.Replacing:
		return l.say("replacing"), "ok"
	case record.Doubtful:
		return l.say("doubtful"), "ok"
	case record.Rejected:
		return l.say("rejected"), "bad"
	case record.Expired:
		return l.say("expired"), "bad"
	case record.Unreadable:
		return l.say("unreadable") + ": " + plain(r.Err), "bad"
	case record.Unknown:
		if h.End.After(now) {
			return l.say("on its copy"), "warn"
		}
		return l.say("no store"), "bad"
	}
	return l.say("empty"), "bad"
}
