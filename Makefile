# Everything a developer or CI calls. `make test` sets up what it needs on a fresh Debian 12 machine.

SHELL := /bin/bash
CARGO ?= cargo

.PHONY: dev test format lint unit client end-to-end screenshots conformance conformance-short manual bench fuzz

dev:
	$(CARGO) run --quiet -p tidegate -- dev $(ARGS)

test: format lint unit client conformance-short end-to-end

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
	tests/e2e/run.sh -q -n 2 --dist loadfile $(SIDE_BY_SIDE)
	tests/e2e/run.sh -q $(SIDE_BY_SIDE:%=--ignore=%)

# Files whose tests wait for others most of the time and measure nothing: two at a time.
SIDE_BY_SIDE := $(addprefix test_,$(addsuffix .py,admin backends browser chat chat_browser chat_reference control django doctor_api \
	doctor_domain doctor_statistics domains example_pages first_time frames handshake import js login mapping readme routing sdk sign why_chat \
	why_connecting why_control why_django why_messages why_proxy why_pushes why_requests))

# The pictures of the example pages in the manual.
screenshots:
	$(CARGO) build --quiet -p tidegate
	TIDEGATE_SCREENSHOTS=1 tests/e2e/run.sh -q test_example_pages.py

# The Autobahn cases against the codec: a selection in the tests, all of them on their own.
conformance-short:
	tests/conformance/autobahn.sh --short

conformance:
	tests/conformance/autobahn.sh

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
