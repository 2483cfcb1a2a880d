# `make demo` shows imsync at work; `make test` runs its tests.

CARGO ?= cargo
TEST = $(CARGO) test --locked
SECONDS ?= 45
VERSION ?= 18
TESTS ?=

PYTHON ?= python3
BENCH_VENV = $(or $(CARGO_TARGET_DIR),target)/bench-venv
BENCH = $(BENCH_VENV)/bin/python benches

.PHONY: help demo test test-postgres test-deb lint deb static image sbom release release-twice bench bench-history bench-idle bench-limit bench-plots bench-verify bench-tests bench-tools soak

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: ## Show imsync at work on a private PostgreSQL with generated users and a simulated IM (DEMO="--users N --seconds S")
	@scripts/ensure-tools build postgres
	$(CARGO) build --release --locked
	@$(CARGO) run --release --locked --quiet -- demo $(DEMO)

test: ## Run all tests on a private PostgreSQL
	@scripts/ensure-tools build postgres
	@$(TEST)

test-postgres: ## Run all tests on another version of PostgreSQL, 14 to 18, that it fetches (VERSION=18; TESTS="promises source::" runs some)
	@scripts/ensure-tools build
	@unset IMSYNC_TEST_PG_URL; scripts/with-postgres $(VERSION) $(TEST) --no-fail-fast --lib --test integration -- $(TESTS)

test-deb: deb ## Install, upgrade, remove and purge the Debian package on this machine (needs root)
	@scripts/test-deb target/release-artifacts/imsync_*.deb

lint: ## Check the format, clippy, licences and advisories, the systemd unit and the alerting rules
	@scripts/ensure-tools build lint
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --locked check; \
	else echo "cargo-deny is not installed: licences and advisories are not checked"; fi
	@scripts/verify-unit
	@scripts/verify-alerts

bench: bench-tools ## Measure imsync beside a careful script and COPY (ROWS=1000000 ROUNDS=3 CASES=first,full BASELINE=/path/imsync)
	@$(BENCH)/bench.py

bench-idle: bench-tools ## Measure a daemon that finds nothing to do (ROWS=1000000 INTERVALS=1s,100ms IDLE_SECONDS=60)
	@$(BENCH)/idle.py

bench-history: bench-tools ## Measure what the history costs, and show its plans on many rows (ROWS=1000000 HISTORY_ROWS=10000000)
	@$(BENCH)/history.py

bench-limit: bench-tools ## Measure the share of the vendor's limit at several latencies, and the size of the state (USERS=200000)
	@$(BENCH)/limit.py

bench-verify: bench-tools ## Measure verify at the vendor's limit, and what it costs a pass beside it (USERS=100000)
	@$(BENCH)/verify.py

bench-plots: bench-tools ## Draw time and memory against size, pages, changes, latency and rejections (BIG=1 adds ten million rows)
	@$(BENCH)/plots.py

bench-tools: $(BENCH_VENV)/installed
	@scripts/ensure-tools build postgres
	@if [ -z "$(IMSYNC)" ]; then $(CARGO) build --release --locked; fi

$(BENCH_VENV)/installed: benches/requirements.txt benches/peer/requirements.txt
	@scripts/ensure-tools python
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/pip install --quiet -r benches/requirements.txt -r benches/peer/requirements.txt
	@touch $@

bench-tests: ## Run the tests that measure (named bench…), optimised, one at a time
	@scripts/ensure-tools build postgres
	@$(TEST) --release --test integration -- --ignored --nocapture --test-threads=1 bench

soak: ## Run the slow tests (named soak…), for example late commits under load (SECONDS=45 each)
	@scripts/ensure-tools build postgres
	@IMSYNC_SOAK_SECONDS=$(SECONDS) $(TEST) --release --test integration -- --ignored --nocapture --test-threads=1 soak

deb: ## Make the Debian package, in target/release-artifacts
	@scripts/ensure-tools build
	@scripts/release deb

static: ## Make an archive with a static program, for any Linux of this architecture
	@scripts/ensure-tools build
	@scripts/release static

image: ## Make a container image without a daemon, with buildah
	@scripts/ensure-tools build
	@scripts/release image

sbom: ## Make the list of the crates in the program, with versions and licences (CycloneDX)
	@scripts/ensure-tools build
	@scripts/release sbom

release: ## Make everything that is released, with checksums
	@scripts/ensure-tools build
	@scripts/release all

release-twice: ## Make the release of the last commit twice, in two clones, and compare the bytes
	@scripts/ensure-tools build
	@scripts/release twice
