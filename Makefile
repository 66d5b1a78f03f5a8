# The two commands: `make demo` and `make test`. Each installs what it needs first (scripts/setup.sh:
# Debian packages, as root). The Rust toolchain is not their business.

.PHONY: setup build demo demo-reharden test lint fuzz book e2e bench bench-scale bench-cluster record vagrant-test clean-lab

CARGO ?= cargo
DEMO_DIR ?= demo
DEMO_REHARDEN_DIR ?= demo-reharden

setup:
	@sh scripts/setup.sh

build: setup
	$(CARGO) build --release --locked

# A lab of three control planes and two workers becomes a hardened cluster and is proven, from a bundle that is made
# where none is (scripts/demo-bundle.sh); hosts and etcd alone where it cannot be. `kubastion lab down --dir demo`
# takes it down.
demo: build
	@sh scripts/demo.sh target/release/kubastion $(DEMO_DIR)

# A stock kubeadm cluster on two nodes: what is weak, who would notice that it is hardened, and its inventory.
# `kubastion lab down --dir demo-reharden` takes it down.
demo-reharden: build
	@sh scripts/demo-reharden.sh target/release/kubastion $(DEMO_REHARDEN_DIR)

# All checks and tests, also those on real nodes and, where a bundle is, on real clusters. They bring up labs, and are
# skipped, with the reason, only where a machine cannot carry one.
test: setup
	@sh scripts/test.sh $(CARGO)

lint: setup
	@sh scripts/lint.sh $(CARGO)

# Each fuzz target for FUZZ_SECONDS (nightly Rust and cargo-fuzz). Findings are left in fuzz/artifacts.
fuzz: setup
	@sh scripts/fuzz.sh $(CARGO)

# The documents as a book, in target/book (mdBook).
book:
	@sh scripts/book.sh $(CARGO)

# A real Kubernetes cluster on lab nodes, from the bundle in $$KUBASTION_BUNDLE or /var/cache/kubastion/bundle.
# `make test` includes it where there is one.
e2e: setup
	@sh scripts/e2e.sh $(CARGO)

# Virtual machines that really boot, with reboots in bad moments. Needs root, Vagrant and libvirt; see
# vagrant/README.md.
vagrant-test:
	$(CARGO) build --locked
	@sh scripts/vagrant-test.sh target/debug/kubastion

# Side by side with bare OpenSSH, pyinfra and Ansible on 1 to 1,000 nodes, with and without latency. More than an hour,
# most of it pyinfra on 100 nodes; half an hour with "--only kubastion,OpenSSH,Ansible". BENCH="--nodes 1,10 --rtt 0" runs a
# part, "--save" keeps table and plots in docs/benchmarks.
bench: setup
	$(CARGO) bench --locked --bench fleet -- $(BENCH)

# What the controller computes for 10 to 5,000 nodes.
bench-scale: setup
	$(CARGO) bench --locked --bench scale -- $(BENCH)

# A cluster from bare nodes against the kubeadm commands alone.
bench-cluster: setup
	$(CARGO) bench --locked --bench cluster

# docs/demo.svg, a recording of the demo (asciinema and svg-term, see scripts/record.sh). The end of the demo in the
# README is pasted by hand.
record: build
	@sh scripts/record.sh target/release/kubastion

clean-lab:
	-target/debug/kubastion lab down --dir $${KUBASTION_TEST_LAB:-/var/tmp/kubastion-test-lab}
