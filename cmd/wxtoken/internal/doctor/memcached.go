package doctor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// askMemcached sends one command of the text protocol and returns the lines of the
// answer, up to the one that ends it.
func askMemcached(ctx context.Context, addr, command string) ([]string, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	end, ok := ctx.Deadline()
	if !ok {
		end = time.Now().Add(call)
	}
	_ = conn.SetDeadline(end)
	if _, err := io.WriteString(conn, command+"\r\n"); err != nil {
		return nil, err
	}
	var lines []string
	for in := bufio.NewScanner(conn); in.Scan(); {
		line := strings.TrimRight(in.Text(), "\r")
		word, _, _ := strings.Cut(line, " ")
		switch word {
		case "END":
			return lines, nil
		case "VERSION":
			return []string{line}, nil
		case "ERROR", "CLIENT_ERROR", "SERVER_ERROR", "BUSY":
			return nil, errors.New("memcached answered " + line)
		}
		lines = append(lines, line)
	}
	return nil, errors.New("memcached ended the connection in the middle of an answer")
}

// stats reads STAT lines.
func stats(lines []string) map[string]string {
	all := map[string]string{}
	for _, line := range lines {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "STAT" {
			all[f[1]] = f[2]
		}
	}
	return all
}

// examineMemcached examines every server: each has its share of the keys.
func (d *Doctor) examineMemcached(ctx context.Context, r *Report, credentials []string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*call)
	defer cancel()
	needed := map[string]bool{}
	for _, c := range credentials {
		needed[d.Store.ServerOf(d.Prefix+c)] = true
	}
	alive := true
	for _, addr := range d.Store.Addrs {
		took, err := median(func() error { _, err := askMemcached(ctx, addr, "version"); return err })
		if err != nil {
			r.unreachable("memcached "+addr, err)
			alive = alive && !needed[addr] && len(d.Store.Addrs) > 1
			continue
		}
		lines, err := askMemcached(ctx, addr, "stats")
		all := stats(lines)
		r.latency("memcached "+addr+": version "+all["version"], took)
		if err != nil {
			continue
		}
		number := func(name string) int64 { n, _ := strconv.ParseInt(all[name], 10, 64); return n }
		evicted := ""
		if n := number("evictions"); n > 0 {
			evicted = fmt.Sprintf("; %d items evicted since it started", n)
		}
		r.ok("store", "memory %s of %s%s: a record that is evicted costs one fetch", megabytes(number("bytes")), megabytes(number("limit_maxbytes")), evicted)
		if settings, err := askMemcached(ctx, addr, "stats settings"); err == nil && stats(settings)["cas_enabled"] == "no" {
			r.add(Finding{Level: Fail, Area: "store", weight: heavy, Text: "it runs with -C: it has no cas ids", Do: "start memcached without -C"})
		}
		if at := number("time"); at > 0 {
			off := time.Until(time.Unix(at, 0))
			clock(r, "the store's clock", off.Round(time.Second))
		}
	}
	return alive
}

// keysOfMemcached lists the keys of a server.
func keysOfMemcached(ctx context.Context, addr string) ([]string, error) {
	lines, err := askMemcached(ctx, addr, "lru_crawler metadump all")
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, line := range lines {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "key="), " ")
		if key, err := url.QueryUnescape(name); err == nil {
			keys = append(keys, key)
		}
	}
	return keys, nil
}
