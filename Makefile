# Everything that is built, run and checked. `make demo` and `make test` are the two commands of the README.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

GO      ?= go
VERSION ?= $(shell packaging/version)
STRIP    = -trimpath -ldflags='-s -w -X main.version=$(VERSION)'
APP     := dist/app
HANDLER := $(APP)/pointsman-handler

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: build
build: stage agent-netlink ## the binaries in dist/
	@CGO_ENABLED=0 $(GO) build $(STRIP) -o dist/pointsman ./cmd/pointsman

.PHONY: agent-netlink
agent-netlink: ## the agent without a BGP speaker in it, dist/pointsman-agent
	@CGO_ENABLED=0 $(GO) build $(STRIP) -o dist/pointsman-agent ./cmd/pointsman-agent

.PHONY: build-bgp
build-bgp: ## the agent with a BGP speaker in it, dist/pointsman-agent-bgp
	@CGO_ENABLED=0 $(GO) build -tags bgp $(STRIP) -o dist/pointsman-agent-bgp ./cmd/pointsman-agent

# The Functions host looks for function.json only in the first-level folders of the app root, hence the flat copy. The handler is
# always built for the host's platform in Azure; GOOS and GOARCH can be overridden to run it elsewhere.
.PHONY: stage
stage: ## the function app in dist/app, as it is deployed
	@rm -rf $(APP)
	@mkdir -p $(APP)
	@cp host.json $(APP)/
	@for f in functions/*/function.json; do \
		name=$$(basename "$$(dirname "$$f")"); \
		mkdir -p "$(APP)/$${name^}" && cp "$$f" "$(APP)/$${name^}/"; \
	done
	@CGO_ENABLED=0 $(GO) build $(STRIP) -o $(HANDLER) ./cmd/pointsman-handler

.PHONY: demo
demo: build ## an NVA dies and comes back, on real kernel routes (DEMO=--stay keeps it running)
	@$(GO) run ./test/demo $(DEMO)

.PHONY: test
test: ## everything, with the race detector
	./test/run

.PHONY: lint
lint: ## the linter
	$(GO) tool -modfile=tools/golangci.mod golangci-lint run ./...

# Longer searches. `make test` runs a short form of each; every one ends with a line that says its figure.
SEEDS ?= 10000

.PHONY: sim
sim: ## the product in a made-up world: SEEDS histories, each with its own mishaps
	@$(GO) run ./sim/explore -seeds $(SEEDS)

.PHONY: models
models: ## the protocols, checked exhaustively by spin; broken variants must be found broken
	@mkdir -p dist
	@$(GO) test -count=1 -v ./models > dist/models.log || { cat dist/models.log; exit 1; }
	@grep -E 'models: |SKIP' dist/models.log

.PHONY: mutants
mutants: ## breaks the product in every way of test/mutants/mutants.txt; the tests must notice
	@$(GO) run ./test/mutants

.PHONY: conformance
conformance: ## Microsoft's JavaScript client and Azurite beside the emulators
	@test/conformance/run

.PHONY: chaos
chaos: build ## everything breaks for CHAOS (2m), by SEED, and nothing may be lost
	@$(GO) run -race ./test/chaos -duration $(or $(CHAOS),2m) -seed $(or $(SEED),0)

.PHONY: lab
lab: ## FRR, BIRD and a Route Server beside the agent, in network namespaces; more rounds than `make test`
	@mkdir -p dist
	@LAB=full $(GO) test -count=1 -timeout 30m -v ./test/lab > dist/lab.log || { cat dist/lab.log; exit 1; }
	@grep -oE '(lab|size): .*|SKIP.*|needs .*' dist/lab.log || true
	@echo "lab: $$(grep -c -- '--- PASS' dist/lab.log) passed, $$(grep -c -- '--- SKIP' dist/lab.log) skipped"

.PHONY: size
size: ## both flavours of the agent, stripped, on disk and in memory with 10,000 and 100,000 routes
	@mkdir -p dist
	@$(GO) test -count=1 -v -run '^TestFootprint' ./test/lab > dist/size.log || { cat dist/size.log; exit 1; }
	@grep -oE 'size: .*|SKIP.*|needs .*' dist/size.log | sort

.PHONY: bfd-soak
bfd-soak: ## BFD with FRR and BIRD under load for BFD_SOAK (10m): no session may flap
	@mkdir -p dist
	@BFD_SOAK=$(or $(BFD_SOAK),10m) $(GO) test -count=1 -timeout 0 -v -run '^TestBFDSoak$$' ./test/lab > dist/bfd-soak.log || { cat dist/bfd-soak.log; exit 1; }
	@grep -E 'bfd-soak: |SKIP|needs' dist/bfd-soak.log

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME each
	test/fuzz $(or $(FUZZTIME),30s)

include packaging/package.mk

.PHONY: clean
clean: ## remove what was built
	rm -rf dist
