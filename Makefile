# The verbs a person types. `make` alone lists them.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:

INVENTORY ?= local
INVENTORY_FILE = inventories/$(INVENTORY)/hosts.yml
ROLE_SCENARIOS = $(filter-out default release supervisor upgrade,$(notdir $(patsubst %/molecule.yml,%,$(wildcard tests/molecule/*/molecule.yml))))
SIDE_BY_SIDE = --dist worksteal --numprocesses
# Tests of real servers wait as much as they compute.
PROCESSES = $(shell expr $$(nproc) + 1)
WITHOUT_A_HOST = $(MAKE) --no-print-directory lint test-python
# All of Molecule's sequence but the tests on the host, which watch the clock.
BRING_UP = for verb in destroy syntax converge idempotence side-effect; do tests/molecule/run $$verb default 13 || exit; done
# A path in the environment finds ansible's own programs for the modules and plugins that call them.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible/ansible.cfg

# make ignores what no verb takes: a mistyped INVENTORY would deploy to the local host.
FLEET_VERBS = site deploy rollback restart drain reboot lock unlock verify
ifneq (,$(filter $(FLEET_VERBS),$(MAKECMDGOALS)))
TAKEN = INVENTORY ARGS $(if $(filter site deploy,$(MAKECMDGOALS)),REF) $(if $(filter rollback,$(MAKECMDGOALS)),TO) $(if $(filter lock unlock,$(MAKECMDGOALS)),REASON)
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
UNKNOWN := $(filter-out $(TAKEN),$(GIVEN))
$(if $(UNKNOWN),$(error Nothing was done: make $(MAKECMDGOALS) does not take $(UNKNOWN). It takes $(strip $(TAKEN))))
EMPTY := $(strip $(foreach name,$(filter-out ARGS,$(GIVEN)),$(if $($(name)),,$(name))))
$(if $(EMPTY),$(error Nothing was done: $(EMPTY) is empty. Give it a value, or leave it out))
endif

.PHONY: help
help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: up
up: bootstrap-hosts ## Boot, provision and verify a local test host, and print its addresses
	@tests/images/testhost.py up drumline-local --publish 127.0.0.1:2222:22 --publish 127.0.0.1:8443:443 --publish 127.0.0.1:8080:80
	@cd ansible && ansible-playbook --inventory inventories/local/hosts.yml site.yml verify.yml
	@cat tests/images/welcome.txt

.PHONY: down
down: ## Remove the local test host and its generated secrets
	@tests/images/testhost.py down drumline-local
	@rm -rf ansible/inventories/local/secrets

.PHONY: shell
shell: ## Open a root shell on the local test host
	@tests/images/testhost.py exec drumline-local bash --login

.PHONY: dev
dev: ## Run the whole stack on this machine without root, reloading on changes: PORT=8000 is the first of four ports
	@ansible/bootstrap --no-hosts development flower
	@.venv/bin/python supervisor/development.py $(PORT)

.PHONY: site
site: bootstrap-controller ## Provision and deploy a fleet: INVENTORY=production, REF=v1.4, ARGS="--check --diff"
	@cd ansible && ansible-playbook --inventory $(INVENTORY_FILE) site.yml $(if $(REF),--extra-vars app_ref=$(REF)) $(ARGS)

.PHONY: deploy
deploy: bootstrap-controller ## Deploy onto a provisioned fleet: INVENTORY=production; REF=v1.4 names a commit, tag or branch
	@cd ansible && ansible-playbook --inventory $(INVENTORY_FILE) deploy.yml $(if $(REF),--extra-vars app_ref=$(REF)) $(ARGS)

.PHONY: rollback
rollback: bootstrap-controller ## Go back to the release before, or to TO=id: INVENTORY=production
	@cd ansible && ansible-playbook --inventory $(INVENTORY_FILE) rollback.yml $(if $(TO),--extra-vars rollback_to=$(TO)) $(ARGS)

.PHONY: restart
restart: bootstrap-controller ## Restart the fleet without a gap, and put drained hosts back: INVENTORY=production, ARGS="--limit app2"
	@cd ansible && ansible-playbook --inventory $(INVENTORY_FILE) restart.yml $(ARGS)

.PHONY: drain
drain: bootstrap-controller ## Take hosts out of service: INVENTORY=production, ARGS="--limit app2"
	@cd ansible && ansible-playbook --inventory $(INVENTORY_FILE) drain.yml $(ARGS)

.PHONY: reboot
reboot: bootstrap-controller ## Reboot hosts that wait for it, one after the other: INVENTORY=production
	@cd ansible && ansible-playbook --inventory $(INVENTORY_FILE) reboot.yml $(ARGS)

.PHONY: lock unlock
lock: bootstrap-controller ## Keep everybody from deploying: INVENTORY=production, REASON="the database moves"
	@cd ansible && ansible-playbook --inventory $(INVENTORY_FILE) lock.yml $(ARGS)
unlock: bootstrap-controller ## Let everybody deploy again: INVENTORY=production
	@cd ansible && ansible-playbook --inventory $(INVENTORY_FILE) lock.yml --extra-vars lock_open=true $(ARGS)

.PHONY: verify
verify: bootstrap-controller ## Check a fleet without changing anything: INVENTORY=production
	@cd ansible && ansible-playbook --inventory $(INVENTORY_FILE) verify.yml $(ARGS)

.PHONY: docs
docs: bootstrap-controller ## Generate the references of the configuration and of the command
	python docs/configuration.py
	python docs/command.py

.PHONY: wheel
wheel: bootstrap-controller ## Build the command drumline with its playbooks into a wheel, build/drumline_cli-*.whl
	@uv build --quiet --wheel --out-dir build ansible/command

.PHONY: lint
lint: bootstrap-test ## Check style and types: ruff, mypy, yamllint, ansible-lint
	ruff check
	ruff format --check
	mypy
	yamllint --strict .
	cd ansible && ansible-lint --config-file ../.ansible-lint

.PHONY: test-python
test-python: bootstrap-test ## Tests that need no test host: application, contracts, units, playbooks, real servers
	cd drumline && pytest $(SIDE_BY_SIDE) auto
	pytest $(SIDE_BY_SIDE) $(PROCESSES) tests/app tests/contracts tests/units tests/playbooks tests/command tests/vagrant tests/integration tests/faults

.PHONY: test-matrix
test-matrix: bootstrap-test ## Run the package over every supported Python, Django and Celery that this machine has, in an hour: ONLY=3.13-6.1-5.7
	cd drumline && nox $(if $(ONLY),--session 'suite($(ONLY))')

.PHONY: test-projects
test-projects: bootstrap-test ## Deploy projects that were written without Drumline, each to a test host of its own: ONLY=channels
	pytest tests/projects $(if $(ONLY),-k '$(ONLY)')

.PHONY: coverage
coverage: bootstrap-test ## Measure which branches of app/ and the package those tests reach, in every process that they start
	pytest tests/app tests/integration --cov $(CURDIR)/app --cov $(CURDIR)/drumline/src

.PHONY: faults
faults: bootstrap-test ## Run the fault suite and compare with stock Celery, in 50 minutes: ONLY=redis
	pytest $(SIDE_BY_SIDE) auto tests/faults --full $(if $(ONLY),-k '$(ONLY)')

.PHONY: test
test: bootstrap-test ## Everything that must pass, with the whole site on a Debian 13 test host
	@tests/beside build/bring-up.log '$(BRING_UP)' '$(WITHOUT_A_HOST)'
	tests/molecule/run verify default 13
	tests/molecule/run destroy default 13

.PHONY: bench
bench: bootstrap-bench ## Run the benchmarks against Celery without the ledger and other task queues, in three hours on an idle machine: ONLY=enqueue
	python -m bench $(ONLY)

.PHONY: test-all
test-all: test test-matrix faults test-browser ## And every fault of a release, an upgrade, the site on Debian 12 with plain Ansible and without systemd, two foreign projects, every role by itself on both, and a browser
	tests/molecule/run test release 13
	ANSIBLE_STRATEGY=linear tests/molecule/run test release 12
	tests/molecule/run test upgrade 13
	ROTATION=all ANSIBLE_STRATEGY=linear tests/molecule/run test default 12
	tests/molecule/run test supervisor 13
	pytest tests/projects/test_first_steps.py tests/projects/test_channels.py
	for scenario in $(ROLE_SCENARIOS); do for debian in 12 13; do tests/molecule/run test $$scenario $$debian || exit 1; done; done

.PHONY: test-browser
test-browser: up ## Test the local test host in a real browser; screenshots go to build/screenshots
	@ansible/bootstrap --browser controller flower test
	pytest tests/browser

.PHONY: vagrant-test
vagrant-test: bootstrap-vms ## Test staging on real VMs, in one to two hours without KVM; resumes where it stopped: DEBIAN=12, FLEET=1, ONLY=step
	@python -m tests.vagrant.prove --debian $(or $(DEBIAN),13) $(if $(FLEET),--fleet) $(if $(ONLY),--only $(ONLY))

.PHONY: bootstrap-bench bootstrap-controller bootstrap-hosts bootstrap-test bootstrap-vms
bootstrap-bench:
	@ansible/bootstrap --no-hosts --peers controller flower test lint
bootstrap-controller:
	@ansible/bootstrap --no-hosts controller
bootstrap-hosts:
	@ansible/bootstrap controller
bootstrap-vms:
	@ansible/bootstrap --no-hosts --vms controller
bootstrap-test:
	@ansible/bootstrap controller flower test lint
