package doctor

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/record"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/store"
)

// credentialAtEnd finds the credential in a key whose prefix is unknown.
var credentialAtEnd = regexp.MustCompile(`(?:^|[^A-Za-z0-9])((?:token|stable|qq|wecom|component|authorizer):[!-~]+)$`)

// mostKeys is how many keys of a store are read at most.
const mostKeys = 1_000_000

// A space is a part of a store with keys of its own, such as a database.
type space struct {
	place string // before a key, for people
	cache wxtoken.Cache
	keys  []string // those that end in a credential
	read  int      // how many there are in all
	close func() error
}

// add adds a key if it ends in a credential.
func (s *space) add(key string) {
	s.read++
	if credentialAtEnd.MatchString(key) {
		s.keys = append(s.keys, key)
	}
}

// A found is a record somewhere in the store.
type found struct {
	place string // for people
	record.Reading
}

// scan looks for records of the same credential under several prefixes or in several
// databases: each belongs to a group of processes that fetches for itself.
func (d *Doctor) scan(ctx context.Context, r *Report, credentials []string) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	spaces, err := d.spaces(ctx)
	if err != nil {
		r.add(Finding{Level: Warn, Area: "scan", Text: fmt.Sprintf("the store could not be searched: %v", err), Do: "compare the configurations of the services by hand"})
		return
	}
	all, read := map[string][]found{}, 0
	for _, s := range spaces {
		read += s.read
		for _, key := range s.keys {
			credential := credentialAtEnd.FindStringSubmatch(key)[1]
			if len(credentials) > 0 && !slices.Contains(credentials, credential) {
				continue
			}
			one := record.Read(ctx, s.cache, key, d.Keys)
			if one.Record.Version > 0 || one.Sealed { // otherwise it is not wxtoken's
				all[credential] = append(all[credential], found{s.place + key, one})
			}
		}
		if s.close != nil {
			_ = s.close()
		}
	}
	doubles := 0
	for _, credential := range slices.Sorted(maps.Keys(all)) {
		if len(all[credential]) > 1 {
			doubles++
			r.add(double(credential, all[credential]))
		}
	}
	if doubles == 0 {
		r.ok("scan", "%d keys searched: %d records, no duplicates", read, len(all))
	}
}

// double describes several records of one credential.
func double(credential string, records []found) Finding {
	kind, id := kindOf(credential)
	f := Finding{Level: Fail, Area: "scan", weight: decisive}
	var places []string
	live := 0
	for _, one := range records {
		text := one.place
		switch {
		case one.Err != nil:
			text += " (sealed)"
			live++
		case one.Usable(time.Now()):
			text += fmt.Sprintf(" (good for %s)", short(time.Until(one.Expires())))
			live++
		default:
			text += " (expired or rejected)"
		}
		places = append(places, text)
	}
	slices.Sort(places)
	f.Text = fmt.Sprintf("%s has %d records: %s", id, len(records), strings.Join(places, ", "))
	f.Do = "each belongs to a group of processes that fetches for itself, and supersedes the tokens of the others: give all the same store, database number and key prefix"
	switch {
	case live < 2:
		f.Level, f.weight = Warn, middle
		f.Do = "only one is in use: the other is left over from a move or a rename and will expire"
	case !supersedes(kind):
		f.Level, f.weight = Warn, middle
		f.Do = "the platform returns the same token to both, so this only doubles the fetches"
	}
	return f
}

// spaces lists the keys of the whole store.
func (d *Doctor) spaces(ctx context.Context) ([]*space, error) {
	switch d.Store.Kind {
	case store.Memcached:
		return d.servers(ctx)
	case store.File:
		return d.directory()
	case store.Cluster:
		s := &space{cache: d.Store}
		var mu sync.Mutex
		err := d.Store.Redis.(*redis.ClusterClient).ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			return s.search(ctx, c)
		})
		return []*space{s}, err
	}
	return d.databases(ctx, d.Store.Redis.(*redis.Client))
}

// search lists the keys of one database.
func (s *space) search(ctx context.Context, c *redis.Client) error {
	for keys := c.Scan(ctx, 0, "*:*", 1000).Iterator(); ; {
		if !keys.Next(ctx) {
			return keys.Err()
		}
		if s.add(keys.Val()); s.read >= mostKeys {
			return fmt.Errorf("it has over %d keys", mostKeys)
		}
	}
}

// databases searches each database of one server.
func (d *Doctor) databases(ctx context.Context, c *redis.Client) ([]*space, error) {
	numbers := []int{c.Options().DB}
	if text, err := c.Info(ctx, "keyspace").Result(); err == nil {
		numbers = nil
		for name := range parseInfo(text) {
			if n, err := strconv.Atoi(strings.TrimPrefix(name, "db")); err == nil {
				numbers = append(numbers, n)
			}
		}
	}
	slices.Sort(numbers)
	var all []*space
	for _, n := range numbers {
		o := *c.Options()
		o.DB = n
		one := redis.NewClient(&o)
		s := &space{place: fmt.Sprintf("database %d, ", n), cache: wxtoken.NewRedisCache(one), close: one.Close}
		if err := s.search(ctx, one); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// servers searches each Memcached server.
func (d *Doctor) servers(ctx context.Context) ([]*space, error) {
	s := &space{cache: d.Store}
	for _, addr := range d.Store.Addrs {
		keys, err := keysOfMemcached(ctx, addr)
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			s.add(key)
		}
	}
	return []*space{s}, nil
}

// directory searches a file store: the second line of a file is its key.
func (d *Doctor) directory() ([]*space, error) {
	files, err := filepath.Glob(filepath.Join(d.Store.Dir, "*"))
	if err != nil {
		return nil, err
	}
	s := &space{cache: d.Store}
	for _, file := range files {
		if strings.HasSuffix(file, ".lock") || strings.HasSuffix(file, ".new") {
			continue
		}
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(f)
		lines.Scan()      // the first line
		if lines.Scan() { // the second has the key
			s.add(lines.Text())
		}
		_ = f.Close()
	}
	return []*space{s}, nil
}
