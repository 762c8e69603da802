# `make` or `make help` lists the targets. Each works on every module of the repository unless it says otherwise.

# Nested modules come first, the root last.
MODULES := $(shell find . -name go.mod -not -path './.cache/*' | xargs -n 1 dirname | sort -r)
each = set -e; for dir in $(MODULES); do echo "== $$dir"; $(1); done

# What compiles half of the Go ecosystem is tested by `make test-all` only: the peers in bench.
HEAVY := ./bench

# What needs drivers, SDKs and servers of its own is tested by `make stores`.
STORES := ./stores/sqlcache ./stores/rueidiscache ./stores/etcdcache ./internal/storetest/newest

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
PLATFORMS   := linux/amd64 linux/arm64 linux/386 linux/arm darwin/amd64 darwin/arm64 windows/amd64 windows/arm64
COVERAGE    := 90
FUZZTIME    ?= 1m
CHAOS_TIME  ?= 1m
CHAOS_SEED  ?= 0

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test
test: servers ## vet and run all tests with the race detector, against real servers
	@$(MAKE) --no-print-directory -j 2 test-race test-rest

# A program with the race detector sleeps for a second before it ends, in case another goroutine still has a race to report.
export GORACE := atexit_sleep_ms=50

# go-redis takes a fifth of the time that it takes to compile everything, half of it for inlining.
test-race test-rest: export GOFLAGS := $(GOFLAGS) -gcflags=github.com/redis/...=-l -gcflags=github.com/go-redis/...=-l

# -race by GOFLAGS, so that what the tests build by themselves comes from the same build cache.
# More packages at a time than there are processors, as most of them wait; the longest first.
.PHONY: test-race
test-race:
	@GOFLAGS="$$GOFLAGS -race" go test -vet=all -p 4 ./internal/chaos ./openplatform . ./internal/storetest ./internal/sim ./...

# What the race detector would only slow down: with it, less is simulated, and the search is left out. `make test-race` vets
# these packages. Then the nested modules, with it.
.PHONY: test-rest
test-rest:
	@go test -vet=off ./internal/protocol ./internal/sim
	@go test -vet=off -run '^Test(Guard|Simulation|RefreshTokensLast|TenThousand|ALate|PushesArrive|.*ClockIsOff)' . ./openplatform ./examples/manyapps
	@set -e; export GOFLAGS="$$GOFLAGS -race"; \
	for dir in $(filter-out . $(HEAVY) $(STORES),$(MODULES)); do (cd $$dir && go test -vet=all ./...); done

.PHONY: test-all
test-all: test stores alerts ## test, stores, alerts, and the tests of the heavy modules
	@set -e; for dir in $(HEAVY); do echo "== $$dir"; (cd $$dir && go test -race -vet=all ./...); done

.PHONY: stores
stores: ## try every store on real servers, some five minutes, and write the table of docs/stores.md
	@sh .ci/install-servers redis-server memcached postgresql mariadb-server valkey-server
	@set -e; rows=$$(mktemp); trap 'rm -f $$rows' EXIT; \
	for dir in ./internal/storetest $(STORES); do echo "== $$dir"; \
		(cd $$dir && go test -count=1 -vet=all -timeout 30m . -storetest.full -storetest.rows $$rows); done; \
	go test -count=1 ./internal/storetest -run TestWriteTable -storetest.rows $$rows -storetest.write

.PHONY: stores-short
stores-short: ## a shorter try of the stores in modules of their own, for CI
	@sh .ci/install-servers redis-server memcached postgresql mariadb-server valkey-server
	@set -e; for dir in $(STORES); do echo "== $$dir"; (cd $$dir && go test -vet=all .); done

.PHONY: alerts
alerts: ## play the troubles of examples/metrics/alerts_test.yml with promtool
	@command -v promtool >/dev/null || sh .ci/apt-install prometheus
	cd examples/metrics && promtool check rules alerts.yml && promtool test rules alerts_test.yml

.PHONY: fleets
fleets: ## simulate each fleet of the second table of docs/measurements.md (about half an hour); FLAGS adds to it
	@go test ./internal/sim -run TestFleets -v -timeout 0 -sim.fleets $(FLAGS)

.PHONY: release-check
release-check: ## show that the working tree can be released: install the program and use the library from a module proxy of files
	@go run ./internal/releasecheck

.PHONY: serve-figures
serve-figures: ## measure wxtoken serve beside a bare handler and a bare proxy, some ten minutes
	@command -v wrk >/dev/null || sh .ci/apt-install wrk
	go test -count=1 -v -timeout 30m ./cmd/wxtoken/internal/serve -run 'TestFigures|TenThousand' -figures

.PHONY: clients
clients: ## run the clients in PHP, Python, Node and Java, and the page of wxtoken serve in Chromium
	@command -v php >/dev/null || sh .ci/apt-install php-cli php-curl
	@command -v python3 >/dev/null || sh .ci/apt-install python3
	@command -v node >/dev/null || sh .ci/apt-install nodejs
	@command -v javac >/dev/null || sh .ci/apt-install openjdk-17-jdk-headless
	@command -v chromium >/dev/null || sh .ci/apt-install chromium
	go test -count=1 ./cmd/wxtoken -clients

.PHONY: bench
bench: servers ## measure wxtoken and its peers, some ten minutes, and write docs/benchmarks.md
	cd bench && go run .

.PHONY: servers
servers: ## install redis-server and memcached where they are missing (Debian, as root or with sudo)
	@sh .ci/install-servers

.PHONY: lint
lint: ## gofmt, go vet, staticcheck and govulncheck
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "gofmt -w $$unformatted"; exit 1; }
	@$(call each,(cd $$dir && go vet ./... && go run $(STATICCHECK) ./...))
	@$(call each,(cd $$dir && GOVULNCHECK=$(GOVULNCHECK) sh $(CURDIR)/.ci/govulncheck))

.PHONY: cover
cover: servers ## fail if tests cover less than 90 % of the statements of the root package and internal/protocol
	@go test -coverprofile=coverage.out -coverpkg=.,./internal/protocol . ./internal/protocol
	@go tool cover -func=coverage.out | awk '/^total:/ { sub("%", "", $$3); covered = $$3 } \
		END { printf "%s %% covered, at least $(COVERAGE) %% wanted\n", covered; exit covered + 0 < $(COVERAGE) }'

.PHONY: docs-check
docs-check: ## check commands, Go code and links in the documentation (part of test)
	@go test -count=1 -skip TestAPI ./internal/docscheck

.PHONY: api-check
api-check: ## compare the exported names with docs/api.txt (part of test)
	@go test -count=1 -run TestAPI ./internal/docscheck

# The last commit of version 0.1, which has no tag.
VERSION01 := bd97c987ead562a00e67c3709044a00b2c7c6175

APIDIFF := golang.org/x/exp/cmd/apidiff@v0.0.0-20261113113407-e3970619a1a4

.PHONY: api-diff
api-diff: ## say by apidiff what changed in the exported names since BASE (HEAD), and whether it is compatible
	@set -e; old=$$(mktemp -d); trap 'git worktree remove --force $$old/base; rm -rf $$old' EXIT; \
	git worktree add -q --detach $$old/base $(or $(BASE),HEAD); \
	(cd $$old/base && go run $(APIDIFF) -m -w $$old/export github.com/wxtoken/wxtoken); \
	go run $(APIDIFF) -m -w $$old/now github.com/wxtoken/wxtoken; \
	go run $(APIDIFF) -m $$old/export $$old/now

.PHONY: api
api: ## write docs/api.txt
	@go test -count=1 -run TestAPI ./internal/docscheck -update

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME (1m)
	@grep -roE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | while IFS=: read -r file func; do \
		echo "== $$file $${func#func }"; \
		(cd "$$(dirname "$$file")" && go test -run '^$$' -fuzz "^$${func#func }\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x .) || exit 1; \
	done

.PHONY: side-by-side
side-by-side: servers ## run processes of the version at BASE (0.1) beside today's, upgrade and downgrade them
	@set -e; old=$$(mktemp -d); trap 'git worktree remove --force $$old/base; rm -rf $$old' EXIT; \
	git worktree add -q --detach $$old/base $(or $(BASE),$(VERSION01)); \
	mkdir $$old/base/internal/chaos/worker; cp internal/chaos/testdata/worker.go $$old/base/internal/chaos/worker/main.go; \
	(cd $$old/base && go build -o $$old/worker ./internal/chaos/worker); \
	go test ./internal/chaos -run TestSideBySide -v -count 1 -chaos.other $$old/worker

.PHONY: soak
soak: ## search every interleaving further, and simulate 50 processes for a virtual year with 10 seeds (about an hour); FLAGS adds to it
	@go test ./internal/protocol -run TestEveryInterleaving -v -timeout 0 -search.deep
	@go test ./internal/sim -run TestPlay -v -timeout 0 -sim.run protocol -sim.days 365 -sim.seeds 10 -sim.trace $(FLAGS)

.PHONY: figures
figures: ## simulate the first table of docs/measurements.md (about five minutes)
	@go test ./internal/sim -run TestFigures -v -timeout 0 -sim.table -sim.trace

.PHONY: chaos
chaos: servers ## kill, stop and cut off processes and servers for CHAOS_TIME (1m) per backend, by CHAOS_SEED (0: any)
	@go test ./internal/chaos -run '^(TestNoFaults|TestChaos)$$' -v -count 1 -timeout 0 \
		-chaos.time $(CHAOS_TIME) -chaos.seed $(CHAOS_SEED)

.PHONY: cross
cross: ## build and vet all but the heavy modules for every platform, without cgo
	@set -e; for platform in $(PLATFORMS); do \
		export GOOS=$${platform%/*} GOARCH=$${platform#*/} CGO_ENABLED=0; \
		for dir in $(filter-out $(HEAVY) $(STORES),$(MODULES)); do echo "== $$platform $$dir"; (cd $$dir && go build -o /dev/null ./... && go vet ./...); done; \
	done

.PHONY: test-32bit
test-32bit: ## run the root module's tests as 32-bit programs (on linux/amd64)
	@GOARCH=386 CGO_ENABLED=0 go test ./...
