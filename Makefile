# Holdfast. `make help` lists the targets.
SHELL := /bin/sh
BIN   := $(CURDIR)/bin
TOOLS := $(BIN)/tools

export CGO_ENABLED := 0
export GOFLAGS := -mod=readonly

# Without a readable git checkout (an archive, another user's directory) the
# toolchain must not ask for one.
BUILDVCS := $(shell git rev-parse HEAD >/dev/null 2>&1 && echo auto || echo false)
VERSION  ?=
LDFLAGS  := -s -w $(if $(VERSION),-X holdfast/cmd/internal/daemon.version=$(VERSION))
BUILD    := go build -trimpath -buildvcs=$(BUILDVCS) -ldflags '$(LDFLAGS)'

PROTOS    := coordinator/api/holdfastpb/holdfast.proto brokerd/stream/streampb/stream.proto
FUZZTIME  ?= 10s
GOSOURCES := find . -name '*.go' -not -path './bin/*' -not -path './test/out/*'

.DEFAULT_GOAL := help
.PHONY: help build faultpoints load broker-campaign bench-broker demo test interop sim check replicas mutants campaign precision bench lint fuzz race proto proto-check clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' Makefile

build: ## static programs in bin/ (VERSION=v1.2.3 names a release)
	$(BUILD) -o $(BIN)/ ./cmd/coordinator ./cmd/vipagent ./cmd/brokerd ./cmd/coordctl

# An agent that can be told to stop itself between a check and an act.
faultpoints: ## bin/faultpoints/vipagent, for the tests alone
	$(BUILD) -tags faultpoints -o $(BIN)/faultpoints/ ./cmd/vipagent

# The official RocketMQ client, in a module of its own: its dependencies are not ours.
load: ## bin/load, which makes load on brokers and judges what it saw
	$(subst go build,go build -C test/rmq,$(BUILD)) -o $(BIN)/load ./load

demo: build ## a cluster on this machine, broken in several ways (DEMO_ARGS='--list', '--keep')
	$(BUILD) -o $(BIN)/demo ./test/demo
	$(BIN)/demo $(DEMO_ARGS)

# Foreign VRRP speakers that vipagent is tested beside, and what checks its packets and rules.
PEERS := keepalived:keepalived /usr/lib/frr/vrrpd:frr tshark:tshark nft:nftables

# What runs the programs, measures time or needs the network of the lab runs alone,
# last, and never from the cache: the cache does not know the programs that it runs.
test: build faultpoints load ## all tests (a single package: go test ./fsm)
	test/setup.sh $(PEERS)
	go test -timeout 10m $$(go list ./... | grep -v '^holdfast/test\(/\|$$\)' | grep -v '^holdfast/cmd/coordctl$$')
	go test -timeout 40m ./test/sim -runs 10000
	go -C test/rmq test -count=1 -timeout 5m ./...
	HOLDFAST_BIN=$(BIN) go test -count=1 -p 1 -timeout 15m ./cmd/coordctl $$(go list ./test/... | grep -v '^holdfast/test/\(out\|sim$$\)')

interop: build ## vipagent beside Keepalived and FRR, at length, and Keepalived in its place as a control
	test/setup.sh $(PEERS)
	HOLDFAST_INTEROP=1 HOLDFAST_BIN=$(BIN) go test -count=1 -v -timeout 1h ./test/interop

sim: ## the simulator at length: 10,000 seeds of 10 minutes (SIM_ARGS='-seed 7 -v' replays one)
	go test -count=1 -timeout 2h ./test/sim -run TestSimulation $(if $(SIM_ARGS),$(SIM_ARGS),-runs 10000 -v)

check: ## the exhaustive checker within larger bounds (CHECK_ARGS='-config rebind')
	go test -count=1 -timeout 6h ./test/sim -run TestCheck -v -more 1 -most 60000000 $(CHECK_ARGS)

replicas: ## the same two for brokerd's replicas (REPLICAS_ARGS='-run TestSimulation/wipe -seed 7 -v')
	go test -count=1 -timeout 6h ./brokerd/replica $(if $(REPLICAS_ARGS),$(REPLICAS_ARGS),-v -runs 20000 -more 1 -states 20000000)

mutants: ## plants faults, one after the other, and shows which check finds each (MUTANTS_ARGS='-only fsm', '-all')
	$(BUILD) -o $(BIN)/mutants ./test/mutants
	$(BIN)/mutants $(MUTANTS_ARGS)

# The campaign's figures are in its output; a failed promise fails it.
CAMPAIGN := HOLDFAST_BIN=$(BIN) go test -count=1 -v -timeout 2h ./test/e2e
STOPS    ?= 20
RUNS     ?= 200
MINUTES  ?= 5

campaign: build faultpoints ## every attack on a holder, the long ones too (STOPS=20 of each, MINUTES=5 of random faults)
	HOLDFAST_CAMPAIGN=1 HOLDFAST_STOPS=$(STOPS) HOLDFAST_MINUTES=$(MINUTES) HOLDFAST_PRECISION=$(RUNS) \
		$(CAMPAIGN) -run 'Campaign|Killed|Frozen|PowerOff|Partition|Packets|Stopped|Precision|Random'

broker-campaign: build load ## every fault on a broker group, by chance, for MINUTES=5 (SEED=7 replays one)
	HOLDFAST_BIN=$(BIN) go test -count=1 -v -timeout 3h ./test/brokers -minutes $(MINUTES) $(if $(SEED),-seed $(SEED))

bench-broker: build load ## brokers on this machine's disk, the log alone, and the disk (BENCH=mode=sync/flush=sync)
	HOLDFAST_BIN=$(BIN) go test -run '^$$' -bench 'Broker/$(BENCH)' -benchtime 1x -timeout 1h ./test/brokers
	go test -run '^$$' -bench . -benchtime 2s ./brokerd/commitlog

precision: build ## last packet against the kernel's deadline (RUNS=200)
	HOLDFAST_PRECISION=$(RUNS) $(CAMPAIGN) -run Precision

bench: build ## the figures of the README, and keepalived's (BENCH_ARGS='--only vips')
	test/setup.sh keepalived:keepalived
	$(BUILD) -o $(BIN)/bench ./test/bench
	$(BIN)/bench $(BENCH_ARGS)

lint: $(TOOLS)/staticcheck ## formatting, go vet, staticcheck, go.mod
	@unformatted=$$($(GOSOURCES) -exec gofmt -l {} +); \
		if [ -n "$$unformatted" ]; then echo "gofmt -w these:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	$(TOOLS)/staticcheck ./...
	cd test/rmq && go vet ./... && $(TOOLS)/staticcheck ./...
	go mod tidy -diff
	go -C test/rmq mod tidy -diff
	go -C tools mod tidy -diff

fuzz: ## every fuzz target for FUZZTIME
	@for dir in $$(go list -f '{{.Dir}}' ./...); do \
		for target in $$(cat $$dir/*_test.go 2>/dev/null | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p'); do \
			echo "$$target in $${dir#$(CURDIR)/}"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$dir || exit 1; \
		done; \
	done

race: ## the tests that need no lab, with the race detector (needs a C compiler)
	CGO_ENABLED=1 go test -race -timeout 20m $$(go list ./... | grep -v '^holdfast/test/')

# Tools are pinned in tools/go.mod, apart from what the programs are built of.
$(TOOLS)/staticcheck: tools/go.mod
	go build -C tools -o $@ honnef.co/go/tools/cmd/staticcheck

$(TOOLS)/protoc-gen-go: tools/go.mod
	go build -C tools -o $@ google.golang.org/protobuf/cmd/protoc-gen-go

$(TOOLS)/protoc-gen-go-grpc: tools/go.mod
	go build -C tools -o $@ google.golang.org/grpc/cmd/protoc-gen-go-grpc

# $(call protoc,FILE,DIR) generates the code of one .proto file into DIR.
protoc = protoc -I $(dir $(1)) \
	--plugin=$(TOOLS)/protoc-gen-go --go_out=$(2) --go_opt=paths=source_relative \
	--plugin=$(TOOLS)/protoc-gen-go-grpc --go-grpc_out=$(2) --go-grpc_opt=paths=source_relative \
	$(notdir $(1))

proto: $(TOOLS)/protoc-gen-go $(TOOLS)/protoc-gen-go-grpc ## generate the code of the .proto files
	$(foreach f,$(PROTOS),$(call protoc,$(f),$(dir $(f))) &&) true

# The comment that names the version of protoc may differ.
proto-check: $(TOOLS)/protoc-gen-go $(TOOLS)/protoc-gen-go-grpc ## the generated code is that of the .proto files
	@command -v protoc >/dev/null || { echo "proto-check needs protoc: test/setup.sh protoc:protobuf-compiler"; exit 1; }
	@dir=$$(mktemp -d) && trap 'rm -r $$dir' EXIT && \
		$(foreach f,$(PROTOS),mkdir -p $$dir/$(dir $(f)) && $(call protoc,$(f),$$dir/$(dir $(f))) &&) true && \
		for f in $$(cd $$dir && find . -name '*.go'); do diff -u -I '^//.*protoc  *v' $$f $$dir/$$f || { echo "run make proto"; exit 1; }; done

clean: ## remove what was built
	rm -rf $(BIN) test/out
