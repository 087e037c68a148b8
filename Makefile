# ecs-updater: `make` lists the rules.
#
# Needed: Rust (cargo) and Python 3.11 or newer with its venv module. Everything else (the local AWS, boto3, the
# linters) is installed into .venv from local/requirements.txt.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Where rustup puts cargo, for shells that were not told.
export PATH := $(PATH):$(HOME)/.cargo/bin
# One Python setting less to differ between machines.
export PYTHONDONTWRITEBYTECODE := 1

PYTHON ?= python3
VENV := .venv
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)

# What the package is built for: x86_64 or arm64, as the parameter Architecture of hub.yaml. The default is this machine's.
ARCH ?= $(if $(filter aarch64 arm64,$(shell uname -m)),arm64,x86_64)
RUST_TARGET := $(if $(filter arm64,$(ARCH)),aarch64,x86_64)-unknown-linux-gnu

# Each of them is a binary, a package and a function of hub.yaml.
FUNCTIONS := updater history
LOCAL_PACKAGES := $(TARGET)/local
LAMBDA_PACKAGES := $(TARGET)/lambda-package/$(ARCH)
TEMPLATES := $(wildcard infrastructure/cloudformation/*.yaml)

.PHONY: help
help: ## list the rules
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  %-24s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: run
run: $(VENV)/stamp local-package ## the main job on a local AWS: one event, one service changed (EVENT=file: another event; KEEP=1: stay)
	@$(VENV)/bin/python local/run.py $(TARGET) $(if $(KEEP),--keep) $(EVENT)

.PHONY: run-lambda-test-sam
run-lambda-test-sam: $(VENV)/stamp local-package ## the first version's eight events against the local function, each answer printed
	@$(VENV)/bin/python local/run.py $(TARGET) --all

# Both suites run, whatever the first one says. Four threads, since most tests wait for something.
.PHONY: test
test: $(VENV)/stamp local-package ## every test: cargo test, then the end-to-end tests on a local AWS
	@RUST_TEST_THREADS=4 cargo test --locked --no-fail-fast; rust=$$?; \
	BUILT=$(TARGET) $(VENV)/bin/python -m pytest -p no:cacheprovider tests/e2e; python=$$?; \
	test $$rust -eq 0 -a $$python -eq 0

.PHONY: lint lint-format lint-clippy lint-templates lint-policies lint-terraform
lint: lint-format lint-clippy lint-templates lint-policies lint-terraform ## every linter: formatting, clippy, cfn-lint, policies in templates, Terraform
lint-format: cargo
	cargo fmt --check
lint-clippy: cargo
	cargo clippy --locked --all-targets -- -D warnings
lint-templates: $(VENV)/stamp
	$(VENV)/bin/cfn-lint $(TEMPLATES)
lint-policies: $(VENV)/stamp
	$(VENV)/bin/python infrastructure/render.py --check
# Skipped, and said so, where the machine has no Terraform or no AWS provider for it (TF_PLUGIN_DIR: a folder that has one).
lint-terraform: $(VENV)/stamp
	@$(VENV)/bin/python local/terraform.py lint

.PHONY: render
render: $(VENV)/stamp ## write policies/ into the templates, and variables and outputs into the Terraform READMEs
	@$(VENV)/bin/python infrastructure/render.py
	@$(VENV)/bin/python local/terraform.py readme

.PHONY: build-lambda-package
build-lambda-package: $(VENV)/stamp cargo ## the zips for AWS, small and slow to build (ARCH=x86_64 or arm64)
	@rustc --print target-libdir --target $(RUST_TARGET) | xargs test -d || { \
	  echo "Rust cannot build for $(RUST_TARGET) here: rustup target add $(RUST_TARGET)" >&2; exit 1; }
	cargo build --locked --profile lambda --no-default-features --target $(RUST_TARGET) $(FUNCTIONS:%=--bin %)
	@for function in $(FUNCTIONS); do $(VENV)/bin/python local/package.py --lambda \
	  $(TARGET)/$(RUST_TARGET)/lambda/$$function $(LAMBDA_PACKAGES)/$$function.zip || exit; done

.PHONY: clean
clean: ## remove everything that was built or installed here
	rm -rf $(VENV) $(TARGET)

# ---- parts ----

.PHONY: cargo
cargo:
	@command -v cargo >/dev/null || { \
	  echo "cargo was not found: install Rust (https://rustup.rs), or add its bin folder to PATH" >&2; exit 1; }

# Quick to build, for the local AWS only; and the command line that asks the functions there.
.PHONY: local-package
local-package: $(VENV)/stamp cargo
	cargo build --locked $(FUNCTIONS:%=--bin %) --bin ecs-updater
	@for function in $(FUNCTIONS); do test $(LOCAL_PACKAGES)/$$function.zip -nt $(TARGET)/debug/$$function || \
	  $(VENV)/bin/python local/package.py $(TARGET)/debug/$$function $(LOCAL_PACKAGES)/$$function.zip || exit; done

# The stamp is written last: an installation that was cut off is done again from the start.
$(VENV)/stamp: local/requirements.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: Python 3.11 or newer is needed" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is too old: Python 3.11 or newer is needed (make PYTHON=python3.12 ...)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(PYTHON) -m pip --version >/dev/null 2>&1 || { \
	  echo "$(PYTHON) has neither venv nor pip: install one (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "installing local/requirements.txt into $(VENV)"
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then \
	  $(PYTHON) -m venv --clear $(VENV) && \
	  $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement local/requirements.txt; \
	else \
	  $(PYTHON) -m venv --clear --without-pip $(VENV) && \
	  $(PYTHON) -m pip --python $(VENV)/bin/python install --quiet --disable-pip-version-check \
	    --requirement local/requirements.txt; \
	fi
	@touch $@
