# Every target does its own set-up (.ci/setup), on a bare Debian or Ubuntu with
# Go and root, and says what is missing otherwise.

.DEFAULT_GOAL := help
.PHONY: help demo test cluster cluster-binaries e2e test-kernels semantics bench scale scale-kube build images generate check nightly

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## the mesh on two simulated nodes: a canary under traffic (root; KEEP=1 leaves it running)
	@.ci/setup demo
	@$(MAKE) --no-print-directory build
	@.build/bin/heddlectl demo

test: ## all tests; without root the pure ones, with a list of what was left out
	@.ci/setup test
	@[ "$$(id -u)" != 0 ] || $(MAKE) --no-print-directory cluster-binaries
	@.ci/test

cluster: ## a Kubernetes cluster on this machine, until Ctrl-C (root; CLUSTER="flags", see e2e/cluster)
	@.ci/setup cluster
	@CGO_ENABLED=0 go build -o .build/cluster/up ./e2e/cluster/up
	@.build/cluster/up $(CLUSTER)

cluster-binaries: ## what clusters are made of: six minutes when nothing is cached
	@.ci/setup cluster
	@CGO_ENABLED=0 go run ./e2e/cluster/up -build

e2e: ## the scenarios on real Kubernetes: a cluster comes up, is checked, gets Heddle, is tried and torn down (root)
	@$(MAKE) --no-print-directory cluster-binaries
	@.ci/test ./e2e/cluster ./e2e/kube

test-kernels: ## kernel tests on Debian's Linux 6.1 and 6.12, emulated (neither root nor KVM); FULL=1 for all of them
	@.ci/setup kernels
	@CGO_ENABLED=0 go build -o .build/kernels/run ./e2e/kernels
	@.build/kernels/run $(if $(FULL),-full) .build/kernels

bench: ## what the mesh costs, beside no mesh and two proxies: six minutes (root; BENCH="flags")
	@.ci/setup bench
	@$(MAKE) --no-print-directory build
	@CGO_ENABLED=0 go build -ldflags "-X main.commit=$$(git describe --always --dirty 2>/dev/null)" -o .build/bin/heddle-bench ./e2e/bench
	@.build/bin/heddle-bench $(BENCH)

semantics: ## what applications see in each mode, beside plain TCP (root; a few minutes)
	@.ci/setup test
	@CGO_ENABLED=0 go run ./e2e/semantics

scale: ## what 10,000 services and 100,000 endpoints cost (root); results in .build/scale
	@.ci/setup test
	@$(MAKE) --no-print-directory build
	@CGO_ENABLED=0 go build -o .build/scale/run ./e2e/scale
	@.build/scale/run -o .build/scale

scale-kube: ## what 300 nodes, 5,000 pods and 1,000 services of Kubernetes cost (root); results in .build/scale
	@.ci/setup cluster
	@$(MAKE) --no-print-directory build
	@CGO_ENABLED=0 go build -o .build/scale/kube ./e2e/scale/kube
	@.build/scale/kube -o .build/scale

build: ## the binaries, into .build/bin
	@CGO_ENABLED=0 go build -o .build/bin/ ./cmd/...

images: ## container images of the binaries, without Docker, into .build/images (VERSION=tag)
	@$(MAKE) --no-print-directory build
	@.build/bin/heddlectl images --dir .build/images $(if $(VERSION),--version $(VERSION))

generate: ## BPF objects, protobuf code and CRDs, with the pinned compilers
	@.ci/setup generate
	@go build -o .build/bin/ google.golang.org/protobuf/cmd/protoc-gen-go
	go generate ./bpf ./api/...

check: ## formatting, vet, staticcheck, generated files, rules about the code
	@.ci/setup check
	@.ci/check

nightly: ## every fuzzer for a while, millions of differential cases, all tests on other kernels
	@.ci/setup test
	@.ci/nightly
