// Package sqlcache keeps wxtoken's records in a table of an SQL database, for
// applications that have one and no Redis or Memcached. It needs only database/sql;
// the driver is the application's.
//
// Entries expire by the database's clock. Keys and values are bytes and are compared
// as bytes: in a table of your own, the columns must be BYTEA (PostgreSQL), VARBINARY
// and BLOB (MySQL, MariaDB) or BLOB (SQLite). Text columns, which ignore case or
// trailing blanks, would treat different records as equal.
//
// All processes must use the primary server: a replica returns old records. With
// SQLite, set a busy timeout, and keep the file on a local disk.
package sqlcache

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/wxtoken/wxtoken"
)

// A Dialect is the SQL that a database understands. The zero Dialect is invalid.
type Dialect struct {
	create, get, add, reuse, swap string // %s is the table
}

// The supported databases.
var (
	PostgreSQL = postgreSQL // 9.5 or newer
	MySQL      = mySQL      // MySQL 5.6 or MariaDB 10.0, or newer
	SQLite     = sqlite     // 3.24 or newer; entries expire by the millisecond
)

var (
	postgreSQL = Dialect{
		create: `CREATE TABLE IF NOT EXISTS %s (k BYTEA PRIMARY KEY, v BYTEA NOT NULL, expires TIMESTAMPTZ NOT NULL)`,
		get:    `SELECT v FROM %s WHERE k = $1 AND expires > clock_timestamp()`,
		add: `INSERT INTO %s AS t (v, expires, k) VALUES ($1, clock_timestamp() + $2 * INTERVAL '1 microsecond', $3)
			ON CONFLICT (k) DO UPDATE SET v = EXCLUDED.v, expires = EXCLUDED.expires WHERE t.expires <= clock_timestamp()`,
		swap: `UPDATE %s SET v = $1, expires = clock_timestamp() + $2 * INTERVAL '1 microsecond'
			WHERE k = $3 AND v = $4 AND expires > clock_timestamp()`,
	}

	mySQL = Dialect{
		create: `CREATE TABLE IF NOT EXISTS %s (k VARBINARY(250) PRIMARY KEY, v BLOB NOT NULL, expires DATETIME(6) NOT NULL)`,
		get:    `SELECT v FROM %s WHERE k = ? AND expires > UTC_TIMESTAMP(6)`,
		// IGNORE skips a key that exists; with any other statement, which rows
		// count as affected depends on the driver's flags.
		add: `INSERT IGNORE INTO %s (v, expires, k) VALUES (?, UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND, ?)`,
		reuse: `UPDATE %s SET v = ?, expires = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND
			WHERE k = ? AND expires <= UTC_TIMESTAMP(6)`,
		swap: `UPDATE %s SET v = ?, expires = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND
			WHERE k = ? AND v = ? AND expires > UTC_TIMESTAMP(6)`,
	}

	sqlite = Dialect{
		create: `CREATE TABLE IF NOT EXISTS %s (k BLOB PRIMARY KEY, v BLOB NOT NULL, expires REAL NOT NULL)`,
		get:    `SELECT v FROM %s WHERE k = ? AND expires > ` + sqliteNow,
		add: `INSERT INTO %s (v, expires, k) VALUES (?, ` + sqliteNow + ` + ? / 1e6, ?)
			ON CONFLICT (k) DO UPDATE SET v = excluded.v, expires = excluded.expires WHERE expires <= ` + sqliteNow,
		swap: `UPDATE %s SET v = ?, expires = ` + sqliteNow + ` + ? / 1e6
			WHERE k = ? AND v = ? AND expires > ` + sqliteNow,
	}
)

// sqliteNow is unix time in seconds, with milliseconds.
const sqliteNow = `(julianday('now') - 2440587.5) * 86400`

// A Cache is a [wxtoken.Cache] in a table.
type Cache struct {
	db  *sql.DB
	sql Dialect
}

var name = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?$`)

// New returns a [Cache] in the given table, whose name may include a schema. The caller
// keeps ownership of db and closes it. New does not query the database; it panics if
// db is nil, the [Dialect] is zero or the name is invalid.
func New(db *sql.DB, dialect Dialect, table string) *Cache {
	switch {
	case db == nil:
		panic("wxtoken: sqlcache.New: the database is nil")
	case dialect.get == "":
		panic("wxtoken: sqlcache.New: the Dialect is zero; use PostgreSQL, MySQL or SQLite")
	case !name.MatchString(table):
		panic(fmt.Sprintf("wxtoken: sqlcache.New: %q is not a table name: use letters, digits and _ only", table))
	}
	for _, s := range []*string{&dialect.create, &dialect.get, &dialect.add, &dialect.reuse, &dialect.swap} {
		*s = strings.Replace(*s, "%s", table, 1)
	}
	return &Cache{db, dialect}
}

// CreateTable creates the table unless it exists. Its columns are k, the key; v, the
// record; and expires. Expired rows stay until the key is used again: there is one
// row for each credential.
func (c *Cache) CreateTable(ctx context.Context) error {
	_, err := c.db.ExecContext(ctx, c.sql.create)
	return err
}

// Get implements [wxtoken.Cache].
func (c *Cache) Get(ctx context.Context, key string) ([]byte, error) {
	var value []byte
	err := c.db.QueryRowContext(ctx, c.sql.get, []byte(key)).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, wxtoken.ErrCacheMiss
	}
	return append([]byte{}, value...), err // some drivers return nil for an empty value
}

// CompareAndSwap implements [wxtoken.Cache].
func (c *Cache) CompareAndSwap(ctx context.Context, key string, old, new []byte, ttl time.Duration) (bool, error) {
	if new == nil {
		new = []byte{} // nil would be NULL
	}
	life := ttl.Microseconds() + 1001 // rounded up, and SQLite's clock can be a millisecond slow
	args := []any{new, life, []byte(key)}
	if old != nil {
		return c.changes(ctx, c.sql.swap, append(args, old)...)
	}
	stored, err := c.changes(ctx, c.sql.add, args...)
	if err == nil && !stored && c.sql.reuse != "" {
		return c.changes(ctx, c.sql.reuse, args...)
	}
	return stored, err
}

// changes runs a statement that changes one row or none, in a transaction of its own,
// and runs it again if the database rolled it back.
func (c *Cache) changes(ctx context.Context, statement string, args ...any) (bool, error) {
	result, err := c.db.ExecContext(ctx, statement, args...)
	for undone(err) {
		result, err = c.db.ExecContext(ctx, statement, args...)
	}
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// undone reports whether a statement was rolled back because of another one, by a
// deadlock, or by a serialization failure if the isolation level is higher than the
// default. The drivers of PostgreSQL report it by a method, that of MySQL by its
// text.
func undone(err error) bool {
	var state interface{ SQLState() string }
	return errors.As(err, &state) && (state.SQLState() == "40001" || state.SQLState() == "40P01") ||
		err != nil && strings.HasPrefix(err.Error(), "Error 1213 (40001): ")
}
