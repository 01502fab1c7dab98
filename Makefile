# The verbs a person types. `make` alone lists them.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:

INVENTORY ?= local
INVENTORY_FILE = inventories/$(INVENTORY)/hosts.yml
VENV := .venv/bin
# A path in the environment finds ansible's own programs for the modules and plugins that call them.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible/ansible.cfg

.PHONY: help
help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: up
up: ## Provision a local test host from nothing, prove it, and say where it is
	@ansible/bootstrap hosts controller
	@$(VENV)/python tests/images/testhost.py up drumline-local --publish 127.0.0.1:2222:22 --publish 127.0.0.1:8443:443 --publish 127.0.0.1:8080:80
	@$(MAKE) --no-print-directory site verify
	@$(VENV)/python tests/images/welcome.py

.PHONY: down
down: ## Remove the local test host and what was generated for it
	@ansible/bootstrap hosts
	@tests/images/testhost.py down drumline-local

.PHONY: site
site: ## Run the playbook site.yml; INVENTORY=production chooses the fleet, ARGS="--check --diff" adds options
	@cd ansible && ansible-playbook --inventory $(INVENTORY_FILE) site.yml $(ARGS)

.PHONY: verify
verify: ## Prove a fleet by looking: units, queues, beat, site, Flower; INVENTORY=production
	@cd ansible && ansible-playbook --inventory $(INVENTORY_FILE) verify.yml $(ARGS)
