package sqlcache_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/cachetest"
	"github.com/wxtoken/wxtoken/internal/servers"
	"github.com/wxtoken/wxtoken/internal/storetest"
	"github.com/wxtoken/wxtoken/stores/sqlcache"
)

func TestMain(m *testing.M) { storetest.Main(m, open) }

var dialects = map[string]sqlcache.Dialect{"pgx": sqlcache.PostgreSQL, "mysql": sqlcache.MySQL, "sqlite": sqlcache.SQLite}

// open makes a cache from a driver and its data source: "mysql
// root@tcp(host:port)/test".
func open(config string) (wxtoken.Cache, error) {
	driver, source, _ := strings.Cut(config, " ")
	db, err := sql.Open(driver, source)
	if err != nil {
		return nil, err
	}
	return closableCache{sqlcache.New(db, dialects[driver], "wxtoken"), db}, nil
}

type closableCache struct {
	*sqlcache.Cache
	db *sql.DB
}

func (c closableCache) Close() error { return c.db.Close() }

// create creates the table and returns the database.
func create(t *testing.T, config string) *sql.DB {
	cache, err := open(config)
	require.NoError(t, err)
	c := cache.(closableCache)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	require.NoError(t, c.CreateTable(t.Context()))
	require.NoError(t, c.CreateTable(t.Context()), "it already exists")
	return c.db
}

func version(t *testing.T, db *sql.DB, query string) string {
	var version string
	require.NoError(t, db.QueryRow(query).Scan(&version))
	version, _, _ = strings.Cut(version, " ")
	version, _, _ = strings.Cut(version, "-")
	return version
}

// remover returns a function that deletes a key at once.
func remover(t *testing.T, db *sql.DB, statement string) func(string) {
	return func(key string) {
		_, err := db.Exec(statement, []byte(key))
		for err != nil && strings.Contains(err.Error(), "Deadlock found") {
			_, err = db.Exec(statement, []byte(key))
		}
		assert.NoError(t, err)
	}
}

func TestPostgreSQL(t *testing.T) {
	server := servers.Postgres(t)
	config := func(addr string) string {
		return fmt.Sprintf("pgx postgres://postgres@%s/postgres?sslmode=disable", addr)
	}
	db := create(t, config(server.Addr()))
	storetest.Run(t, storetest.Store{
		Name: "PostgreSQL, sqlcache", Version: version(t, db, "SHOW server_version"), Open: open, Config: config(server.Addr()),
		Evict: remover(t, db, "DELETE FROM wxtoken WHERE k = $1"), Proxied: config, Addr: server.Addr(),
		Outage: func(string) { server.Restart() }, Outages: "killed, restarted",
	})
	t.Run("serializable", func(t *testing.T) {
		contract(t, config(server.Addr())+"&options=-c%20default_transaction_isolation%3Dserializable")
	})
}

func TestMariaDB(t *testing.T) {
	server := servers.MariaDB(t)
	config := func(addr string) string { return fmt.Sprintf("mysql root@tcp(%s)/test", addr) }
	db := create(t, config(server.Addr()))
	storetest.Run(t, storetest.Store{
		Name: "MariaDB, sqlcache", Version: version(t, db, "SELECT VERSION()"), Open: open, Config: config(server.Addr()),
		Evict: remover(t, db, "DELETE FROM wxtoken WHERE k = ?"), Proxied: config, Addr: server.Addr(),
		Outage: func(string) { server.Restart() }, Outages: "killed, restarted",
	})
	t.Run("matched rows count as affected", func(t *testing.T) { contract(t, config(server.Addr())+"?clientFoundRows=true") })
}

// contract runs only the suite, for a variant.
func contract(t *testing.T, config string) {
	cache, err := open(config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cache.(closableCache).Close()) })
	cachetest.Run(t, func(*testing.T) wxtoken.Cache { return cache })
}

func TestSQLite(t *testing.T) {
	config := "sqlite file:" + filepath.Join(t.TempDir(), "db") + "?_pragma=busy_timeout(20000)&_pragma=journal_mode(wal)"
	db := create(t, config)
	storetest.Run(t, storetest.Store{
		Name: "SQLite, sqlcache", Version: version(t, db, "SELECT sqlite_version()"), Open: open, Config: config,
		Evict: remover(t, db, "DELETE FROM wxtoken WHERE k = ?"),
	})
}

func TestNewPanicsOnInvalidArguments(t *testing.T) {
	db, err := sql.Open("sqlite", ":memory:")
	require.NoError(t, err)
	defer db.Close()
	for name, f := range map[string]func(){
		"the database is nil":                   func() { sqlcache.New(nil, sqlcache.SQLite, "t") },
		"the Dialect is zero":                   func() { sqlcache.New(db, sqlcache.Dialect{}, "t") },
		`"t; DROP TABLE u" is not a table name`: func() { sqlcache.New(db, sqlcache.SQLite, "t; DROP TABLE u") },
		`"" is not a table name`:                func() { sqlcache.New(db, sqlcache.SQLite, "") },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() { assert.Contains(t, recover(), name) }()
			f()
		})
	}
	sqlcache.New(db, sqlcache.PostgreSQL, "public.wxtoken_records")
}

// An unavailable database is an error and not a miss, and the call returns when ctx
// ends.
func TestServerGone(t *testing.T) {
	addr := fmt.Sprint("127.0.0.1:", servers.SparePort())
	for _, config := range []string{"pgx postgres://postgres@" + addr + "/postgres", "mysql root@tcp(" + addr + ")/test"} {
		cache, err := open(config)
		require.NoError(t, err)
		_, err = cache.Get(t.Context(), "key")
		assert.Error(t, err)
		assert.NotErrorIs(t, err, wxtoken.ErrCacheMiss)
		require.NoError(t, cache.(closableCache).Close())
	}
}
