package openplatform_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/msgcrypt"
	"github.com/wxtoken/wxtoken/openplatform"
	"github.com/wxtoken/wxtoken/wxtest"
)

// serve sends req to p, and returns the status and the body.
func serve(p http.Handler, req *http.Request) (int, string) {
	rec := httptest.NewRecorder()
	p.ServeHTTP(rec, req)
	return rec.Code, rec.Body.String()
}

// signed returns a push with any encrypted content.
func signed(t testing.TB, message, appID string, sent time.Time) *http.Request {
	box, err := msgcrypt.New(msgToken, aesKey)
	require.NoError(t, err)
	return envelope(box, box.Encrypt([]byte(message), appID), sent)
}

func envelope(box *msgcrypt.Box, encrypted string, sent time.Time) *http.Request {
	ts := strconv.FormatInt(sent.Unix(), 10)
	query := url.Values{"timestamp": {ts}, "nonce": {"n"}, "encrypt_type": {"aes"}, "msg_signature": {box.Sign(ts, "n", encrypted)}}
	return httptest.NewRequest(http.MethodPost, hook+"?"+query.Encode(), strings.NewReader("<xml><AppId>"+compID+"</AppId><Encrypt><![CDATA["+encrypted+"]]></Encrypt></xml>"))
}

func ticketPush(value string) string {
	return "<xml><AppId><![CDATA[" + compID + "]]></AppId><CreateTime>1413192605</CreateTime><InfoType><![CDATA[component_verify_ticket]]></InfoType><ComponentVerifyTicket><![CDATA[" + value + "]]></ComponentVerifyTicket></xml>"
}

func TestBadPushes(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := newWorld(t)
		p := w.process()
		now := time.Now()
		box, err := msgcrypt.New(msgToken, aesKey)
		require.NoError(t, err)
		otherKey, err := msgcrypt.New(msgToken, aesKey[1:]+"a")
		require.NoError(t, err)
		otherToken, err := msgcrypt.New("other", aesKey)
		require.NoError(t, err)
		good := func() *http.Request { return signed(t, ticketPush("ticket@@@1"), compID, now) }
		query := func(name, value string) *http.Request {
			req := good()
			q := req.URL.Query()
			q.Set(name, value)
			req.URL.RawQuery = q.Encode()
			return req
		}
		body := func(text string) *http.Request {
			req := good()
			req.Body = io.NopCloser(strings.NewReader(text))
			return req
		}
		for name, test := range map[string]struct {
			req    *http.Request
			status int
		}{
			"GET":                          {httptest.NewRequest(http.MethodGet, hook, nil), 405},
			"wrong signature":              {query("msg_signature", strings.Repeat("0", 40)), 401},
			"no signature":                 {query("msg_signature", ""), 401},
			"signed with another token":    {envelope(otherToken, otherToken.Encrypt([]byte(ticketPush("t")), compID), now), 401},
			"another nonce":                {query("nonce", "m"), 401},
			"another timestamp":            {query("timestamp", strconv.FormatInt(now.Unix()+1, 10)), 401},
			"an hour and a second old":     {signed(t, ticketPush("t"), compID, now.Add(-time.Hour-time.Second)), 400},
			"an hour and a second ahead":   {signed(t, ticketPush("t"), compID, now.Add(time.Hour+time.Second)), 400},
			"from 1970":                    {signed(t, ticketPush("t"), compID, time.Unix(0, 0)), 400},
			"encrypted with another key":   {envelope(box, otherKey.Encrypt([]byte(ticketPush("t")), compID), now), 400},
			"not encrypted":                {body(ticketPush("t")), 400},
			"no body":                      {body(""), 400},
			"JSON":                         {body(`{"Encrypt":"x"}`), 400},
			"for another component":        {signed(t, ticketPush("t"), "wxother", now), 400},
			"about another component":      {signed(t, strings.Replace(ticketPush("t"), compID, "wxother", 1), compID, now), 400},
			"empty ticket":                 {signed(t, ticketPush(""), compID, now), 400},
			"ticket with a space":          {signed(t, ticketPush("a b"), compID, now), 400},
			"no authorizer":                {signed(t, "<xml><InfoType>authorized</InfoType></xml>", compID, now), 400},
			"message is not XML":           {signed(t, "ticket", compID, now), 400},
			"document type":                {body(`<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><xml><Encrypt>&e;</Encrypt></xml>`), 400},
			"document type in the message": {signed(t, `<!DOCTYPE x [<!ENTITY e "t">]>`+ticketPush("&e;"), compID, now), 400},
			"entity in the message":        {signed(t, strings.Replace(ticketPush("t"), "<![CDATA[t]]>", "&e;", 1), compID, now), 400},
			"64 KiB and more":              {body("<xml>" + strings.Repeat(" ", 64<<10) + "</xml>"), 413},
		} {
			status, text := serve(p, test.req)
			assert.Equal(t, test.status, status, "%s: %s", name, text)
			assert.True(t, strings.HasPrefix(text, "wxtoken: "), "%s: %s", name, text)
			for _, hidden := range []string{msgToken, aesKey, secret} {
				assert.NotContains(t, text, hidden, name)
			}
		}
		_, err = p.Source().Token(t.Context())
		require.ErrorContains(t, err, "no push has come yet", "none of them was accepted")

		status, text := serve(p, good())
		assert.Equal(t, 200, status)
		assert.Equal(t, "success", text)
		status, _ = serve(p, signed(t, "<xml><InfoType>something_new</InfoType><CreateTime>soon</CreateTime></xml>", compID, now))
		assert.Equal(t, 200, status, "an unknown kind is ignored")
		status, text = serve(openplatform.New(compID, secret, nil), good())
		assert.Equal(t, 500, status)
		assert.Contains(t, text, "WithCallback")
	})
}

func TestReplayedPushesChangeNothing(t *testing.T) {
	bubble(t, "a ticket", func(t *testing.T) {
		w := newWorld(t, wxtest.WithThirdParty(wxtest.ThirdParty{LatestTicketOnly: true}))
		p := w.process()
		old := w.delivery(p, map[string]string{"InfoType": "component_verify_ticket", "ComponentVerifyTicket": w.IssueTicket(compID)})
		w.to(p)
		time.Sleep(10 * time.Minute)
		require.NoError(t, w.PushTicket(compID, hook))
		for range 3 {
			old()
		}
		assert.NotEmpty(t, token(t, p.Source()), "the newer ticket is still there")
		assert.NotEmpty(t, token(t, w.process().Source()))
	})
	bubble(t, "unauthorized", func(t *testing.T) {
		w := newWorld(t)
		p := w.ready()
		w.authorize("wx1")
		ended := w.delivery(p, map[string]string{"InfoType": "unauthorized", "AuthorizerAppid": "wx1"})
		ended()
		_, err := p.Authorizer("wx1").Token(t.Context())
		require.ErrorIs(t, err, openplatform.ErrNotAuthorized)
		late := w.delivery(p, map[string]string{"InfoType": "unauthorized", "AuthorizerAppid": "wx1", "More": "x"})
		w.authorize("wx1") // in the same second
		ended()
		time.Sleep(time.Minute)
		assert.NotEmpty(t, token(t, p.Authorizer("wx1")))
		w.authorize("wx1")
		late()
		time.Sleep(time.Minute)
		assert.NotEmpty(t, token(t, p.Authorizer("wx1")))
	})
	bubble(t, "authorized", func(t *testing.T) {
		w := newWorld(t)
		p := w.ready()
		deliver := w.delivery(p, map[string]string{
			"InfoType": "authorized", "AuthorizerAppid": "wx1", "AuthorizationCode": w.IssueCode(compID, "wx1")})
		for range 5 {
			deliver()
		}
		assert.NotEmpty(t, token(t, p.Authorizer("wx1")))
		assert.Equal(t, wxtest.Tally{0: 1}, w.sent(wxtest.QueryAuthPath))
		assert.Equal(t, wxtest.Tally{0: 1}, w.sent(wxtest.AuthorizerPath))
	})
}

// A CreateTime that is later than the push itself hides none of the next ones.
func TestACreateTimeInTheFuture(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := newWorld(t, wxtest.WithThirdParty(wxtest.ThirdParty{LatestTicketOnly: true}))
		p := w.process()
		w.to(p)
		ms := fmt.Sprint(time.Now().UnixMilli())
		require.NoError(t, w.Push(compID, hook, map[string]string{
			"InfoType": "component_verify_ticket", "ComponentVerifyTicket": w.IssueTicket(compID), "CreateTime": ms}))
		require.NoError(t, w.Push(compID, hook, map[string]string{
			"InfoType": "authorized", "AuthorizerAppid": "wx1", "AuthorizationCode": w.IssueCode(compID, "wx1"), "CreateTime": ms}))
		token(t, p.Authorizer("wx1"))
		time.Sleep(10 * time.Minute)
		assert.Zero(t, w.outage(20*time.Hour, p.Authorizer("wx1")))
		require.NoError(t, w.PushUnauthorized(compID, "wx1", hook))
		time.Sleep(time.Minute)
		_, err := p.Authorizer("wx1").Token(t.Context())
		assert.ErrorIs(t, err, openplatform.ErrNotAuthorized)
	})
}

func TestNewPanicsWithoutShowingTheKey(t *testing.T) {
	for name, pair := range map[string][2]string{
		"short key": {msgToken, aesKey[:42]}, "bad key": {msgToken, aesKey[:42] + "!"}, "no key": {msgToken, ""}, "no token": {"", aesKey},
	} {
		func() {
			defer func() {
				text, _ := recover().(string)
				assert.True(t, strings.HasPrefix(text, "wxtoken: "), name)
				assert.NotContains(t, text, aesKey[:20], name)
				assert.NotContains(t, text, msgToken, name)
			}()
			openplatform.New(compID, secret, nil, openplatform.WithCallback(pair[0], pair[1]))
		}()
	}
}

// Pushes from strangers are never accepted, and nothing panics.
func FuzzServeHTTP(f *testing.F) {
	p := openplatform.New(compID, secret, nil, openplatform.WithCallback(msgToken, aesKey))
	f.Add("timestamp=1&nonce=2&msg_signature=3", "<xml><Encrypt>AAAA</Encrypt></xml>")
	f.Add("", "<!DOCTYPE x><xml/>")
	f.Add("timestamp=9999999999999999999", strings.Repeat("<a>", 1000))
	f.Fuzz(func(t *testing.T, query, body string) {
		req := httptest.NewRequest(http.MethodPost, hook, strings.NewReader(body))
		req.URL.RawQuery = query
		if status, text := serve(p, req); status == 200 || status == 500 {
			t.Fatalf("status %d: %s", status, text)
		}
	})
}

// Correctly signed pushes are accepted or rejected, and nothing panics.
func FuzzSignedPush(f *testing.F) {
	f.Add(ticketPush("ticket@@@1"))
	f.Add("<xml><InfoType>unauthorized</InfoType><AuthorizerAppid>wx1</AuthorizerAppid></xml>")
	f.Add("<xml><InfoType>authorized</InfoType><AuthorizerAppid>wx1</AuthorizerAppid><CreateTime>-5</CreateTime></xml>")
	f.Add("<xml><InfoType>authorized</InfoType><AuthorizerAppid>wx1</AuthorizerAppid><AuthorizationCode>c</AuthorizationCode></xml>")
	f.Add("<!DOCTYPE x><xml/>")
	empty := wxtest.NewPlatform()
	f.Fuzz(func(t *testing.T, message string) {
		p := openplatform.New(compID, secret, nil, openplatform.WithCallback(msgToken, aesKey),
			openplatform.WithFetcherOptions(wxtoken.WithHTTPClient(empty.Client())))
		req := signed(t, message, compID, time.Now())
		if status, text := serve(p, req); status != 200 && status != 400 && status != 413 {
			t.Fatalf("status %d: %s", status, text)
		}
	})
}
