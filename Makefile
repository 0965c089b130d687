# make build      bin/countersign
# make test       all tests; installs what they need below .tools
# make test-terraform  the Terraform module with AWS's provider, which takes
#                 some minutes to build
# make check      format, vet, staticcheck, module files, generated tables,
#                 known vulnerabilities
# make bench      the figures of docs/performance.md, beside other proxies
# make generate   the tables of awsapi
# make dist       archives and packages for all platforms, with SBOMs and checksums
# make image      container image; BUILDER=docker, podman or buildah,
#                 PLATFORM=linux/arm64, IMAGE=name:tag
# make clean      what build and dist made; dist-clean also the tools

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.PHONY: build test test-packages test-e2e test-terraform check bench generate dist image tools clean dist-clean

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
PLATFORMS ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64

# The same source gives the same bytes: no paths, no build id, no cgo.
BUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -buildid= -X main.version=$(VERSION)'

# The race detector needs a C compiler.
RACE := $(shell command -v cc >/dev/null && echo -race)
PACKAGES = $$(go list ./... | grep -v /e2e)

export COUNTERSIGN_PYTHON ?= $(CURDIR)/.tools/venv/bin/python
export COUNTERSIGN_NODE_MODULES ?= $(CURDIR)/.tools/node/node_modules
export PATH := $(CURDIR)/.tools/bin:$(PATH)

build:
	$(BUILD) -o bin/countersign ./cmd/countersign

tools:
	.ci/tools

# Both halves, even if the first one fails.
test: tools
	@status=0; \
	$(MAKE) --no-print-directory test-packages || status=1; \
	$(MAKE) --no-print-directory test-e2e || status=1; \
	exit $$status

test-packages:
	@$(if $(RACE),true,echo 'test: without the race detector, since there is no C compiler')
	go test $(RACE) -timeout 20m $(PACKAGES)

# Not from the cache: it cannot see that the program under test has changed. Tests
# that mostly wait, and look at nothing that others change, run three at a time. Six
# minutes are usual on two cores; what takes five times as long hangs.
test-e2e:
	go test -count=1 -timeout 30m -parallel 3 ./e2e/...

test-terraform:
	.ci/tools python terraform terraform_provider
	go test -count=1 -v -run '^TestTerraformModule$$' ./e2e

check:
	.ci/tools modules python staticcheck govulncheck
	@unformatted=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	if [ -n "$$unformatted" ]; then echo "check: gofmt would change: $$unformatted"; exit 1; fi
	go vet ./...
	.tools/bin/staticcheck ./...
	go mod verify
	go mod tidy -diff
	go run ./awsapi/gen -check -dir awsapi -cache .cache/awsapi-gen
	.ci/vulnerabilities

bench: build
	.ci/tools mitmproxy
	go run ./bench -countersign bin/countersign -mitmdump .tools/mitmproxy/bin/mitmdump
	go test -run '^$$' -bench . -benchmem $(PACKAGES)
	COUNTERSIGN_BENCH=1 go test -count=1 -timeout 30m -v -run '^TestFigures' ./e2e

generate:
	go generate ./...

dist:
	.ci/tools nfpm cyclonedx
	.ci/dist $(VERSION) $(PLATFORMS)

# docker if its daemon answers, else podman or buildah. These two have to be told
# of the builder's platform, and that HEALTHCHECK is kept: OCI's format has none.
BUILDER ?= $(shell docker version >/dev/null 2>&1 && echo docker || basename "$$(type -P podman buildah | head -n 1)")
IMAGE ?= countersign:$(VERSION)
PLATFORM ?= linux/$(shell go env GOHOSTARCH)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null)
image:
	@case '$(BUILDER)' in \
	docker) build='docker build' ;; \
	podman|buildah) build="$(BUILDER) build --format docker --build-arg BUILDPLATFORM=linux/$$(go env GOHOSTARCH)" ;; \
	*) echo 'image: needs docker with a daemon that answers, podman or buildah' >&2; exit 1 ;; \
	esac; \
	DOCKER_BUILDKIT=1 $$build --platform $(PLATFORM) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) \
		$(IMAGE_FLAGS) -t $(IMAGE) .

clean:
	rm -rf bin dist

dist-clean: clean
	rm -rf .tools .cache
