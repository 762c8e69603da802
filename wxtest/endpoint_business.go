package wxtest

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
)

// Handle adds a business endpoint: h is called after the access_token in the query
// has been checked, and may answer anything. It replaces a built-in endpoint of the
// same path, but not a token endpoint.
//
// Built in are /cgi-bin/get_api_domain_ip, /cgi-bin/message/custom/send (a JSON POST,
// returned as "echo"), /cgi-bin/media/upload (multipart, field "media"),
// /cgi-bin/media/get (binary, by media_id), /cgi-bin/ticket/getticket and WeCom's
// /cgi-bin/get_jsapi_ticket and /cgi-bin/ticket/get. [WithAnyPath] adds all others.
func (p *Platform) Handle(path string, h http.Handler) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.business[path] = func(w http.ResponseWriter, r *http.Request, _ *token) {
		p.count(r.URL.Path, 0)
		h.ServeHTTP(w, r)
	}
}

// A businessHandler serves a call whose token is valid.
type businessHandler func(http.ResponseWriter, *http.Request, *token)

// serve routes a request that no fault has hit.
func (p *Platform) serve(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case TokenPath, QQPath:
		p.serveToken(w, r)
	case StablePath:
		p.serveStable(w, r)
	case CorpPath:
		p.serveCorp(w, r)
	case StartPushPath, ComponentPath, QueryAuthPath, AuthorizerPath, AuthorizerListPath:
		p.serveComponent(w, r)
	default:
		p.serveBusiness(w, r)
	}
}

func (p *Platform) serveBusiness(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	t, code := p.verdict(r.URL.Query().Get("access_token"))
	serve := p.business[r.URL.Path]
	p.mu.Unlock()
	switch {
	case code != 0:
		p.answerCode(w, r, code)
	case serve == nil && p.anyPath:
		p.ok(w, r, map[string]any{"errcode": 0, "errmsg": "ok"})
	case serve == nil:
		p.answerCode(w, r, 40066)
	default:
		serve(w, r, t)
	}
}

func (p *Platform) serveDomainIP(w http.ResponseWriter, r *http.Request, _ *token) {
	p.ok(w, r, map[string]any{"ip_list": []string{"101.226.233.128", "58.246.220.31"}})
}

func (p *Platform) serveSend(w http.ResponseWriter, r *http.Request, _ *token) {
	if r.Method != http.MethodPost {
		p.answerCode(w, r, 43002)
		return
	}
	var sent json.RawMessage
	if json.NewDecoder(r.Body).Decode(&sent) != nil {
		p.answerCode(w, r, 47001)
		return
	}
	p.ok(w, r, map[string]any{"errcode": 0, "errmsg": "ok", "echo": sent})
}

// A media is an uploaded file.
type media struct {
	name string
	data []byte
}

func (p *Platform) serveUpload(w http.ResponseWriter, r *http.Request, _ *token) {
	if r.Method != http.MethodPost {
		p.answerCode(w, r, 43002)
		return
	}
	m, err := readMedia(r)
	if err != nil {
		p.answerCode(w, r, 41005)
		return
	}
	id := randomString(64)
	p.mu.Lock()
	p.media[id] = m
	p.mu.Unlock()
	p.ok(w, r, map[string]any{"type": r.URL.Query().Get("type"), "media_id": id, "created_at": time.Now().Unix()})
}

func readMedia(r *http.Request) (media, error) {
	parts, err := r.MultipartReader()
	if err != nil {
		return media{}, err
	}
	for {
		part, err := parts.NextPart()
		if err != nil {
			return media{}, err
		}
		if part.FormName() == "media" {
			data, err := io.ReadAll(part)
			if len(data) == 0 {
				err = errors.Join(err, io.ErrUnexpectedEOF)
			}
			return media{part.FileName(), data}, err
		}
	}
}

func (p *Platform) serveMedia(w http.ResponseWriter, r *http.Request, _ *token) {
	p.mu.Lock()
	m, found := p.media[r.URL.Query().Get("media_id")]
	p.mu.Unlock()
	if !found {
		p.answerCode(w, r, 40007)
		return
	}
	p.count(r.URL.Path, 0)
	w.Header().Set("Content-Type", http.DetectContentType(m.data))
	w.Header().Set("Content-Disposition", "attachment; filename="+strconv.Quote(m.name))
	w.Header().Set("Content-Length", strconv.Itoa(len(m.data)))
	_, _ = w.Write(m.data)
}
