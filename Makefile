# Everything a contributor runs. `make help` lists it.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO ?= go

# All modules are in go.work and nowhere else: "work" is go's own pattern for the packages of all of them, and $(MODULES)
# prints their directories. Where a module has to stand alone, without the workspace, the command says GOWORK=off.
export GOWORK := $(CURDIR)/go.work
MODULES := $(GO) list -m -f '{{.Dir}}'

LINTER := $(CURDIR)/bin/golangci-lint

ADDR ?= 127.0.0.1:8000
EXAMPLE ?= items
STORE ?=
ARGS ?=
PKG ?= work
TIMEOUT ?= 10m
N ?= 20
BENCH ?= .
COUNT ?= 1
WORKLOAD ?=
MESSAGES ?= 1000000
# A number of inputs and not a time: go 1.26 may fail a fuzz test for no reason when its time is up (go.dev/issue/75804).
FUZZ ?= 20000x

# SQLite is C that was translated to Go. Its memory is not Go's, and processes share a part of it by design, so that there is nothing
# in it for the race detector to find; under it, the tests of the module sqlite take several times as long.
RACE := -race '-gcflags=modernc.org/...=-race=false'

.PHONY: help
help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

.PHONY: run
run: ## Run the example service; EXAMPLE=bank another one, ADDR=127.0.0.1:8000, STORE= where it keeps its data, ARGS= any other flags
	$(GO) run ./examples/$(EXAMPLE) -addr '$(ADDR)' $(if $(STORE),-store '$(STORE)') $(ARGS)

# The go command caches the result of a test by what the test itself reads. The architecture test lets the go command read the
# sources, which the cache cannot see, so it always runs.
.PHONY: test
test: ## Test all modules with the race detector; PKG=./memory for one package
	$(GO) test $(RACE) -timeout $(TIMEOUT) $(PKG)
	$(GO) test $(RACE) -timeout $(TIMEOUT) -count=1 ./tests/architecture ./tests/docs

.PHONY: lint
lint: bin/golangci-lint ## Check formatting, vet, golangci-lint and the go.mod and go.sum of all modules
	@status=0; \
	unformatted=$$(gofmt -l .); \
	if [ -n "$$unformatted" ]; then echo "not formatted, run 'make fmt':"; echo "$$unformatted"; status=1; fi; \
	for dir in $$($(MODULES)); do \
		cd "$$dir"; echo "lint $$dir"; \
		GOWORK=off $(GO) vet ./... || status=1; \
		$(LINTER) run ./... || status=1; \
	done; \
	for dir in $$($(MODULES)) '$(CURDIR)/tools'; do \
		cd "$$dir"; \
		GOWORK=off $(GO) mod tidy -diff || { echo "go.mod or go.sum in $$dir is not up to date, run 'make tidy'"; status=1; }; \
		GOWORK=off $(GO) mod verify >/dev/null || status=1; \
	done; \
	exit $$status

# The linter has a module of its own, so its requirements reach no other module.
bin/golangci-lint: tools/go.mod tools/go.sum
	@echo "building golangci-lint, as pinned in tools/go.mod; this takes a minute or two, once"
	@mkdir -p bin
	cd tools && GOWORK=off $(GO) build -o ../bin/ tool
	@touch $@

.PHONY: fmt
fmt: bin/golangci-lint ## Format all Go files
	@for dir in $$($(MODULES)); do cd "$$dir"; $(LINTER) fmt ./...; done

.PHONY: tidy
tidy: ## Bring the go.mod and go.sum of all modules up to date
	@for dir in $$($(MODULES)) '$(CURDIR)/tools'; do cd "$$dir"; GOWORK=off $(GO) mod tidy; done

.PHONY: check
check: lint test example-smoke fuzz-smoke ## Do all that a change has to pass: lint, test, examples, fuzz tests

.PHONY: bench
bench: ## Compare with a peer and bare loops: a table, and charts in docs/benchmarks; WORKLOAD= some, for the table alone
	$(GO) run ./bench $(if $(WORKLOAD),-only '$(WORKLOAD)',-out docs/benchmarks)

.PHONY: bench-quick
bench-quick: ## Fail when a ratio of the comparison is below its floor; takes a minute
	$(GO) run ./bench -quick $(if $(WORKLOAD),-only '$(WORKLOAD)')

.PHONY: bench-micro
bench-micro: ## Run the benchmarks inside of the packages; BENCH= pattern, COUNT= repetitions, PKG= package
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) -timeout 60m $(PKG)

.PHONY: bench-smoke
bench-smoke: ## Run every benchmark of the packages once, so that none of them rots
	$(GO) test -run '^$$' -bench . -benchtime 1x -timeout $(TIMEOUT) $(PKG)

.PHONY: profile
profile: ## Show where our time, memory and waiting go in a WORKLOAD=router-chain; the profiles stay in bench/profiles
	$(GO) run ./bench -profile '$(or $(WORKLOAD),$(error WORKLOAD= names one of the workloads that `go run ./bench -list` prints))'

# The go command fuzzes one test of one package at a time, so the tests are looked up first.
.PHONY: fuzz-smoke
fuzz-smoke: ## Run every fuzz test for a few seconds; FUZZ=20000x inputs each
	@$(GO) list -f '{{$$p := .}}{{range .TestGoFiles}}{{$$p.ImportPath}} {{$$p.Dir}}/{{.}}{{"\n"}}{{end}}{{range .XTestGoFiles}}{{$$p.ImportPath}} {{$$p.Dir}}/{{.}}{{"\n"}}{{end}}' $(PKG) | \
	while read -r package file; do \
		[ -n "$$file" ] || continue; \
		for name in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' "$$file"); do \
			echo "fuzz $$package $$name"; \
			$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZ) -fuzzminimizetime 100x -timeout $(TIMEOUT) "$$package" </dev/null; \
		done; \
	done

.PHONY: example-smoke
example-smoke: ## Build the examples, and run their tests, which start them
	$(GO) build -o /dev/null ./examples/...
	$(GO) test -count=1 -timeout $(TIMEOUT) ./examples/...

.PHONY: million
million: ## Send 1,000,000 messages the whole way, and look at the memory; MESSAGES= another number
	$(GO) test -run WholeWay -v -count=1 -timeout 10m ./tests/way -messages $(MESSAGES)

.PHONY: flake
flake: ## Run all tests N=20 times in a row, in random order, until one fails
	@for run in $$(seq $(N)); do \
		echo "run $$run of $(N)"; \
		$(GO) test $(RACE) -count=1 -shuffle=on -timeout $(TIMEOUT) $(PKG); \
	done

.PHONY: clean
clean: ## Remove what was built, and the cached test results
	rm -rf bin
	$(GO) clean -testcache
