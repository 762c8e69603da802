// The tests of the package, by subject:
//
//	source_test.go            Token, Wait, Peek, Run: who blocks, and for how long
//	invalidate_test.go        rejected tokens
//	faults_test.go            the platform, the store and other processes fail
//	fetcher_test.go           requests, answers, secrets, tickets, endpoints
//	transport_test.go         Transport
//	rules_test.go             what a Source knows of its Fetcher: the name of its member
//	caches_test.go            the caches, on real servers
//	options_test.go           options, encryption, Events
//	redaction_test.go         nothing shows a secret or a token, and no redirect takes one away
//	example_test.go           Examples; that of other platforms is endpoint_example_test.go
//	helpers_test.go           fakes, and what several files say
//
// Fleets and days of virtual time are in internal/sim, and each decision of the
// protocol is in internal/protocol, with a table in its testdata.
//
// The promises of README.md ("What is promised"), and the tests that hold them:
//
//  1. One fetch in a token's lifetime, whatever the number of processes:
//     TestThousandColdCallersMakeOneFetch, TestRefreshIsSeamless;
//     in internal/sim TestNoFaults, and "WeCom, three days" of TestFleets.
//  2. A caller waits only while there is no usable token, never beyond its ctx,
//     and fails for no other's: TestRefreshIsSeamless,
//     TestCacheDown, TestWaiterLeavesAtItsDeadline,
//     TestOthersGoOnWhenTheFirstCallerIsCancelled,
//     TestAFetcherOrCacheThatMisbehavesBlocksNobody.
//  3. No copy is handed out that was not compared with the record for 45 s:
//     TestOtherProcessesAdoptARefreshWithinTheLocalAge, TestOldCopyAndASlowCache,
//     TestPatienceOutlastsAPause.
//  4. No process, store or clock takes a usable token from the others, or makes
//     all of them fetch more than 320 times a day. In internal/sim: TestFleets,
//     and by what goes wrong
//     a sick member: TestOneMemberBehindABadProxy, TestAWrappedFetcherWithTheOldSecret;
//     a forgetful store: TestAStoreThatKeepsTheRecordForSeconds,
//     TestNobodyLacksATokenOnAForgetfulStore; rejections: TestDaysOfRejections,
//     TestAnyClockThatReportsEveryToken;
//     a clock: TestAClockThatWasOffAtTheFirstFetch, TestAClockThatIsAheadGivesNoLongerLife;
//     options: TestOneMemberWithOddOptions, TestOptionsThatDiffer; short lives:
//     TestACronJob, TestALeaseOfADeadProcessInAnEmptyStore; a value that is renewed:
//     TestAValueThatIsRenewed, a short one in internal/protocol:
//     TestRefreshAtOfRepeatableTokens; no answer for hours: TestATestAccountsQuota.
//  5. Nothing holds the secret or part of a token:
//     TestNothingShowsTheSecretOrAToken, TestErrorsOfAStoreShowNoRecord,
//     TestErrorsOfABaseShowNoToken, TestTransportRedirects, TestTransportLocations,
//     TestTokenIsPrintedRedacted, TestEndpointShowsNoSecret.
//  6. Calls can be rejected all the same; what recovers from it:
//     TestInvalidate, TestAgeFromWhichARejectionIsBelieved,
//     TestInvalidateNilMeansThatTheTokenIsOutOfUse.
//
// What the rest of README.md says:
//
//   - After the first call, no lock, no I/O, no allocation: TestFastPathTakesNoLock, TestGuardHotPath,
//     TestSteadyStateReadsTheCacheTwiceAMinute, TestFastPathEndsInTime.
//   - The token is replaced before it expires: TestRefreshIsSeamless,
//     TestRunKeepsTheTokenFresh.
//   - Recovery when processes die or hang in a fetch: TestDeadProcess,
//     TestPausedProcessDoesNotPublish, TestLeasesGrow;
//     when replies get lost: TestLostRepliesOfTheCache, TestFetchThroughFaults;
//     when the store loses its data, or somebody deletes it: TestStoreLosesTheRecord,
//     TestStoreGoesBack; while it is down: TestCacheDown, TestCachesWithoutAServer;
//     when the platform denies or is busy: TestCooldowns, TestBusyPlatformIsWaitedOut.
//   - Transport replaces exactly the rejected token and sends once more:
//     TestTransportQuery, TestTransportReplaysBodies,
//     TestTransportReplacesWhatWasHandedOut.
//   - NewStableFetcher with a memory in each process, NewFetcher never:
//     TestDaysOfAMemoryEach.
//   - The caches keep the contract: TestCachesKeepTheContract.
//   - Tickets, WeCom, QQ, endpoints: TestFetchRequests, TestTicketsOnSources,
//     TestDaysOfTickets, TestBadEndpoints, ExampleNewQQFetcher,
//     ExampleNewEndpointFetcher.
//   - Repeatable fetchers fetch while the cache is down: TestRepeatable, TestCacheDown.
//   - WithSecretFunc is asked before each fetch: TestSecretFunc,
//     TestANewSecretEndsTheCooldown; a wrong secret blocks no other: TestWrongSecret.
//   - Peek does no I/O and no waiting: TestPeekAgreesWithToken.
//   - Wait leaves no fetch half done: TestWait.
//   - Events and log lines: TestLogLines, TestAnOutageIsLoggedOnce, TestEventLevels,
//     TestIgnoredAndConflictOnceAMinute.
package wxtoken_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wxtoken/wxtoken"
)

func TestTokenValid(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		now := time.Now()
		assert.False(t, wxtoken.Token{}.Valid())
		assert.False(t, wxtoken.Token{ExpiresAt: now.Add(time.Hour)}.Valid())
		assert.False(t, wxtoken.Token{Value: "v", ExpiresAt: now}.Valid())
		assert.True(t, wxtoken.Token{Value: "v", ExpiresAt: now.Add(1)}.Valid())
	})
}

func TestTokenIsPrintedRedacted(t *testing.T) {
	tok := wxtoken.Token{Value: "hidden", ExpiresAt: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)}
	const want = "Token(redacted, expires 2026-11-22T10:00:00Z)"
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		assert.Equal(t, want, fmt.Sprintf(verb, tok), verb)
	}
	assert.Equal(t, want, tok.GoString())
	assert.Equal(t, "Token(none)", wxtoken.Token{}.String())
	b, err := json.Marshal(map[string]any{"t": tok})
	require.NoError(t, err)
	assert.JSONEq(t, `{"t":"`+want+`"}`, string(b))
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "t", tok)
	assert.Contains(t, log.String(), want)
}

// The table of contents above names all files, and tests that exist.
func TestTableOfContents(t *testing.T) {
	contents, err := os.ReadFile("token_test.go")
	require.NoError(t, err)
	contents, _, _ = bytes.Cut(contents, []byte("package wxtoken_test"))
	var all []byte
	for _, dir := range []string{".", "internal/sim", "internal/protocol"} {
		files, err := filepath.Glob(dir + "/*_test.go")
		require.NoError(t, err)
		require.NotEmpty(t, files, dir)
		for _, file := range files {
			if dir == "." && file != "token_test.go" && !strings.HasPrefix(file, "zz_") {
				assert.Contains(t, string(contents), file)
			}
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			all = append(all, text...)
		}
	}
	named := regexp.MustCompile(`\b(Test|Example)[A-Z]\w*\b`).FindAllString(string(contents), -1)
	assert.Greater(t, len(named), 60)
	for _, name := range named {
		assert.Contains(t, string(all), "\nfunc "+name+"(")
	}
}
