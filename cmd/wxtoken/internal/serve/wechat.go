package serve

import (
	"crypto/sha256"
	"encoding/json"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/config"
)

// These endpoints have the paths, parameters and answers of the platform's: an SDK in
// any language uses the server when its host is changed. A client's secret takes the
// place of the AppSecret. As on the platform, errors have HTTP status 200.

// A credential holds the parameters of such a request.
type credential struct {
	GrantType    string `json:"grant_type"`
	AppID        string `json:"appid"`
	Secret       string `json:"secret"`
	ForceRefresh bool   `json:"force_refresh"`
}

// servePlain is GET /cgi-bin/token.
func (s *Server) servePlain(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	s.serveCredential(w, r, credential{q.Get("grant_type"), q.Get("appid"), q.Get("secret"), false})
}

// serveStable is POST /cgi-bin/stable_token. force_refresh reports the current
// token as rejected.
func (s *Server) serveStable(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		sayError(w, 43002, "require POST method")
		return
	}
	var c credential
	if json.NewDecoder(http.MaxBytesReader(w, r.Body, largest)).Decode(&c) != nil {
		c = credential{} // the platform reads it as a request without an appid
	}
	s.serveCredential(w, r, c)
}

func (s *Server) serveCredential(w http.ResponseWriter, r *http.Request, c credential) {
	switch {
	case c.AppID == "":
		sayError(w, 41002, "appid missing")
		return
	case c.GrantType != "client_credential":
		sayError(w, 40002, "invalid grant_type")
		return
	case c.Secret == "":
		sayError(w, 41004, "appsecret missing")
		return
	}
	all := s.catalog.Load()
	cl := all.client(c.Secret)
	a := s.allowed(w, r, all, cl, c.AppID)
	if a == nil {
		return
	}
	if c.ForceRefresh {
		if current, p := take(r.Context(), a.kept); p == nil {
			if p := s.report(w, r, cl, a.kept, current.value); p != nil {
				sayError(w, p.code, p.message)
				return
			}
		}
	}
	s.say(w, r, a)
}

// allowed returns the app if the client may ask for it. Otherwise it answers, and
// returns nil.
func (s *Server) allowed(w http.ResponseWriter, r *http.Request, all *catalog, cl *client, appID string) *app {
	if cl == nil {
		s.slow(w, r)
		sayError(w, 40125, "invalid appsecret: it is not known to this token server")
		return nil
	}
	a := all.app(cl, appID)
	n := noting(w)
	n.client, n.appID = cl.Name, cut(appID, a != nil)
	if a == nil || cl.Tokens != nil && !*cl.Tokens {
		sayError(w, notAllowed.code, notAllowed.message)
		return nil
	}
	return a
}

// say answers as the platform's token endpoints do.
func (s *Server) say(w http.ResponseWriter, r *http.Request, a *app) {
	token, p := take(r.Context(), a.kept)
	if p != nil {
		noting(w).err = p.err
		sayError(w, p.code, p.message)
		return
	}
	s.issued.add(token, a.id)
	before := ""
	if r.URL.Path == "/cgi-bin/gettoken" {
		before = success
	}
	sendToken(w, "access_token", token, before)
}

// success is what precedes the token in the answers of WeCom, and for tickets.
const success = `"errcode":0,"errmsg":"ok",`

// serveWeCom is GET /cgi-bin/gettoken. corpid is the corporation's, if the client may
// ask for only one of its agents, or the id of an agent.
func (s *Server) serveWeCom(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	corp, secret := q.Get("corpid"), q.Get("corpsecret")
	switch {
	case corp == "":
		sayError(w, 41002, "corpid missing")
		return
	case secret == "":
		sayError(w, 41004, "corpsecret missing")
		return
	}
	all := s.catalog.Load()
	cl := all.client(secret)
	if all.apps[corp] == nil && cl != nil {
		var agents []string
		for _, one := range all.order {
			if one.spec.Type == config.WeCom && one.spec.AppID == corp && all.app(cl, one.id) != nil {
				agents = append(agents, one.id)
			}
		}
		if len(agents) > 1 {
			n := noting(w)
			n.client, n.appID = cl.Name, cut(corp, true)
			sayError(w, 40013, "invalid corpid: this secret may ask for several of its agents; send the id of one, as the token server's configuration has it")
			return
		}
		if len(agents) == 1 {
			corp = agents[0]
		}
	}
	if a := s.allowed(w, r, all, cl, corp); a != nil {
		s.say(w, r, a)
	}
}

// serveTicket is GET /cgi-bin/ticket/getticket, and WeCom's two. The app is that of
// the request's access_token.
func (s *Server) serveTicket(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	token, kind := q.Get("access_token"), q.Get("type")
	if token == "" {
		sayError(w, 41001, "access_token missing")
		return
	}
	all := s.catalog.Load()
	a := all.apps[s.issued.of(token)]
	for i := 0; a == nil && i < len(all.order); i++ { // another server may have handed it out
		if current, ok := all.order[i].source.Peek(); ok && current.Value == token {
			a = all.order[i]
		}
	}
	if a == nil {
		s.slow(w, r)
		sayError(w, 40001, "invalid credential, access_token is invalid or not latest")
		return
	}
	noting(w).appID = a.id
	if r.URL.Path == "/cgi-bin/get_jsapi_ticket" {
		kind = "jsapi"
	}
	one := a.tickets[kind]
	if one == nil {
		sayError(w, 40097, "invalid args: the token server does not keep this type of ticket for the app")
		return
	}
	ticket, p := take(r.Context(), one)
	if p != nil {
		noting(w).err = p.err
		sayError(w, p.code, p.message)
		return
	}
	sendToken(w, "ticket", ticket, success)
}

func sayError(w http.ResponseWriter, code int, message string) {
	noting(w).code = code
	send(w, http.StatusOK, platformError{code, message})
}

// issued remembers the apps of the tokens that these endpoints handed out.
type issued struct {
	mu   sync.Mutex
	apps map[[sha256.Size]byte]owner
}

type owner struct {
	app  string
	ends time.Time
}

// remembered is how many tokens are remembered at a time.
const remembered = 50_000

func (i *issued) add(token handedOut, app string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := time.Now()
	if i.apps == nil {
		i.apps = map[[sha256.Size]byte]owner{}
	}
	if len(i.apps) >= remembered {
		maps.DeleteFunc(i.apps, func(_ [sha256.Size]byte, one owner) bool { return one.ends.Before(now) })
	}
	if len(i.apps) >= remembered {
		clear(i.apps) // current tokens are found without it
	}
	i.apps[sha256.Sum256([]byte(token.value))] = owner{app, now.Add(time.Duration(token.left) * time.Second)}
}

// of returns the app of a token that has not expired, or "".
func (i *issued) of(token string) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	one := i.apps[sha256.Sum256([]byte(token))]
	if one.ends.Before(time.Now()) {
		return ""
	}
	return one.app
}
