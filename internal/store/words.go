package store

import (
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"syscall"
)

// words are those that occur in errors of clients and servers, in lower case. No
// token is among them, so no error shows part of one.
var words = func() map[string]bool {
	list := make(map[string]bool)
	for w := range strings.FieldsSeq(`
		a about aborted access acl active adapter address after against all allowed already an and another any api
		are argument arguments args as ask asking at attempt auth authenticate authentication authorized available
		back backend bad be because been before begin beginning being both broken buffer busy but by
		bytes cache call called can can't cannot cancel canceled cancelled cas certificate change changed channel check
		checksum child choose client clients close closed closing cluster clusterdown cluster_state code column
		command commands commit compare-and-swap config configuration configure configured conflict
		connect connected connectex connecting connection connections constraint contains context corrupt corrupted
		could couldn't create created crossslot currently data database db dead deadline deadlock denied dial detected
		did didn't different directory disabled disk do does doesn't down driver due duplicate each eager elapsed election empty
		enabled encountered end ended enough entry eof err error errors escape etcdserver eval evalsha exceed exceeded
		execabort execute executed exhausted exist existing exists expected expire expired external fail failed
		failing failover failure fatal field file find first flags for forbidden foreign found free from full
		general get gets getting given got going group handshake has hash have header heartbeat hello held holding hy000 host i/o idle if implemented in
		index initialization initialize input instance instead integer interface internal interrupted into invalid is
		isn't it item its join key keys kind large last leader lease left length limit limited line
		listen loading local lock locked log long longer look looks lookup lost lua machine malformed many master masterdown
		match max maxclients maximum maxmemory may memcache memcached member memory message method mget misconf
		missing mode more moved multiple must mvcc name named near need needs network new next nil no noauth
		node nodes non nonce none noperm noproto noreplicas noscript not nothing null number object of off offline
		oom on one only open opened operation operations option options or other out out-of-range owner packet panicked
		parameter parse parsing part partition password peer pending perform permission permissions pg pipe ping pointer dereference poll
		pool pooled port possible pq pragma prepare prepared previous primary process processing protocol psync px query queue quorum
		quota raft range rate rdb reach reached read read-only read-write reading readonly ready reason recently
		recognized recovery redis refused reject rejected relation remote renew replica replicas reply replies
		request requests required reset restarting resource response restart result results retries retry role rollback row rows
		rpc rueidis running runtime goroutine save scan script sent sentinel sentinels serializable serialization serialize served server
		servers session set setsockopt shard serialize shutdown shut signed single size slave slot slots slow small snapshot socket some soon
		space specified sql sqlite sqlite_busy sqlite_full sqlite_ioerr sqlite_locked sqlite_readonly
		sqlstate ssl starting state statement statistics status stop stopped storage store stored storing string such support supported
		syntax system table task tcp tcp4 tcp6 temporarily terminated that the their them there this time timed timeout tls to too
		transaction tried try tryagain trying type udp unable unauthorized unavailable under unexpected unique
		unix unknown unlock unreachable unrecoverable unsupported until unusable up update usage use used user username
		using valid value values version violates violation wait waited waiting was were when which while
		will with within without word worker would write writing writes written wrong wrongpass wrongtype wsarecv wsasend
		wxtoken x509 you your ok`) {
		list[w] = true
	}
	return list
}()

// listed reports whether a word can be shown: it is on the list, or a number of at
// most five digits, with any punctuation.
func listed(word string) bool {
	core := strings.Trim(word, "\"'`()[]{}<>.,:;!?=")
	number := len(core) <= 5 && strings.Trim(core, "0123456789") == ""
	return number || words[strings.ToLower(core)]
}

// hints say what an operator can do, depending on an error's text.
var hints = []struct{ phrase, hint string }{
	{"connection pool timeout", "every connection of the client's pool is in use: raise PoolSize, or find what keeps them"},
	{"connection pool exhausted", "every connection of the client's pool is in use: raise PoolSize, or find what keeps them"},
	{" MOVED ", "the server is a node of a cluster: use redis.NewClusterClient"},
	{" ASK ", "the server is a node of a cluster: use redis.NewClusterClient"},
	{" READONLY ", "the server is a replica: use the master"},
	{" NOAUTH ", "the client gave no password"},
	{" WRONGPASS ", "user name or password is wrong"},
	{" NOPERM ", "the user's rights are too few: docs/operations.md lists what is needed"},
	{" OOM ", "the server's memory is full and its policy is noeviction: no token can be refreshed until there is room"},
	{" MISCONF ", "the server cannot save to its disk, and takes no writes until it can"},
	{"unknown command", "the server, or a proxy before it, lacks a command that is needed: GET, SET and EVAL"},
	{"all sentinels specified", "check the addresses of the sentinels and the name of the master"},
	{"out of memory storing", "the server's memory is full: start Memcached without -M"},
	{"http: server gave HTTP response", "the client speaks TLS and the server does not"},
}

// hint says what an operator can do about err, or nothing.
func hint(err error, text string) string {
	for _, h := range hints {
		if strings.Contains(" "+text, h.phrase) {
			return h.hint
		}
	}
	var plain tls.RecordHeaderError
	switch {
	case errors.As(err, &plain):
		return "the client speaks TLS and the server does not"
	case errors.Is(err, io.EOF):
		return "the other side closed the connection: a server that stopped, one that expects TLS, or a proxy that knows no HELLO, such as twemproxy, does so"
	case errors.Is(err, syscall.ENOSPC):
		return "the disk is full"
	}
	return ""
}
