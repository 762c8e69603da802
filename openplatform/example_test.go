package openplatform_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/openplatform"
	"github.com/wxtoken/wxtoken/wxtest"
)

// The fake platform pushes a ticket and an authorization.
func ExamplePlatform() {
	fake := wxtest.NewPlatform(wxtest.WithComponent(compID, secret, msgToken, aesKey))
	p := openplatform.New(compID, secret, wxtoken.NewMemoryCache(), // NewRedisCache(client) for several processes
		openplatform.WithCallback(msgToken, aesKey),
		openplatform.WithFetcherOptions(wxtoken.WithHTTPClient(fake.Client())))
	fake.PushThrough(wxtest.HandlerClient(p)) // in production: http.Handle("/wechat/events", p)

	fmt.Println(fake.PushTicket(compID, hook))
	_, err := fake.PushAuthorized(compID, "wxshop", hook)
	fmt.Println(err)

	tok, err := p.Authorizer("wxshop").Token(context.Background())
	fmt.Println(tok.Value == fake.LatestAuthorizer(compID, "wxshop"), err)
	// Output:
	// <nil>
	// <nil>
	// true <nil>
}

// The platform sends the owner of an account to this page after the authorization,
// with auth_code in the query.
func ExamplePlatform_Authorize() {
	p := openplatform.New("wxcomponent", "secret", wxtoken.NewMemoryCache())
	http.HandleFunc("/wechat/authorized", func(w http.ResponseWriter, r *http.Request) {
		appID, err := p.Authorize(r.Context(), r.URL.Query().Get("auth_code"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprintln(w, "thank you, "+appID)
	})
}

// Calls on behalf of an account: a Transport adds the token, and replaces one that
// the platform rejects.
func ExamplePlatform_Authorizer() {
	p := openplatform.New("wxcomponent", "secret", wxtoken.NewMemoryCache())
	client := &http.Client{Transport: &wxtoken.Transport{Source: p.Authorizer("wxshop")}}
	_, err := client.Get("https://api.weixin.qq.com/cgi-bin/get_api_domain_ip")
	if errors.Is(err, openplatform.ErrNotAuthorized) {
		fmt.Println("ask the owner of wxshop to authorize again")
	}
}

// A ticket that arrived by another way than ServeHTTP.
func ExamplePlatform_SetTicket() {
	p := openplatform.New("wxcomponent", "secret", wxtoken.NewMemoryCache())
	err := p.SetTicket(context.Background(), "ticket@@@…")
	fmt.Println(err)
	// Output: wxtoken: the component_verify_ticket is over 4096 bytes, or holds a space, a control byte or a byte that is not ASCII
}

// A table in the application's database:
//
//	CREATE TABLE refresh_tokens (appid VARCHAR(64) PRIMARY KEY, token TEXT NOT NULL)
type sqlTable struct{ db *sql.DB }

func (t sqlTable) Load(ctx context.Context, appID string) (token string, err error) {
	err = t.db.QueryRowContext(ctx, "SELECT token FROM refresh_tokens WHERE appid = $1", appID).Scan(&token)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return token, err
}

func (t sqlTable) Save(ctx context.Context, appID, token string) error {
	_, err := t.db.ExecContext(ctx, "INSERT INTO refresh_tokens (appid, token) VALUES ($1, $2)"+
		" ON CONFLICT (appid) DO UPDATE SET token = $2", appID, token)
	return err
}

// Refresh tokens are kept in the application's own database, and the rest in the
// cache.
func ExampleWithRefreshTokens() {
	var db *sql.DB // from sql.Open
	p := openplatform.New("wxcomponent", "secret", wxtoken.NewMemoryCache(),
		openplatform.WithRefreshTokens(sqlTable{db}))
	fmt.Println(p)
	// Output: openplatform.Platform(wxcomponent)
}

// Tickets and refresh tokens are encrypted with the same keys as the records of the
// tokens, and have the same prefix.
func ExampleWithSourceOptions() {
	var key [32]byte // from a secret store
	p := openplatform.New("wxcomponent", "secret", wxtoken.NewMemoryCache(),
		openplatform.WithSourceOptions(wxtoken.WithKeyPrefix("shop:"), wxtoken.WithEncryption(key)))
	fmt.Println(p.Source())
	// Output: wxtoken.Source(shop:component:wxcomponent)
}
