package sqlcache_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/stores/sqlcache"
	"github.com/wxtoken/wxtoken/wxtest"
)

// Processes of one machine share a SQLite file; with PostgreSQL or MySQL only the
// driver, the data source and the Dialect change. The platform is a fake here; omit
// WithHTTPClient to ask the real one.
func Example() {
	dir, err := os.MkdirTemp("", "wxtoken-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	db, err := sql.Open("sqlite", filepath.Join(dir, "app.db")+"?_pragma=busy_timeout(1000)")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	cache := sqlcache.New(db, sqlcache.SQLite, "wxtoken")
	if err := cache.CreateTable(context.Background()); err != nil { // or in your migrations
		fmt.Println(err)
		return
	}

	platform := wxtest.NewPlatform(wxtest.WithApp("wx0123456789abcdef", "secret"))
	fetcher := wxtoken.NewFetcher("wx0123456789abcdef", "secret", wxtoken.WithHTTPClient(platform.Client()))
	for range 3 { // as three processes would
		if _, err := wxtoken.New(fetcher, cache).Token(context.Background()); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println("fetches:", platform.Stats().Fetches().Total())
	// Output: fetches: 1
}
