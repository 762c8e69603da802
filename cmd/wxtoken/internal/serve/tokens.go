package serve

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wxtoken/wxtoken"
)

const (
	// patience is how long a request may wait for a token: a little longer than a
	// fetch may take.
	patience = 12 * time.Second

	// largest is the maximum size of a request body, in bytes.
	largest = 4 << 10
)

// A problem is an answer in the shape of the platform's errors.
type problem struct {
	status  int // of HTTP
	code    int // errcode
	message string
	wait    time.Duration // for Retry-After; 0: none
	err     error         // for the log
}

var (
	unknownSecret = &problem{status: http.StatusUnauthorized, code: 40125, message: "the bearer secret is missing or not known to this server"}
	noApp         = &problem{status: http.StatusBadRequest, code: 41002, message: "appid missing"}
	notAllowed    = &problem{status: http.StatusForbidden, code: 40013, message: "invalid appid: it is not among those that this secret may ask for"}
)

// serveToken is GET /token?appid=, and GET /ticket?appid=&type=.
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		sendProblem(w, &problem{status: http.StatusMethodNotAllowed, code: 43001, message: "require GET method"})
		return
	}
	_, a, p := s.admit(w, r, param(r, "appid"))
	if p != nil {
		sendProblem(w, p)
		return
	}
	one, p := a.pick(r.URL.Path == "/ticket", param(r, "type"))
	if p != nil {
		sendProblem(w, p)
		return
	}
	answer(w, r, one)
}

// param returns a parameter of the query like url.Values.Get, without building a map.
func param(r *http.Request, name string) string {
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if strings.Contains(pair, ";") {
			continue
		}
		key, errKey := url.QueryUnescape(key)
		value, errValue := url.QueryUnescape(value)
		if key == name && errKey == nil && errValue == nil {
			return value
		}
	}
	return ""
}

// pick returns the app's access token, or a ticket of a kind.
func (a *app) pick(ticket bool, kind string) (*kept, *problem) {
	if !ticket {
		return a.kept, nil
	}
	one := a.tickets[kind]
	if one == nil {
		return nil, &problem{status: http.StatusBadRequest, code: 40097, message: "invalid args: type must be one of the tickets that this server keeps for the app"}
	}
	return one, nil
}

// serveReject is POST /token/reject, and POST /ticket/reject.
func (s *Server) serveReject(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		sendProblem(w, &problem{status: http.StatusMethodNotAllowed, code: 43002, message: "require POST method"})
		return
	}
	var body struct {
		AppID       string `json:"appid"`
		AccessToken string `json:"access_token"`
		Ticket      string `json:"ticket"`
		Type        string `json:"type"`
	}
	err := readJSON(w, r, &body)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		sendProblem(w, &problem{status: http.StatusRequestEntityTooLarge, code: 45002, message: "the body is over 4 KiB"})
		return
	} else if err != nil {
		sendProblem(w, &problem{status: http.StatusBadRequest, code: 47001, message: `data format error: want {"appid":"…","access_token":"…"}`})
		return
	}
	cl, a, p := s.admit(w, r, body.AppID)
	if p != nil {
		sendProblem(w, p)
		return
	}
	ticket := r.URL.Path == "/ticket/reject"
	one, p := a.pick(ticket, body.Type)
	if p != nil {
		sendProblem(w, p)
		return
	}
	rejected := body.AccessToken
	if ticket {
		rejected = body.Ticket
	}
	if rejected == "" {
		sendProblem(w, &problem{status: http.StatusBadRequest, code: 41001, message: "access_token missing: send the one that was rejected"})
		return
	}
	if p := s.report(w, r, cl, one, rejected); p != nil {
		sendProblem(w, p)
		return
	}
	answer(w, r, one)
}

func readJSON(w http.ResponseWriter, r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, largest))
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more after the JSON")
	}
	return nil
}

// reports tracks the reports that are being handled.
type reports struct {
	mu   sync.Mutex
	open map[string]chan struct{} // by the rejected value; closed when done
}

// report invalidates a token that a client reports as rejected. Of concurrent reports
// of the same value, as from a whole fleet, one is passed on and counts against the
// client's limit.
func (s *Server) report(w http.ResponseWriter, r *http.Request, cl *client, one *kept, rejected string) *problem {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	if current, err := one.source.Token(ctx); err == nil && current.Value != rejected {
		return nil // an old one: nothing to do
	}
	q := &one.reports
	q.mu.Lock()
	done := q.open[rejected]
	if done != nil {
		q.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
		}
		return nil
	}
	limit := s.catalog.Load().config.ReportsPerMinute
	if ok, wait := cl.bucket.take(limit, time.Now()); !ok {
		q.mu.Unlock()
		s.limited.Add(1)
		return &problem{status: http.StatusTooManyRequests, code: 45011, wait: wait,
			message: "too many reports of rejected tokens this minute: the token that you have is the current one"}
	}
	if q.open == nil {
		q.open = map[string]chan struct{}{}
	}
	done = make(chan struct{})
	q.open[rejected] = done
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		delete(q.open, rejected)
		close(done)
	}()
	if err := one.source.Invalidate(ctx, rejected); err != nil {
		noting(w).err = err
	}
	return nil
}

// admit returns the app that the request's client asks for, or a problem: the same
// one for another client's app and for an unknown app.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, appID string) (*client, *app, *problem) {
	all := s.catalog.Load()
	cl := all.client(bearer(r))
	if cl == nil {
		w.Header().Set("WWW-Authenticate", "Bearer")
		s.slow(w, r)
		return nil, nil, unknownSecret
	}
	noting(w).client = cl.Name
	if appID == "" {
		return nil, nil, noApp
	}
	a := all.app(cl, appID)
	noting(w).appID = cut(appID, a != nil)
	if a == nil || cl.Tokens != nil && !*cl.Tokens && !strings.HasPrefix(r.URL.Path, "/proxy/") {
		return nil, nil, notAllowed
	}
	return cl, a, nil
}

// slow delays the answer to a wrong secret.
func (s *Server) slow(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	noting(w).remote = s.wrongSecrets.name(r.RemoteAddr, now)
	if !s.wrongSecrets.wait(r.Context(), r.RemoteAddr, now) {
		w.Header().Set("Connection", "close")
	}
}

// bearer returns the secret in the Authorization header, or "".
func bearer(r *http.Request) string {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return secret
}

// A handedOut is a token that can go to a client.
type handedOut struct {
	value string
	left  int64 // seconds, at least 1
}

// take returns the current token, or why there is none.
func take(ctx context.Context, one *kept) (handedOut, *problem) {
	token, ok := one.source.Peek() // in most cases
	var err error
	if !ok {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		token, err = one.source.Token(ctx)
	}
	left := int64(time.Until(token.ExpiresAt) / time.Second)
	if err == nil && left > 0 { // to many stores 0 means "never expires"
		return handedOut{token.Value, left}, nil
	}
	if err == nil {
		err = errors.New("the token expires this second, and there is no new one yet")
	}
	p, _ := noToken(err)
	return handedOut{}, p
}

// noToken returns the answer to send when a Source returned no token. It also reports
// whether err says why.
func noToken(err error) (p *problem, known bool) {
	p = &problem{status: http.StatusServiceUnavailable, code: -1, message: "system error: no token yet; try again", err: err}
	var cooling *wxtoken.CooldownError
	if errors.As(err, &cooling) {
		p.wait = max(time.Until(cooling.Until), time.Second)
	}
	var denied *wxtoken.APIError
	switch {
	case errors.As(err, &denied):
		p.code, p.message = denied.Code, denied.Message
	case errors.Is(err, wxtoken.ErrCacheUnavailable):
		p.message = "system error: the token server's store does not answer"
	case cooling == nil:
		return p, false
	}
	return p, true
}

// answer sends the current token, or why there is none.
func answer(w http.ResponseWriter, r *http.Request, one *kept) {
	token, p := take(r.Context(), one)
	if p != nil {
		sendProblem(w, p)
		return
	}
	field := "access_token"
	if strings.HasPrefix(r.URL.Path, "/ticket") {
		field = "ticket"
	}
	sendToken(w, field, token, "")
}

// sendProblem answers in the shape of the platform's errors.
func sendProblem(w http.ResponseWriter, p *problem) {
	if p.wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((p.wait+time.Second-1)/time.Second)))
	}
	n := noting(w)
	n.err, n.code = p.err, p.code
	send(w, p.status, platformError{p.code, p.message})
}

type platformError struct {
	Code    int    `json:"errcode"`
	Message string `json:"errmsg"`
}

func send(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil { // strings and numbers: cannot fail
		status, text = http.StatusInternalServerError, []byte("{}")
	}
	write(w, status, text)
}

// sendToken sends a token under a name, after before. It does not use package json,
// since most requests end here.
func sendToken(w http.ResponseWriter, field string, token handedOut, before string) {
	text := append(noting(w).text[:0], '{')
	text = append(text, before...)
	text = append(text, '"')
	text = append(text, field...)
	text = append(text, `":`...)
	if strings.ContainsAny(token.value, `"\<>&`) { // the platform's tokens contain none of these
		value, _ := json.Marshal(token.value) // of a string: cannot fail
		text = append(text, value...)
	} else {
		text = append(append(append(text, '"'), token.value...), '"')
	}
	text = append(text, `,"expires_in":`...)
	text = strconv.AppendInt(text, token.left, 10)
	write(w, http.StatusOK, append(text, '}'))
}

func write(w http.ResponseWriter, status int, text []byte) {
	h := w.Header()
	h["Content-Type"] = jsonType
	h["Cache-Control"] = noStore
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // fails only if the client has gone
}

var jsonType, noStore = []string{"application/json; charset=utf-8"}, []string{"no-store"}
