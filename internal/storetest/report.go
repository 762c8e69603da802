package storetest

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

var rowsFile = flag.String("storetest.rows", "", "file to which each store that passes appends its row of docs/stores.md")

// A row is the result of a store in a run in which everything passed.
type row struct {
	Store, Version string
	Histories      int
	LastCaller     time.Duration // of the herd; 0: none
	Outage         string        // what happened to the store; "": nothing
	Back           time.Duration // until a new process had a token
	Kept           bool          // the record
}

// record appends the row to the file that make stores names.
func (r row) record(t *testing.T) {
	t.Helper()
	if *rowsFile == "" {
		return
	}
	f, err := os.OpenFile(*rowsFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewEncoder(f).Encode(r); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// english and chinese are the headings of the table, and words translates its cells.
var (
	english = []string{"store", "version", "suite", "histories", "herd: fetches, last caller", "failover or restart"}
	chinese = []string{"存储", "版本", "一致性测试", "已检验的历史", "惊群：获取次数，最后一个调用者", "故障切换或重启"}
	words   = strings.NewReplacer(
		"memory, of one process", "内存（单进程）", "file", "文件",
		"restart, nothing on disk", "重启，不落盘", "killed, restarted", "强杀后重启", "the key's master killed", "杀掉该 key 的主节点",
		"master killed", "杀掉主节点", "restart", "重启", ": token after ", "：", " s, record kept", " 秒后取得凭据，记录仍在",
		" s, record lost", " 秒后取得凭据，记录丢失",
	)
)

// table formats the rows in Markdown.
func table(headings []string, rows []row, translate func(string) string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(headings, " | "), strings.Repeat("---|", len(headings)))
	for _, r := range rows {
		herd, outage := "–", "–"
		if r.LastCaller > 0 {
			herd = fmt.Sprintf("1, %.1f ms", float64(r.LastCaller.Microseconds())/1000)
		}
		if r.Outage != "" {
			kept := "lost"
			if r.Kept {
				kept = "kept"
			}
			outage = fmt.Sprintf("%s: token after %.2f s, record %s", r.Outage, r.Back.Seconds(), kept)
		}
		fmt.Fprintf(&b, "| %s | %s | ✓ | %d | %s | %s |\n", translate(r.Store), r.Version, r.Histories, herd, translate(outage))
	}
	return b.String()
}

const (
	begin = "<!-- written by make stores -->\n"
	end   = "<!-- end -->\n"
)

// write puts the table of rows into a page, between its two comments.
func write(page, heading string, headings []string, rows []row, translate func(string) string) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, found := bytes.Cut(text, []byte(begin))
	_, after, closed := bytes.Cut(rest, []byte(end))
	if !found || !closed {
		return fmt.Errorf("%s has no place for the table", page)
	}
	heading = fmt.Sprintf(heading, time.Now().Format(time.DateOnly), runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	text = fmt.Appendf(nil, "%s%s%s\n\n%s%s%s", before, begin, heading, table(headings, rows, translate), end, after)
	return os.WriteFile(page, text, 0o644)
}

// readRows returns the rows of a run.
func readRows(path string) (rows []row, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for lines := json.NewDecoder(f); lines.More(); {
		var r row
		if err := lines.Decode(&r); err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}
