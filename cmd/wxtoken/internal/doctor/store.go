package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/store"
)

// examineStore reports whether it makes sense to read records from the store.
func (d *Doctor) examineStore(ctx context.Context, r *Report, credentials []string) bool {
	switch d.Store.Kind {
	case store.Memcached:
		if !d.examineMemcached(ctx, r, credentials) {
			return false
		}
	case store.File:
		if !d.examineDirectory(r) {
			return false
		}
	default:
		if !d.examineRedis(ctx, r, credentials) {
			return false
		}
	}
	d.trySwap(ctx, r)
	return true
}

// median runs fn a few times and returns its median duration.
func median(fn func() error) (time.Duration, error) {
	var took []time.Duration
	for range 5 {
		start := time.Now()
		if err := fn(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// unreachable reports why a store does not answer, and what to do.
func (r *Report) unreachable(name string, err error) {
	f := Finding{Level: Fail, Area: "store", Text: fmt.Sprintf("%s does not answer: %v", name, err), weight: decisive,
		Do: "check address, port, firewall and TLS; while it is down, processes use their copies until those expire"}
	switch text := err.Error(); {
	case strings.Contains(text, "WRONGPASS"), strings.Contains(text, "NOAUTH"), strings.Contains(text, "invalid password"):
		f.Do = "the user or the password is wrong, or missing in the URL: redis://user:password@host:port/database"
	case strings.Contains(text, "NOPERM"):
		f.Do = "this user lacks rights: +get +set +eval ~" + "wxtoken:* are needed"
	case strings.Contains(text, "DB index is out of range"):
		f.Do = "there is no such database number"
	}
	r.add(f)
}

// latency reports how fast a store answers.
func (r *Report) latency(what string, took time.Duration) {
	f := Finding{Area: "store", Text: fmt.Sprintf("%s, answers in %s", what, short(took))}
	if took > 100*time.Millisecond {
		f.Level = Warn
		f.Do = "look at its load and the network: callers without a token wait for several answers"
	}
	r.add(f)
}

// trySwap does on a scratch key what processes do on a record, and removes the key.
func (d *Doctor) trySwap(ctx context.Context, r *Report) {
	ctx, cancel := context.WithTimeout(ctx, call)
	defer cancel()
	scratch := strings.ToLower(rand.Text())
	key := d.Prefix + "doctor:" + scratch
	before, after := []byte("before"), []byte(strings.Repeat("after ", 500)) // as large as a record can be
	stored, err := d.Store.CompareAndSwap(ctx, key, nil, before, time.Minute)
	if err == nil && stored {
		stored, err = d.Store.CompareAndSwap(ctx, key, before, after, time.Minute)
	}
	wrong := false
	if err == nil && stored {
		wrong, err = d.Store.CompareAndSwap(ctx, key, before, before, time.Minute)
	}
	gone := d.remove(ctx, key, scratch, before, after)
	switch {
	case err != nil:
		r.add(cannotSwap(err))
	case !stored || wrong:
		r.add(Finding{Level: Fail, Area: "store", weight: heavy, Text: "a compare-and-swap on a scratch key failed",
			Do: "is this a proxy in front of the store, or a store that is only similar? Processes that share it would fetch concurrently"})
	case !gone:
		r.ok("store", "a swap on a scratch key works; the key expires within a minute")
	default:
		r.ok("store", "a swap on a scratch key works; the key is removed")
	}
}

// remove removes the scratch key, which has one of these values, in the only way that
// processes can: a swap to a value that expires at once. It reports whether the key
// is gone.
func (d *Doctor) remove(ctx context.Context, key, scratch string, values ...[]byte) bool {
	if d.Store.Kind == store.Memcached { // which keeps it for two seconds
		_ = d.Store.Memcached.Delete(key)
	}
	for _, value := range values {
		_, _ = d.Store.CompareAndSwap(ctx, key, value, []byte("-"), time.Millisecond)
	}
	d.pause(ctx, 5*time.Millisecond)
	if d.Store.Kind == store.File { // which would keep its files
		files, _ := filepath.Glob(filepath.Join(d.Store.Dir, "*"+scratch+"*"))
		for _, file := range files {
			_ = os.Remove(file)
		}
	}
	_, err := d.Store.Get(ctx, key)
	return errors.Is(err, wxtoken.ErrCacheMiss)
}

// cannotSwap reports what prevents writes to a store.
func cannotSwap(err error) Finding {
	f := Finding{Level: Fail, Area: "store", weight: heavy, Text: fmt.Sprintf("it can be read and not written to: %v", err),
		Do: "no process can renew the token while this lasts; see the message"}
	switch text := err.Error(); {
	case strings.Contains(text, "OOM"), strings.Contains(text, "out of memory"), errors.Is(err, os.ErrExist):
		f.Text = "it is full: it takes no new values, so no process can renew the token"
		f.Do = "raise maxmemory, remove what fills it, or set an eviction policy such as volatile-lru; wxtoken needs about 1 KB for an app"
	case strings.Contains(text, "READONLY"):
		f.Text = "it is a replica: it takes no writes"
		f.Do = "connect to the master; with Sentinel, use redis+sentinel://"
	case strings.Contains(text, "NOPERM"):
		f.Text = fmt.Sprintf("this user may not do what wxtoken needs: %v", err)
		f.Do = "ACL SETUSER … +get +set +eval ~wxtoken:*"
	case strings.Contains(text, "no cas ids"):
		f.Do = "start memcached without -C, and use no proxy that hides cas ids"
	}
	return f
}

func (d *Doctor) examineDirectory(r *Report) bool {
	info, err := os.Stat(d.Store.Dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		r.add(Finding{Level: Warn, Area: "store", Text: d.Store.Dir + " does not exist yet", weight: heavy,
			Do: "is this the directory that the processes use, on this machine and in this container? It is made when a token is first stored"})
		return false
	case err != nil:
		r.unreachable(d.Store.Dir, err)
		return false
	case !info.IsDir():
		r.unreachable(d.Store.Dir, errors.New("it is not a directory"))
		return false
	}
	f := Finding{Area: "store", Text: fmt.Sprintf("%s, mode %04o", d.Store.Dir, info.Mode().Perm())}
	if info.Mode().Perm()&0o022 != 0 {
		f.Level, f.Do = Warn, "chmod 0700: other users can replace the tokens"
	}
	r.add(f)
	return true
}

var _ wxtoken.Cache = (*store.Store)(nil)
