package openplatform

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	maxPush    = 64 << 10        // bytes of body
	pushWithin = time.Hour       // how far a push's timestamp may be off
	answerBy   = 4 * time.Second // the platform gives up after five
)

// A push is what the platform sends to the authorization event URL, decrypted.
type push struct {
	AppID             string `xml:"AppId"`
	CreateTime        string `xml:"CreateTime"`
	InfoType          string `xml:"InfoType"`
	Ticket            string `xml:"ComponentVerifyTicket"`
	AuthorizerAppID   string `xml:"AuthorizerAppid"`
	AuthorizationCode string `xml:"AuthorizationCode"`

	created int64 // CreateTime, or when it was sent if that is no time or a later one
}

// A badPush is why a push is rejected, and the status to answer.
type badPush struct {
	status int
	why    string
}

func (b *badPush) Error() string {
	return "wxtoken: push rejected: " + strings.TrimPrefix(b.why, "wxtoken: ")
}

// ServeHTTP handles the pushes that the platform sends to the authorization event URL
// (授权事件接收URL), and answers "success". It needs [WithCallback].
//
// component_verify_ticket: the newest ticket is kept for 12 hours. authorized and
// updateauthorized: the code is exchanged, at once if the platform waits long enough,
// otherwise by the next Token. unauthorized: this process stops handing out the
// account's token within a minute, other processes when it is next rejected; if the
// push may be older than the authorization, the platform is asked for a new token
// first. Other pushes are answered and ignored.
//
// A push with a wrong signature is answered with status 401; one that cannot be
// decrypted or read, is for another appID, has an empty ticket, or has a timestamp
// more than an hour off, with 400; one of more than 64 KiB with 413; one that could
// not be stored with 500, after which the platform sends the next. A replayed push
// changes nothing.
func (p *Platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	err := p.take(w, r)
	var bad *badPush
	switch {
	case err == nil:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "success")
	case errors.As(err, &bad):
		if bad.status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", http.MethodPost)
		}
		http.Error(w, bad.Error(), bad.status)
	default:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// take handles one push.
func (p *Platform) take(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodPost {
		return &badPush{http.StatusMethodNotAllowed, "the platform sends POST"}
	}
	if p.box == nil {
		return errors.New("wxtoken: push rejected: openplatform.New had no WithCallback")
	}
	m, raw, err := p.open(w, r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerBy)
	defer cancel()
	switch m.InfoType {
	case "component_verify_ticket":
		if err := checkTicket(m.Ticket); err != nil {
			return &badPush{http.StatusBadRequest, err.Error()}
		}
		return p.keepTicket(ctx, m.Ticket, m.created)
	case "authorized", "updateauthorized", "unauthorized":
		if err := checkAppID("AuthorizerAppid", m.AuthorizerAppID); err != nil {
			return &badPush{http.StatusBadRequest, err.Error()}
		}
		if len(m.AuthorizationCode) > maxCode || !printable(m.AuthorizationCode) {
			return &badPush{http.StatusBadRequest, "AuthorizationCode is invalid"}
		}
		return p.takeEvent(ctx, m, raw)
	}
	return nil
}

// takeEvent handles a push about an authorization. Once it is recorded in the cache,
// any process can do the rest later.
func (p *Platform) takeEvent(ctx context.Context, m push, raw []byte) error {
	a := p.authorizer(m.AuthorizerAppID)
	e := event{created: m.created, digest: digest(string(raw)), code: m.AuthorizationCode, ended: m.InfoType == "unauthorized"}
	if e.ended {
		e.code = ""
	}
	counts, sure, err := a.note(ctx, e)
	switch {
	case err != nil || !counts:
		return err
	case e.ended && sure:
		a.end()
		return nil
	case e.ended: // the platform knows: it denies the next token, or issues it
		a.supersede(ctx)
		return nil
	}
	a.gate.opened()
	if e.code != "" {
		if _, before, err := p.redeem(ctx, e.code, false); err == nil && before {
			a.supersede(ctx)
		}
	}
	return nil
}

// open verifies and decrypts a push.
func (p *Platform) open(w http.ResponseWriter, r *http.Request) (push, []byte, error) {
	bad := func(status int, format string, args ...any) (push, []byte, error) {
		return push{}, nil, &badPush{status, fmt.Sprintf(format, args...)}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPush))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return bad(http.StatusRequestEntityTooLarge, "its body has over %d bytes", maxPush)
	}
	if err != nil {
		return bad(http.StatusBadRequest, "its body could not be read")
	}
	var envelope struct {
		Encrypt string `xml:"Encrypt"`
	}
	if err := parse(body, &envelope); err != nil {
		return bad(http.StatusBadRequest, "its body is %v", err)
	}
	query := r.URL.Query()
	timestamp := query.Get("timestamp")
	switch {
	case envelope.Encrypt == "":
		return bad(http.StatusBadRequest, "it is not encrypted: set an EncodingAESKey in the platform's console")
	case !p.box.Signed(query.Get("msg_signature"), timestamp, query.Get("nonce"), envelope.Encrypt):
		return bad(http.StatusUnauthorized, "its msg_signature is wrong: compare the message token with the platform's console")
	}
	sent, err := strconv.ParseInt(timestamp, 10, 64)
	if off := time.Since(time.Unix(sent, 0)).Abs(); err != nil || off > pushWithin {
		return bad(http.StatusBadRequest, "its timestamp is more than %v off: check this machine's clock", pushWithin)
	}
	message, appID, err := p.box.Decrypt(envelope.Encrypt)
	if err != nil {
		return bad(http.StatusBadRequest, "it cannot be decrypted: %v", err)
	}
	var m push
	if err := parse(message, &m); err != nil {
		return bad(http.StatusBadRequest, "its message is %v", err)
	}
	if appID != p.appID || m.AppID != "" && m.AppID != p.appID {
		return bad(http.StatusBadRequest, "it is for another appID")
	}
	if m.created, err = strconv.ParseInt(m.CreateTime, 10, 64); err != nil || m.created <= 0 || m.created > sent {
		m.created = sent // no later, or it would hide the pushes after it
	}
	return m, message, nil
}

// parse reads XML without directives: no document type, so no entities.
func parse(text []byte, into any) error {
	d := xml.NewDecoder(bytes.NewReader(text))
	for {
		token, err := d.RawToken()
		if err == io.EOF {
			break
		}
		if err != nil {
			return errors.New("not XML")
		}
		if _, directive := token.(xml.Directive); directive {
			return errors.New("XML with a document type, which no push has")
		}
	}
	if xml.Unmarshal(text, into) != nil {
		return errors.New("not the XML of a push")
	}
	return nil
}
