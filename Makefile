# Everything a person types. Each target installs what it lacks (tests/tools.sh).
PREFIX ?= /usr/local
DESTDIR ?=
SBINDIR ?= /sbin
UNITDIR ?= $(PREFIX)/lib/systemd/system
CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help build demo test test-quick test-faults test-k8s test-posix test-survive bench bench-quick bench-peers lint tools install uninstall

help: ## List the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the release binary, target/release/tarn
	$(CARGO) build --release --locked --package tarn-fs

demo: ## Build, mount a bucket of an embedded S3 server, and show a tour
	@tests/tools.sh demo
	@$(MAKE) --no-print-directory build
	target/release/tarn demo

tools: ## Install what the tests need into .tools/
	@tests/tools.sh test

test: tools ## Run all tests, with MinIO and real mounts
	$(CARGO) build --workspace --locked
	$(CARGO) test --workspace --locked --no-fail-fast

test-quick: tools ## Run the unit tests and the file behaviours, without the real programs
	$(CARGO) build --workspace --locked
	$(CARGO) test --workspace --locked --lib --bins
	$(CARGO) test --locked --package tarn-tests --test tidy --test fs

test-posix: export TARN_FULL = 1
test-posix: tools ## Run the POSIX suites in full, some hours; writes tests/posix/RESULTS.md
	@tests/tools.sh posix
	$(CARGO) build --workspace --locked
	$(CARGO) test --locked --package tarn-tests --test programs -- --test-threads 1 postgres
	$(CARGO) test --locked --package tarn-tests --test posix -- --test-threads 1

test-survive: export TARN_FULL = 1
test-survive: tools ## Kill workers under real programs for an hour; writes tests/survive/RESULTS.md
	@tests/tools.sh survive
	$(CARGO) build --workspace --locked
	$(CARGO) test --locked --package tarn-tests --test survive -- --test-threads 1

test-faults: export TARN_FULL = 1
test-faults: tools ## Run the fault tests at length, some hours; writes tests/faults/RESULTS.md
	$(CARGO) build --workspace --locked
	$(CARGO) test --locked --package tarn-cache --test store -- flips
	$(CARGO) test --locked --package tarn-fs --lib -- a_flipped_bit simulated
	$(CARGO) test --locked --package tarn-tests --test fuzz
	$(CARGO) test --locked --package tarn-tests --test faults -- --test-threads 1

test-k8s: export TARN_FULL = 1
test-k8s: tools ## Run the driver in a Kubernetes of one node, as root, some minutes; writes tests/k8s/RESULTS.md
	@tests/tools.sh k8s
	$(CARGO) build --workspace --locked
	$(CARGO) test --locked --package tarn-tests --test k8s

bench-quick: tools ## Measure the release binary beside disk and raw server, some minutes; writes perf/RESULTS.md
	$(CARGO) build --release --locked --package tarn-fs --package tarn-perf
	TARN_BIN=$(CURDIR)/target/release/tarn target/release/tarn-perf

bench: export TARN_FULL = 1
bench: bench-quick ## The same with more rounds and 64 files of 1 GiB at once

bench-peers: tools ## Measure beside s3fs, rclone and other peers, as root; OPTIONS are tarn-perf-peers's; writes perf/RESULTS.md
	@tests/tools.sh bench
	$(CARGO) build --release --locked --package tarn-fs --package tarn-perf
	TARN_BIN=$(CURDIR)/target/release/tarn target/release/tarn-perf-peers $(OPTIONS)

lint: ## Check format, lints, licences and sources
	@tests/tools.sh lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	tests/deny.sh

install: build ## Install tarn, the helpers of mount(8) and the service tarn@
	install -D -m 0755 target/release/tarn $(DESTDIR)$(PREFIX)/bin/tarn
	install -d $(DESTDIR)$(SBINDIR)
	ln -sfn $(PREFIX)/bin/tarn $(DESTDIR)$(SBINDIR)/mount.tarn
	ln -sfn $(PREFIX)/bin/tarn $(DESTDIR)$(SBINDIR)/mount.fuse.tarn
	install -d $(DESTDIR)$(UNITDIR)
	sed 's|/usr/local/bin|$(PREFIX)/bin|' deploy/systemd/tarn@.service >$(DESTDIR)$(UNITDIR)/tarn@.service

uninstall: ## Remove what install put there
	rm -f $(DESTDIR)$(PREFIX)/bin/tarn $(DESTDIR)$(SBINDIR)/mount.tarn $(DESTDIR)$(SBINDIR)/mount.fuse.tarn \
		$(DESTDIR)$(UNITDIR)/tarn@.service
