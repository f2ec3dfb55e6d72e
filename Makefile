# Everything a developer or CI calls. `make test` sets up what it needs on a fresh Debian 12 machine.

SHELL := /bin/bash
CARGO ?= cargo

.PHONY: dev test set-up format lint unit client end-to-end screenshots autobahn autobahn-short conformance conformance-doc manual bench fuzz

dev:
	$(CARGO) run --quiet -p tidegate -- dev $(ARGS)

# What the end-to-end tests need is fetched while the compiler works.
test: format
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint set-up
	$(MAKE) --no-print-directory unit client autobahn-short end-to-end conformance

set-up:
	tests/e2e/setup.sh
	tests/conformance/apigateway/setup.sh

format:
	$(CARGO) fmt --all --check

lint:
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings

# Unit, behaviour and documentation tests.
unit:
	$(CARGO) test --workspace --quiet

# The browser client: dist/ is current, small and typed, and behaves. Its tests in Chromium are among the end-to-end ones.
client:
	cd clients/js && npm ci --no-audit --no-fund --loglevel=error && npm test

# Clients and backends that nobody here wrote: boto3, the AWS SDK for JavaScript, the Django package, Chromium.
end-to-end:
	$(CARGO) build --quiet -p tidegate
	$(CARGO) build --quiet -p tidegate-backend --examples
	tests/e2e/run.sh -q -n 3 --dist loadfile $(MEASURING:%=--ignore=%)
	tests/e2e/run.sh -q -n 2 --dist loadfile $(MEASURING)

# Files whose tests measure time or load the machine; in all others tests wait for others most of the time.
MEASURING := $(addprefix test_,$(addsuffix .py,alerts false_alarms faults why_node why_times))

# The pictures of the example pages in the manual.
screenshots:
	$(CARGO) build --quiet -p tidegate
	TIDEGATE_SCREENSHOTS=1 tests/e2e/run.sh -q test_example_pages.py

# The Autobahn cases against the codec: a selection in the tests, all of them on their own.
autobahn-short:
	tests/conformance/autobahn.sh --short

autobahn:
	tests/conformance/autobahn.sh

# The contract of API Gateway's WebSocket APIs, feature by feature, from outside. Without TARGET against a gateway of this tree, and
# docs/conformance.md must be what the run found; with TARGET (an address, or a file as tests/conformance/apigateway/README.md
# describes) against that endpoint, with the report in .cache. RUST_SDK=1 compiles and runs the SDK for Rust, too.
CONFORMANCE := tests/conformance/apigateway/run.sh -n 2 --dist worksteal
conformance:
ifeq ($(TARGET),)
	$(CARGO) build --quiet -p tidegate
	CONFORMANCE_COMPARE=$(CURDIR)/docs/conformance.md $(CONFORMANCE)
else
	TARGET='$(TARGET)' CONFORMANCE_REPORT=$(CURDIR)/.cache/conformance/report.md $(CONFORMANCE)
	@echo "the report is .cache/conformance/report.md"
endif

conformance-doc:
	$(CARGO) build --quiet -p tidegate
	CONFORMANCE_REPORT=$(CURDIR)/docs/conformance.md $(CONFORMANCE)

# The manual's pages on failures, from the catalogue of causes.
manual:
	$(CARGO) run --quiet -p tidegate-doctor --example manual

bench:
	bench/run.sh

# Each target for a while; `make fuzz SECONDS_EACH=3600` for longer. Needs a nightly toolchain and cargo-fuzz.
SECONDS_EACH ?= 60
fuzz:
	cd fuzz && for target in $$(cargo +nightly fuzz list); do \
		cargo +nightly fuzz run $$target -- -max_total_time=$(SECONDS_EACH) || exit 1; done
