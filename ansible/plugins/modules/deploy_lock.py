#!/usr/bin/python
"""Let one deploy at a time touch a host."""

from __future__ import annotations

DOCUMENTATION = """
module: deploy_lock
short_description: Let one deploy at a time touch a host
description:
  - The lock is a file that says who deploys, from which machine, since when. It is taken by creating it, and it is
    gone after a reboot.
  - A lock of a deploy that does not run any more is taken over, where the same machine took it and knows that.
options:
  path:
    description: The file.
    type: path
    default: /run/lock/drumline-deploy.json
  holder:
    description: The lookup deploy_holder - who asks, and which deploys run on that machine.
    type: dict
    required: true
  state:
    description: held takes the lock or fails; free gives back what this deploy holds.
    type: str
    choices: [held, free]
    default: held
author: Drumline
"""

EXAMPLES = """
- name: Be the only deploy
  deploy_lock:
    holder: "{{ lookup('deploy_holder') }}"

- name: Let the next deploy begin
  deploy_lock:
    holder: "{{ lookup('deploy_holder') }}"
    state: free
"""

RETURN = """
changed: {description: Never; a lock is no part of the state that a second run leaves as it is., type: bool, returned: always}
"""

import datetime as dt
import json
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule


def _read(path: str) -> dict[str, str]:
    try:
        with open(path, encoding="utf-8") as handle:
            lock: dict[str, str] = json.load(handle)
            return lock
    except FileNotFoundError:
        return {}
    except ValueError:
        # Begun by somebody at this very moment.
        return {"who": "somebody", "machine": "", "process": "", "since": "a moment ago"}


def _create(path: str, lock: dict[str, str]) -> bool:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        json.dump(lock, handle)
    return True


def _is_of(lock: dict[str, str], holder: dict[str, Any]) -> bool:
    return (lock.get("machine"), lock.get("process")) == (holder["machine"], holder["process"])


def _is_over(lock: dict[str, str], holder: dict[str, Any]) -> bool:
    return lock.get("machine") == holder["machine"] and lock.get("process") not in holder["running"]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/run/lock/drumline-deploy.json"},
            "holder": {"type": "dict", "required": True},
            "state": {"type": "str", "choices": ["held", "free"], "default": "held"},
        },
        supports_check_mode=True,
    )
    path, holder = module.params["path"], module.params["holder"]
    found = _read(path)
    # It is no part of the state that a second run leaves as it is: never "changed".
    if module.check_mode:
        module.exit_json(changed=False)
    if module.params["state"] == "free":
        if found and _is_of(found, holder):
            os.unlink(path)
        module.exit_json(changed=False)
    if found and not _is_of(found, holder) and _is_over(found, holder):
        os.unlink(path)
        found = {}
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    lock = {**{key: holder[key] for key in ("who", "machine", "process")}, "since": now}
    if not found and not _create(path, lock):
        found = _read(path)
    if found and not _is_of(found, holder):
        module.fail_json(
            msg=f"{found.get('who')} has been deploying to this host since {found.get('since')}. Wait for that deploy to"
            f" finish, then run the playbook again. If it was killed, remove the lock: rm {path}"
        )
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
