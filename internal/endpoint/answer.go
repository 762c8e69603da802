package endpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"
	"unicode"
)

const (
	maxAnswer   = 64 << 10            // bytes of body that are read
	maxToken    = 4 << 10             // bytes; the platform says to keep room for 512
	maxLifetime = 30 * 24 * time.Hour // the platform says at most 2 h
)

// OtherCode is the Code of a Denial whose code does not fit into one; its Message
// then begins with the code.
const OtherCode = -2

// An Answer names the parts of the JSON object that an endpoint answers with.
// Names are dotted: "data.access_token".
type Answer struct {
	Token     string
	ExpiresIn string // a whole number of seconds
	Code      string // a number or string that is neither 0 nor "" is a denial; "": there is no code
	OK        string // if set, only this code, or none, is a success
	Message   string
}

// weChat returns how WeChat answers; WeCom and QQ do the same.
func weChat(token string) Answer {
	return Answer{Token: token, ExpiresIn: "expires_in", Code: "errcode", Message: "errmsg"}
}

// judge returns the token of a response, and its lifetime; a *Denial if the body has
// a code that says so, whatever the status; otherwise what is wrong, with the first
// characters of the body that cannot be a secret.
func judge(resp *http.Response, body []byte, a Answer, hide func(string) string) (string, time.Duration, error) {
	token, lifetime, err := a.decode(body)
	var denied *Denial
	switch {
	case len(body) > maxAnswer:
		err = fmt.Errorf("an answer of over %d bytes", maxAnswer)
	case errors.As(err, &denied):
		words := strings.FieldsFunc(hide(denied.Message), invisible)
		denied.Message = fmt.Sprintf("%.512s", strings.Join(words, " "))
		return "", 0, denied
	case resp.StatusCode/100 == 3:
		err = errors.New("a redirect, which is not followed; check WithBaseURL and the network")
		if to, bad := resp.Location(); bad == nil {
			err = fmt.Errorf("a redirect to %s, which is not followed; check WithBaseURL and the network", hide(to.Host))
		}
	case resp.StatusCode != http.StatusOK:
		err = errors.New("no success and no errcode")
	case err == nil:
		return token, lifetime, nil
	}
	text := string(body)
	if token != "" {
		text = strings.ReplaceAll(text, token, "***")
	}
	return "", 0, fmt.Errorf("HTTP %d: %w; the answer begins with %.120q", resp.StatusCode, err, hideRuns(hide(text), 16))
}

// invisible reports characters that could break a log line or reverse its text.
func invisible(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) }

// decode reads an answer such as {"access_token":"...","expires_in":7200} or
// {"errcode":40013,"errmsg":"..."}. It requires exactly one JSON object, and accepts
// a byte order mark and quoted numbers. With an error it also returns the token as it
// is in body, so that it can be hidden.
func (a Answer) decode(body []byte) (token string, lifetime time.Duration, err error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(bytes.TrimPrefix(body, []byte("\ufeff")), &object); err != nil {
		return "", 0, fmt.Errorf("not a JSON object: %w", err)
	}
	raw := find(object, a.Token)
	_ = json.Unmarshal(raw, &token) // anything but a string is not a token
	denied, badCode := a.denial(find(object, a.Code), find(object, a.Message))
	if denied != nil {
		if token != "" {
			denied.Message = strings.ReplaceAll(denied.Message, token, "***")
		}
		return "", 0, denied
	}
	seconds, badSeconds := wholeNumber(find(object, a.ExpiresIn))
	lifetime = time.Duration(seconds) * time.Second
	switch {
	case badCode != nil:
		err = badCode
	case a.Token == "":
		return "", 0, nil
	case token == "":
		err = fmt.Errorf("%s is missing, empty or not a string", a.Token)
	case len(token) > maxToken || !Printable(token):
		err = fmt.Errorf("%s is over %d bytes, or holds a space, a control byte or a byte that is not ASCII", a.Token, maxToken)
	case badSeconds != nil || lifetime <= 0 || lifetime > maxLifetime:
		err = fmt.Errorf("%s is not a whole number of seconds from 1 to %d", a.ExpiresIn, maxLifetime/time.Second)
	default:
		return token, lifetime, nil
	}
	if token != "" {
		token = string(raw)
	}
	return token, 0, err
}

// denial returns nil if code means success, and an error if it is not a code.
func (a Answer) denial(code, message json.RawMessage) (*Denial, error) {
	var text string
	switch {
	case len(code) == 0 || string(code) == "null":
		return nil, nil
	case json.Unmarshal(code, &text) == nil:
	case strings.ContainsRune("-0123456789", rune(code[0])):
		text = string(code)
	default:
		return nil, fmt.Errorf("%s is not a number or a string", a.Code)
	}
	n, notWhole := wholeNumber(code)
	ok := text == a.OK
	if want, bad := wholeNumber(json.RawMessage(a.OK)); bad == nil { // 0 if there is no OK
		ok = ok || notWhole == nil && n == want
	}
	if ok {
		return nil, nil
	}
	denied := &Denial{Code: int(n)}
	_ = json.Unmarshal(message, &denied.Message) // anything but a string is not a message
	if notWhole != nil || n == 0 {
		denied.Code = OtherCode
		denied.Message = strings.TrimSuffix(text+": "+denied.Message, ": ")
	}
	return denied, nil
}

// find returns the value at a dotted path, or nil.
func find(object map[string]json.RawMessage, path string) json.RawMessage {
	name, rest, deeper := strings.Cut(path, ".")
	var inner map[string]json.RawMessage
	switch {
	case path == "":
		return nil
	case !deeper:
		return object[name]
	case json.Unmarshal(object[name], &inner) != nil:
		return nil
	}
	return find(inner, rest)
}

// wholeNumber reads 7200, 7200.0 or "7200"; missing or null is 0.
func wholeNumber(raw json.RawMessage) (n float64, err error) {
	var quoted string
	if json.Unmarshal(raw, &quoted) == nil && quoted != "" {
		raw = []byte(quoted)
	}
	if len(raw) > 0 {
		err = json.Unmarshal(raw, &n)
	}
	if n != math.Trunc(n) || math.Abs(n) > math.MaxInt32 {
		err = errors.New("not a whole number of 32 bits")
	}
	return n, err
}
