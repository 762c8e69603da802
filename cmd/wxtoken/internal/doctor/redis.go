package doctor

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxtoken/wxtoken/cmd/wxtoken/internal/store"
)

// examineRedis examines the server that has the records: in a Cluster, the master of
// each record's slot.
func (d *Doctor) examineRedis(ctx context.Context, r *Report, credentials []string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*call)
	defer cancel()
	cluster, ok := d.Store.Redis.(*redis.ClusterClient)
	if !ok {
		return d.examineServer(ctx, r, d.Store.Name, d.Store.Redis)
	}
	keys := []string{d.Prefix}
	if len(credentials) > 0 {
		keys = nil
		for _, c := range credentials {
			keys = append(keys, d.Prefix+c)
		}
	}
	seen := map[string]bool{}
	for _, key := range keys {
		node, err := cluster.MasterForKey(ctx, key)
		if err != nil {
			r.unreachable(d.Store.Name, err)
			return false
		}
		addr := node.Options().Addr
		if !seen[addr] && !d.examineServer(ctx, r, d.Store.Name+", node "+addr, node) {
			return false
		}
		seen[addr] = true
	}
	return true
}

func (d *Doctor) examineServer(ctx context.Context, r *Report, name string, c redis.UniversalClient) bool {
	took, err := median(func() error { return c.Ping(ctx).Err() })
	if err != nil && strings.Contains(err.Error(), "NOPERM") { // the user has only the necessary rights
		took, err = median(func() error { return ignoreNil(c.Get(ctx, d.Prefix+"doctor").Err()) })
	}
	if err != nil {
		r.unreachable(name, err)
		return false
	}
	text, err := c.Info(ctx).Result()
	info := parseInfo(text)
	if err != nil {
		r.latency(name, took)
		r.ok("store", "version, role and memory were not looked at: this user may not use INFO, which wxtoken does not need")
		return true
	}
	kind := "Redis"
	if v := info["valkey_version"]; v != "" {
		kind, info["redis_version"] = "Valkey", v
	}
	r.latency(fmt.Sprintf("%s: %s %s", name, kind, info["redis_version"]), took)
	r.add(role(info))
	r.add(memory(info))
	if info["loading"] == "1" {
		r.add(Finding{Level: Fail, Area: "store", weight: heavy, Text: "it is still reading its data from disk", Do: "wait until it has; until then it answers with errors"})
	}
	before := time.Now()
	if at, err := c.Time(ctx).Result(); err == nil {
		middle := before.Add(time.Since(before) / 2)
		clock(r, "the store's clock", at.Sub(middle))
	}
	return true
}

func ignoreNil(err error) error {
	if err == redis.Nil {
		return nil
	}
	return err
}

// role reports whether the server is the one to read and write.
func role(info map[string]string) Finding {
	if info["role"] == "slave" || info["role"] == "replica" {
		return Finding{Level: Fail, Area: "store", weight: heavy,
			Text: fmt.Sprintf("it is a replica of %s:%s, with the link %s", info["master_host"], info["master_port"], info["master_link_status"]),
			Do:   "connect to the master: a replica shows old records, and takes no writes; with Sentinel, use redis+sentinel://"}
	}
	text := "it is the master"
	if n := info["connected_slaves"]; n != "" && n != "0" {
		text += ", with " + n + " replicas"
	}
	return Finding{Area: "store", Text: text}
}

// memory reports whether there is room, and what is evicted when there is none.
func memory(info map[string]string) Finding {
	number := func(name string) int64 { n, _ := strconv.ParseInt(info[name], 10, 64); return n }
	used, most, policy := number("used_memory"), number("maxmemory"), info["maxmemory_policy"]
	evicted := ""
	if n := number("evicted_keys"); n > 0 {
		evicted = fmt.Sprintf("; %d keys evicted since it started", n)
	}
	f := Finding{Area: "store", Text: fmt.Sprintf("memory %s of %s, policy %s%s", megabytes(used), megabytes(most), policy, evicted)}
	if most == 0 {
		f.Text = fmt.Sprintf("memory %s, no limit, policy %s", megabytes(used), policy)
		return f
	}
	if policy == "noeviction" && used > most*9/10 {
		f.Level = Warn
		f.Do = "when it is full it takes no new values: raise maxmemory, or set an eviction policy"
	}
	return f
}

func megabytes(n int64) string {
	if n == 0 {
		return "0"
	}
	return fmt.Sprintf("%.1f MB", float64(n)/(1<<20))
}

// parseInfo parses the answer to INFO.
func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

// left returns how long the store will keep a record; 0: unknown, below 0: it has no
// expiry.
func (d *Doctor) left(ctx context.Context, key string) time.Duration {
	if d.Store.Kind == store.Memcached || d.Store.Kind == store.File {
		return 0
	}
	left, err := d.Store.Redis.PTTL(ctx, key).Result()
	if err != nil {
		return 0
	}
	return left
}
