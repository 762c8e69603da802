package serve

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A language is one of the page.
type language int

const (
	english language = iota
	chinese
)

// words are the texts of the page, in English and in Chinese.
var words = map[string][2]string{
	"title":       {"Token server", "中控服务器"},
	"apps":        {"Apps", "应用"},
	"with token":  {"with a token", "有可用凭据"},
	"trouble":     {"with problems", "有问题"},
	"store":       {"Store", "存储"},
	"since":       {"running for", "已运行"},
	"updates":     {"updates itself every 5 seconds; shows no tokens", "每 5 秒自动更新；不显示凭据"},
	"search":      {"Find an app", "查找应用"},
	"more":        {"%d more apps are not shown: search for one", "另有 %d 个应用未显示：请搜索"},
	"nothing":     {"No app of this name", "没有这个应用"},
	"answers":     {"answers in %s", "%s 内响应"},
	"memory":      {"memory of this process: run no second server", "本进程内存：不要再运行第二个服务器"},
	"left":        {"Left", "剩余"},
	"last fetch":  {"Last fetch", "上次获取"},
	"by us":       {"%s ago, by this server", "%s前，由本服务器"},
	"by others":   {"%s ago, by another process", "%s前，由其他进程"},
	"cooldown":    {"Not asked again for", "暂停获取"},
	"reason":      {"Reason", "原因"},
	"conflicts":   {"Conflicts", "冲突"},
	"rejections":  {"Rejected", "被拒绝"},
	"cache":       {"Store errors", "存储错误"},
	"none":        {"none", "无"},
	"times":       {"%d, last %s ago", "%d 次，最近一次 %s前"},
	"fetch fails": {"Fetch failed", "获取失败"},
	"ago":         {"%s ago: %s", "%s前：%s"},
	"draining":    {"stopping", "正在停止"},

	"good":        {"good", "正常"},
	"replacing":   {"good; being replaced", "可用；正在更换"},
	"doubtful":    {"good; one more fetch is owed, to be sure that it is the latest", "可用；还需再获取一次，才能确定是最新的"},
	"ending":      {"good, but overdue: it should have been replaced by now", "可用，但本应已更换"},
	"rejected":    {"an API rejected it; being replaced", "被接口拒绝，正在更换"},
	"expired":     {"expired, and not replaced", "已过期，未能更换"},
	"empty":       {"no token yet", "还没有凭据"},
	"unreadable":  {"the record in the store cannot be read", "存储中的记录无法读取"},
	"on its copy": {"good; the store does not answer", "可用；存储无响应"},
	"no store":    {"no token, and the store does not answer", "没有凭据，存储无响应"},
	"early":       {"%d tokens in a row were rejected early: another system probably fetches for this app", "连续 %d 个凭据提前被拒绝：可能有别的系统也在为此应用获取"},
}

// say returns a text in a language, with its arguments.
func (l language) say(key string, args ...any) string {
	text, known := words[key]
	if !known {
		return key
	}
	if len(args) == 0 {
		return text[l]
	}
	return fmt.Sprintf(text[l], args...)
}

// code returns the language for the page's lang attribute.
func (l language) code() string { return [...]string{"en", "zh-CN"}[l] }

// duration formats a duration for people.
func (l language) duration(d time.Duration) string {
	units := [2][4]string{{" d", " h", " min", " s"}, {" 天", " 小时", " 分钟", " 秒"}}[l]
	switch d = max(d, 0); {
	case d >= 48*time.Hour:
		return strconv.Itoa(int(d/(24*time.Hour))) + units[0]
	case d >= time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + units[1] + " " + strconv.Itoa(int(d%time.Hour/time.Minute)) + units[2]
	case d >= time.Minute:
		return strconv.Itoa(int(d/time.Minute)) + units[2]
	}
	return strconv.Itoa(int(d/time.Second)) + units[3]
}

// preferred returns the language that an Accept-Language header prefers.
func preferred(header string) language {
	best, at := english, 0.0
	for part := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		weight := 1.0
		if q, ok := strings.CutPrefix(strings.TrimSpace(params), "q="); ok {
			weight, _ = strconv.ParseFloat(q, 64)
		}
		primary, _, _ := strings.Cut(strings.ToLower(name), "-")
		l, known := map[string]language{"en": english, "zh": chinese}[primary]
		if known && weight > at {
			best, at = l, weight
		}
	}
	return best
}
