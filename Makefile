# ecs-updater: `make` lists the rules.
#
# Needed: Rust (cargo) and Python 3.11 or newer with its venv module. Everything else (the local AWS, boto3, the
# template linter) is installed into .venv from tools/requirements.txt, and the other validators into .tools from
# infrastructure/validators.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Where rustup puts cargo, for shells that do not have it in their PATH.
export PATH := $(PATH):$(HOME)/.cargo/bin
# No __pycache__ folders in the checkout.
export PYTHONDONTWRITEBYTECODE := 1

PYTHON ?= python3
VENV := .venv
TOOLS := .tools
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)

# The architecture for which packages are built: x86_64 or arm64, as the parameter Architecture of hub.yaml. The default is that of this machine.
ARCH ?= $(if $(filter aarch64 arm64,$(shell uname -m)),arm64,x86_64)
RUST_TARGET := $(if $(filter arm64,$(ARCH)),aarch64,x86_64)-unknown-linux-gnu

# Each of them is a binary, a package and a function of hub.yaml (the trigger: of trigger.yaml).
FUNCTIONS := updater history recorder trigger
LOCAL_PACKAGES := $(TARGET)/local
LAMBDA_PACKAGES := $(TARGET)/lambda-package/$(ARCH)

# With LOCAL=1, the rules that deploy, try and remove use a local AWS; otherwise they use the AWS account of the credentials.
# DEPLOYED is the folder in which they record what they created (tools/deploy/rules.py).
DEPLOYED ?= .deployed
PACKAGES_RULE := $(if $(LOCAL),local-package,build-lambda-package)
RULES = ARCH=$(ARCH) $(VENV)/bin/python tools/deploy/rules.py --state $(DEPLOYED) \
  $(if $(LOCAL),--local --packages $(LOCAL_PACKAGES),--packages $(LAMBDA_PACKAGES))
LOCAL_RULES = deploy-ecs-cluster deploy-lambda-sam deploy-ecs-service \
  run-lambda-test-sam run-lambda-test-aws run-lambda-test-unittest
# The rules that use Terraform, if it is installed on this machine; TF_RULES= omits them from all-local.
TF_RULES ?= deploy-ecs-cluster-tf deploy-lambda-aws-tf run-lambda-test-aws run-lambda-test-unittest
AWS_RULES = deploy-ecs-cluster deploy-lambda-aws deploy-ecs-service run-lambda-test-aws run-lambda-test-unittest

TEMPLATES := $(wildcard infrastructure/cloudformation/*.yaml)

.PHONY: help
help: ## list the rules
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  %-24s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: run
run: $(VENV)/stamp local-package ## change one service by one event on a local AWS, and show its history (EVENT=file: another event; KEEP=1: keep the local AWS)
	@$(VENV)/bin/python tools/deploy/run.py $(TARGET) $(if $(KEEP),--keep) $(EVENT)

.PHONY: run-lambda-test-sam
run-lambda-test-sam: $(VENV)/stamp local-package ## send the first version's eight events to a local function, and print each answer
	@$(VENV)/bin/python tools/deploy/run.py $(TARGET) --all

# All suites run, even if the first one fails. Two threads, as on a machine with two processors. The command line is built separately: together
# with it, the functions would be linked with its ways to sign in, which their packages do not have. The simulator has its own build profile:
# in the debug profile, some hundreds of seeds would take ten minutes. The packages are made of the binaries that the tests of cargo have run: a
# separate build would have other features of the same crates, and would take four minutes more.
.PHONY: test
test: $(VENV)/stamp $(TARGET)/docker-registry/stamp cargo ## run every test: cargo test, then the end-to-end tests on a local AWS
	@export RUST_TEST_THREADS=2; \
	cargo test --locked --workspace --exclude ecs-updater-cli --exclude ecs-updater-simulation --no-fail-fast; rust=$$?; \
	cargo test --locked --package ecs-updater-cli --no-fail-fast || rust=1; \
	cargo test --locked --profile sim -p ecs-updater-simulation --no-fail-fast || rust=1; \
	$(MAKE) --no-print-directory local-zips && \
	BUILT=$(TARGET) $(VENV)/bin/python -m pytest -p no:cacheprovider tests/e2e tests/prove_aws; python=$$?; \
	test $$rust -eq 0 -a $$python -eq 0

# Checks properties of untrusted input (tests/fuzz) with inputs that libFuzzer generates. FUZZ_SECONDS: the time in all, divided between the targets;
# TARGETS: some of fuzz/fuzz_targets; SANITIZER=address: also find memory errors in dependencies, at a third of the speed.
FUZZ_SECONDS ?= 120
SANITIZER ?= none
.PHONY: fuzz
fuzz: $(TOOLS)/rust/stamp cargo ## run the fuzzers for FUZZ_SECONDS in all (120; TARGETS="event query": some of them); the first build takes minutes
	@$(PYTHON) fuzz/run.py $(TOOLS)/rust/bin/cargo-fuzz --seconds $(FUZZ_SECONDS) --targets "$(TARGETS)" --sanitizer $(SANITIZER)

# Runs the whole system in one process, under virtual time (crates/simulation). Each seed is a run; a broken invariant is shown with the
# smallest plan that breaks it. SIMULATE="--keep-going --no-shrink", "--twice", "--show 7", "--plan FILE": see `simulate --help`.
SEEDS ?= 1000
FROM ?= 0
JOBS ?= 2
.PHONY: simulate
simulate: cargo ## simulate the whole system with SEEDS seeds (1000) from seed FROM (0) on; the first build takes minutes
	cargo build --locked --profile sim -p ecs-updater-simulation
	@$(TARGET)/sim/simulate --seeds $(SEEDS) --from $(FROM) --jobs $(JOBS) $(SIMULATE)

# Puts back faults that were fixed, one at a time, in a copy of the tree under target/mutants (crates/simulation/mutants).
.PHONY: simulate-mutants
simulate-mutants: cargo ## put known faults back one at a time, and show which seed finds each (MUTANTS="03 08d": some; at most SEEDS seeds)
	@$(PYTHON) crates/simulation/mutants/run.py --seeds $(SEEDS) --from $(FROM) --jobs $(JOBS) $(MUTANTS)

# A registry for the tests, if the package of Debian can be installed.
$(TARGET)/docker-registry/stamp: tests/registry/unpack
	@tests/registry/unpack $(@D)

# UPDATE_TABLES=1 writes the tables into docs/RELIABILITY.md, which the tests compare with their results.
.PHONY: reliability
reliability: cargo ## print the tables of what remains when a function is killed or a call fails (docs/RELIABILITY.md)
	@cargo test --locked -p ecs-updater-domain --test endings -- --nocapture
	@SLOW_TESTS=1 cargo test --locked --test it matrix -- --nocapture --test-threads=1

.PHONY: modules
modules: cargo ## print the modules in layers, with what each uses; fails if an arrow points upward or in a circle
	@$(PYTHON) tools/modules.py

.PHONY: lint lint-code lint-documents lint-format lint-modules lint-clippy lint-dependencies lint-templates lint-policies lint-sam lint-checkov \
  lint-parliament lint-state-machines lint-api lint-workflows lint-tables lint-validators lint-permissions lint-terraform lint-model
lint: lint-code lint-documents ## run every linter: formatting, clippy, templates, policies and what they permit, documents
lint-code: lint-format lint-modules lint-clippy lint-dependencies lint-terraform lint-model
# These may run at the same time as the tests: they need no build, and write only below .tools.
lint-documents: lint-templates lint-policies lint-sam lint-checkov lint-parliament lint-state-machines lint-api lint-workflows lint-tables \
  lint-validators lint-permissions
lint-format: cargo
	cargo fmt --all --check
	cargo fmt --check --manifest-path fuzz/Cargo.toml
lint-modules: modules
lint-clippy: cargo
	cargo clippy --locked --workspace --all-targets -- -D warnings
# Checks licences, sources, second stacks for TLS and HTTP, and crates that nothing uses. Known vulnerabilities are in a database that
# has to be fetched: `make lint-advisories`, which needs a network.
lint-dependencies: $(TOOLS)/rust/stamp
	$(TOOLS)/rust/bin/cargo-deny --locked check --hide-inclusion-graph licenses bans sources
	$(TOOLS)/rust/bin/cargo-deny --locked --manifest-path fuzz/Cargo.toml --config deny.toml check --hide-inclusion-graph licenses bans sources
	$(TOOLS)/rust/bin/cargo-shear --locked --deny-warnings
.PHONY: lint-advisories
lint-advisories: $(TOOLS)/rust/stamp
	$(TOOLS)/rust/bin/cargo-deny --locked check advisories
	$(TOOLS)/rust/bin/cargo-deny --locked --manifest-path fuzz/Cargo.toml --config deny.toml check advisories
# The same for .ci/run: if the database cannot be fetched, it is skipped, and a line says so.
.PHONY: lint-advisories-if-any
lint-advisories-if-any: $(TOOLS)/rust/stamp
	@if $(TOOLS)/rust/bin/cargo-deny --locked fetch db >/dev/null 2>&1; \
	then $(TOOLS)/rust/bin/cargo-deny --locked check --disable-fetch advisories && \
	  $(TOOLS)/rust/bin/cargo-deny --locked --manifest-path fuzz/Cargo.toml --config deny.toml check --disable-fetch advisories; \
	else echo "skipped: lint-advisories: RustSec's database cannot be fetched here"; fi
lint-templates: $(VENV)/stamp
	$(VENV)/bin/cfn-lint $(TEMPLATES)
lint-policies: $(VENV)/stamp
	$(VENV)/bin/python infrastructure/models.py --check
	$(VENV)/bin/python infrastructure/render.py --check
lint-sam: $(TOOLS)/sam/stamp
	infrastructure/validators/run sam $(TEMPLATES)
lint-checkov: $(TOOLS)/checkov/stamp
	infrastructure/validators/run checkov infrastructure
lint-parliament: $(TOOLS)/python/stamp
	infrastructure/validators/run parliament policies
# The state machine is put together from its parts, as in the template.
lint-state-machines: $(VENV)/stamp $(TOOLS)/node/stamp
	$(VENV)/bin/python infrastructure/render.py --waves > $(TOOLS)/waves.asl.json
	infrastructure/validators/run asl $(TOOLS)/waves.asl.json
lint-api: $(TOOLS)/python/stamp
	infrastructure/validators/run openapi $(wildcard infrastructure/api/*.yaml)
lint-workflows: $(TOOLS)/workflows/stamp
	infrastructure/validators/run workflows $(wildcard .github/workflows/*.yml)
# The tables of docs say what schema/ says, and each of its properties has a title and a description.
lint-tables:
	$(PYTHON) tools/tables.py --check
# Gives each validator a deliberate error: a validator that accepts everything looks just like one that found nothing.
lint-validators: $(VENV)/stamp $(TOOLS)/stamp
	$(VENV)/bin/python -m pytest -p no:cacheprovider tests/validators
# Simulates what the policies permit and refuse, and checks that no way to widen them would go unnoticed.
lint-permissions: $(VENV)/stamp $(TOOLS)/node/stamp $(TOOLS)/model/stamp
	$(VENV)/bin/python -m pytest -p no:cacheprovider tests/policies

# What AWS has of ECS, beside what this project takes (tools/model/taken.json, by the code) and what it leaves out with a reason
# (tools/model/left_out.toml). NEWEST=1: the models of the newest botocore instead of those that are pinned.
lint-model: $(TOOLS)/model/stamp cargo
	@$(if $(NEWEST),,$(PYTHON) tools/model/shapes.py --check $(TOOLS)/model)
	@$(PYTHON) tools/model/lint.py $(if $(NEWEST),--newest,$(TOOLS)/model)

# After another botocore is pinned, or the code takes something else of it.
.PHONY: model
model: $(TOOLS)/model/stamp cargo ## write what AWS takes and what the code takes of it (crates/aws-stub/src/shapes.json, tools/model/taken.json)
	@$(PYTHON) tools/model/shapes.py $(TOOLS)/model
	@UPDATE_MODEL=1 cargo test --quiet --locked -p ecs-updater-domain --lib model::

# The pages of docs as one book (book.toml). It fails if a page of docs/SUMMARY.md does not exist.
.PHONY: book
lint-code: book
book: $(TOOLS)/mdbook/stamp ## build the documentation as a book, in target/book (installing mdBook takes minutes at first)
	$(TOOLS)/mdbook/bin/mdbook build --dest-dir $(abspath $(TARGET))/book

# If the machine has no Terraform or no AWS provider for it (TF_PLUGIN_DIR: a folder with one), this is skipped, and a line says so.
lint-terraform: $(VENV)/stamp
	@$(VENV)/bin/python tools/deploy/terraform.py lint

.PHONY: check-api
check-api: $(VENV)/stamp ## print how each method of a deployed API verifies its callers (API=its id); fails if one lets everybody in
	@$(VENV)/bin/python infrastructure/check_api.py "$(API)"

# What only AWS can tell (docs/TESTING.md has the list, what it needs and what it costs). ONLY="merge ttl": some of the questions.
.PHONY: prove-aws
prove-aws: $(VENV)/stamp ## ask AWS what only AWS can answer, an hour at the most (LOCAL=1: the local AWS; ONLY=some; CLEAN=1: remove what was left; LIST=1)
	@$(VENV)/bin/python tools/prove_aws/prove.py $(if $(LOCAL),--local) $(if $(CLEAN),--clean) $(if $(LIST),--list) \
	  $(if $(ONLY),--only "$(ONLY)") $(if $(MINUTES),--minutes $(MINUTES))

.PHONY: tables
tables: ## write the fields of schema/ into the tables of docs
	@$(PYTHON) tools/tables.py

.PHONY: render
render: $(VENV)/stamp tables ## write policies, state machine, schemas and API into the files that are made from them; variables into Terraform's READMEs, questions into TESTING
	@$(VENV)/bin/python infrastructure/models.py
	@$(VENV)/bin/python infrastructure/render.py
	@$(VENV)/bin/python tools/deploy/terraform.py readme
	@$(VENV)/bin/python tools/prove_aws/prove.py --write

.PHONY: build-lambda-package
build-lambda-package: $(VENV)/stamp cargo ## build the zips for AWS and their SBOMs; small, and slow to build (ARCH=x86_64 or arm64)
	@wanted=$$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml); found=$$(rustc --version | cut -d ' ' -f 2); \
	test "$$found" = "$$wanted" || test -n "$(ANY_RUST)" || { \
	  echo "Rust $$found is not the $$wanted of rust-toolchain.toml, by which packages are the same bytes everywhere:" >&2; \
	  echo "rustup takes it by itself. ANY_RUST=1 builds other bytes by what is here" >&2; exit 1; }
	@rustc --print target-libdir --target $(RUST_TARGET) | xargs test -d || { \
	  echo "Rust cannot build for $(RUST_TARGET) here: rustup target add $(RUST_TARGET)" >&2; exit 1; }
	RUSTFLAGS="$(RUSTFLAGS) $(PACKAGE_RUSTFLAGS)" cargo build --locked --profile lambda --target $(RUST_TARGET) $(FUNCTIONS:%=--bin %)
	@for function in $(FUNCTIONS); do $(VENV)/bin/python tools/package/package.py --lambda \
	  $(TARGET)/$(RUST_TARGET)/lambda/$$function $(LAMBDA_PACKAGES)/$$function.zip || exit; done
	@$(VENV)/bin/python tools/package/sbom.py $(RUST_TARGET) $(FUNCTIONS:%=$(LAMBDA_PACKAGES)/%.zip)

# The same inputs give the same zips, so they must not contain a path of this machine. On x86_64, where Rust brings its own linker, identical
# functions are linked once.
CARGO_HOME ?= $(HOME)/.cargo
PACKAGE_RUSTFLAGS = --remap-path-prefix=$(CARGO_HOME)=cargo --remap-path-prefix=$(CURDIR)=. \
  $(if $(filter x86_64,$(ARCH)),-C link-arg=-Wl$(comma)--icf=all)
comma := ,

.PHONY: bench bench-many bench-start
bench: bench-many bench-start ## print measurements as tables: many services in one event; start, calls, memory and size (minutes to build)
# PACKAGES: a folder with packages that are built already. Default: those of build-lambda-package, which are built if there are none.
.PHONY: bench-packages
bench-packages:
	@test -n "$(PACKAGES)" -o -e $(LAMBDA_PACKAGES)/updater.zip || $(MAKE) --no-print-directory build-lambda-package
	@test -n "$(PACKAGES)" || test -z "$$(find src crates/domain crates/sdk-error Cargo.toml Cargo.lock -newer $(LAMBDA_PACKAGES)/updater.zip)" || \
	  echo "The packages are older than what stands in src or crates; to measure that: make build-lambda-package"
bench-many: cargo bench-packages
	@$(PYTHON) -m zipfile -e $(or $(PACKAGES),$(LAMBDA_PACKAGES))/updater.zip $(TARGET)/bench
	@chmod +x $(TARGET)/bench/bootstrap
	@BENCH_UPDATER=$(abspath $(TARGET)/bench/bootstrap) cargo bench --locked --bench many
bench-start: $(TOOLS)/bench/stamp bench-packages
	@$(TOOLS)/bench/bin/python benches/start.py $(or $(PACKAGES),$(LAMBDA_PACKAGES))

# ---- the rules of the first version; with LOCAL=1 in a local AWS, without an account ----

.PHONY: all-local
all-local: $(VENV)/stamp local-package ## deploy, try and remove in a local AWS, by all rules of the first version; nothing is left
	@trap 'exit 130' INT TERM; \
	trap 'code=$$?; $(MAKE) --no-print-directory LOCAL=1 clean-deployed || code=1; exit $$code' EXIT; \
	for rule in clean-deployed $(LOCAL_RULES); do \
	  echo "==> make $$rule LOCAL=1"; $(MAKE) --no-print-directory LOCAL=1 $$rule || exit; done; \
	if test -n "$(TF_RULES)" && $(RULES) has-terraform; then for rule in clean-deployed $(TF_RULES); do \
	  echo "==> make $$rule LOCAL=1"; $(MAKE) --no-print-directory LOCAL=1 $$rule || exit; done; fi

.PHONY: all-aws all-aws-tf
all-aws: ## deploy and try in the AWS account of the credentials, where it stays until `make clean`
	@for rule in $(AWS_RULES); do echo "==> make $$rule"; $(MAKE) --no-print-directory LOCAL= $$rule || exit; done
all-aws-tf: ## the same with Terraform
	@for rule in $(TF_RULES); do echo "==> make $$rule"; $(MAKE) --no-print-directory LOCAL= $$rule || exit; done

.PHONY: deploy-ecs-cluster deploy-ecs-cluster-tf deploy-ecs-service deploy-lambda-aws deploy-lambda-aws-tf deploy-lambda-sam
deploy-ecs-cluster: $(VENV)/stamp ## deploy a VPC and a cluster to try the project on
	@$(RULES) deploy-ecs-cluster
deploy-ecs-cluster-tf: $(VENV)/stamp ## the same with Terraform, together with the dummy service
	@$(RULES) deploy-ecs-cluster-tf
deploy-ecs-service: $(VENV)/stamp ## deploy the dummy service in that cluster (DESIRED_COUNT=0: without tasks)
	@$(RULES) deploy-ecs-service
deploy-lambda-aws: $(VENV)/stamp $(PACKAGES_RULE) ## deploy the hub and the target role
	@$(RULES) deploy-lambda
deploy-lambda-aws-tf: $(VENV)/stamp $(PACKAGES_RULE) ## the same with Terraform
	@$(RULES) deploy-lambda-tf
deploy-lambda-sam: ## deploy the hub and the target role in the local AWS
	@$(MAKE) --no-print-directory LOCAL=1 deploy-lambda-aws

.PHONY: run-lambda-test-aws run-lambda-test-unittest run-lambda-test-inittest
run-lambda-test-aws: $(VENV)/stamp ## send the first version's eight events to the deployed function, and print and check each answer
	@$(RULES) test-events
run-lambda-test-unittest: $(VENV)/stamp ## run the first version's checks, 1.1.1 to 4.3.4, against the deployed function
	@$(RULES) test-unittest
run-lambda-test-inittest: run-lambda-test-unittest ## the same under the name that the first version's documentation gives it

# CloudFormation neither detects nor repairs that somebody has removed the policy of a table.
STACK ?= ecs-updater
.PHONY: check-tables
check-tables: $(VENV)/stamp ## check that both tables of the hub (STACK) have the policies and protections that were deployed
	@$(VENV)/bin/python tools/deploy/check_tables.py $(STACK)

# What was created in AWS is removed first: otherwise its record, and with it the way to find it, would be gone.
.PHONY: clean clean-deployed
clean: clean-deployed ## remove what these rules created, in AWS too, and everything that was built or installed here
	rm -rf $(VENV) $(TOOLS) $(TARGET) $(DEPLOYED) fuzz/target fuzz/corpus fuzz/artifacts
clean-deployed: ## remove what these rules created (LOCAL=1: in the local AWS alone)
	@if test -e $(DEPLOYED)/local-aws.json; then \
	  $(MAKE) --silent $(VENV)/stamp && $(RULES) --local clean; fi
	@if test -z "$(LOCAL)" -a -e $(DEPLOYED)/aws.json; then \
	  $(MAKE) --silent $(VENV)/stamp && $(RULES) clean; fi

# ---- parts ----

.PHONY: cargo
cargo:
	@command -v cargo >/dev/null || { \
	  echo "cargo was not found: install Rust (https://rustup.rs), or add its bin folder to PATH" >&2; exit 1; }

# Packages that are quick to build, for the local AWS only; and the command line, which calls the functions there.
.PHONY: local-package local-zips
local-package: $(VENV)/stamp cargo
	cargo build --locked $(FUNCTIONS:%=--bin %)
	cargo build --locked --package ecs-updater-cli
	@$(MAKE) --no-print-directory local-zips
local-zips: $(VENV)/stamp
	@for function in $(FUNCTIONS); do test $(LOCAL_PACKAGES)/$$function.zip -nt $(TARGET)/debug/$$function || \
	  $(VENV)/bin/python tools/package/package.py $(TARGET)/debug/$$function $(LOCAL_PACKAGES)/$$function.zip || exit; done

# The pins are given as constraints too: without that, a pip of 2023 takes the newest version of a package with extras, and finds no hash for it.
pinned = --requirement $(1) --constraint $(1)

# A virtual environment in $(1) with exactly what $(2) pins. The stamp is written last: an installation that was interrupted
# is done again from the start.
define virtual_environment
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: Python 3.11 or newer is needed" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is too old: Python 3.11 or newer is needed (make PYTHON=python3.12 ...)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(PYTHON) -m pip --version >/dev/null 2>&1 || { \
	  echo "$(PYTHON) has neither venv nor pip: install one (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "installing $(2) into $(1)"
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then \
	  $(PYTHON) -m venv --clear $(1) && \
	  $(1)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes $(call pinned,$(2)); \
	else \
	  $(PYTHON) -m venv --clear --without-pip $(1) && \
	  $(PYTHON) -m pip --python $(1)/bin/python install --quiet --disable-pip-version-check --require-hashes $(call pinned,$(2)); \
	fi
	@touch $@
endef

$(VENV)/stamp: tools/requirements.txt
	$(call virtual_environment,$(VENV),$<)

# ---- the validators, each in its own environment, because the pins of one contradict those of another ----

$(addprefix $(TOOLS)/,$(addsuffix /stamp,python sam checkov rust workflows)): $(TOOLS)/%/stamp: infrastructure/validators/%.txt
	$(call virtual_environment,$(TOOLS)/$*,$<)

# AWS's models, which `make lint-model` compares with this project.
$(TOOLS)/model/stamp: tools/model/requirements.txt
	$(call virtual_environment,$(TOOLS)/model,$<)

# What `make bench-start` compares with.
$(TOOLS)/bench/stamp: benches/first_version/requirements.txt
	$(call virtual_environment,$(TOOLS)/bench,$<)

# The makers of mdBook publish no wheel, so it is built here: without its server and its search, and without optimization. Its own lock file pins
# its dependencies.
MDBOOK := 0.5.4
$(TOOLS)/mdbook/stamp: Makefile | cargo
	@if test "$$($(@D)/bin/mdbook --version 2>/dev/null)" != "mdbook v$(MDBOOK)"; then \
	  echo "installing mdbook $(MDBOOK) into $(@D)"; \
	  CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$(@D)/target cargo install --quiet --locked --no-default-features --profile dev \
	    --root $(@D) mdbook@$(MDBOOK) && rm -rf $(@D)/target; fi
	@touch $@

# Node itself is in the Python environment, because PyPI has it as a wheel.
$(TOOLS)/node/stamp: infrastructure/validators/package-lock.json infrastructure/validators/package.json $(TOOLS)/python/stamp
	@echo "installing $< into $(TOOLS)/node"
	@rm -rf $(TOOLS)/node && mkdir -p $(TOOLS)/node
	@cp infrastructure/validators/package-lock.json infrastructure/validators/package.json infrastructure/validators/.npmrc $(TOOLS)/node
	@infrastructure/validators/run npm ci --loglevel=error --no-audit --no-fund --fetch-retries=5 --prefix $(TOOLS)/node
	@touch $@

$(TOOLS)/stamp: $(addprefix $(TOOLS)/,$(addsuffix /stamp,python sam checkov rust workflows node))
	@touch $@
