"""The linear strategy over Mitogen, found through the controller's environment instead of a path."""

from __future__ import annotations

import ansible_mitogen.affinity
import ansible_mitogen.loaders
import ansible_mitogen.strategy

# Mitogen would keep all hosts' workers, and the build, off the first processor: of two they had one.
ansible_mitogen.affinity.policy = ansible_mitogen.affinity.Policy()

_linear = ansible_mitogen.loaders.strategy_loader.get("linear", class_only=True)


class StrategyModule(ansible_mitogen.strategy.StrategyMixin, _linear):  # type: ignore[misc, valid-type]
    """Ansible's linear strategy with Mitogen's connections and module execution."""
