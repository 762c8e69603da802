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

// judge gives the token in the field of a response, and its lifetime; a *Refusal
// if the body has an errcode, whatever the status; else what is wrong, with the
// first characters of the body that cannot be a secret.
func judge(resp *http.Response, body []byte, field string, hide func(string) string) (string, time.Duration, error) {
	token, lifetime, err := decode(body, field)
	var refused *Refusal
	switch {
	case len(body) > maxAnswer:
		err = fmt.Errorf("an answer of over %d bytes", maxAnswer)
	case errors.As(err, &refused):
		words := strings.FieldsFunc(hide(refused.Message), unicode.IsControl)
		refused.Message = fmt.Sprintf("%.512s", strings.Join(words, " "))
		return "", 0, refused
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

// decode reads {"access_token":"...","expires_in":7200} or
// {"errcode":40013,"errmsg":"..."}. It insists on one whole JSON object, and
// lets a byte order mark and numbers in quotes pass. With an error it gives the
// token as it stands in body, for that to be hidden.
func decode(body []byte, field string) (token string, lifetime time.Duration, err error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(bytes.TrimPrefix(body, []byte("\ufeff")), &object); err != nil {
		return "", 0, fmt.Errorf("not a JSON object: %w", err)
	}
	code, badCode := wholeNumber(object["errcode"])
	if badCode == nil && code != 0 {
		refused := &Refusal{Code: int(code)}
		_ = json.Unmarshal(object["errmsg"], &refused.Message) // what is not a string is no message
		return "", 0, refused
	}
	_ = json.Unmarshal(object[field], &token)
	seconds, badSeconds := wholeNumber(object["expires_in"])
	lifetime = time.Duration(seconds) * time.Second
	switch {
	case badCode != nil:
		err = errors.New("errcode is not a whole number")
	case field == "":
		return "", 0, nil
	case token == "":
		err = fmt.Errorf("%s is missing, empty or not a string", field)
	case len(token) > maxToken || !Printable(token):
		err = fmt.Errorf("%s is over %d bytes, or holds a space, a control byte or a byte that is not ASCII", field, maxToken)
	case badSeconds != nil || lifetime <= 0 || lifetime > maxLifetime:
		err = fmt.Errorf("expires_in is not a whole number of seconds from 1 to %d", maxLifetime/time.Second)
	default:
		return token, lifetime, nil
	}
	if token != "" {
		token = string(object[field])
	}
	return token, 0, err
}

// wholeNumber reads 7200, 7200.0 or "7200"; what is missing or null is 0.
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
