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
  - A person can lock a host with a reason. Such a lock survives a reboot and is only opened by a person.
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
    description:
      - held takes the lock or fails; free gives back what this deploy holds.
      - closed locks the host for I(reason) until it is opened, and open opens it - with a I(reason), only a lock that
        was taken for it.
      - read takes nothing and says in I(closed) whether a person has locked the host, and in I(reason) why.
    type: str
    choices: [held, free, closed, open, read]
    default: held
  kept:
    description: The file of a lock that a person takes.
    type: path
    default: /opt/drumline/shared/locked.json
  reason:
    description: Why a person locks the host.
    type: str
    default: ""
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
changed:
  description: Whether a person's lock was taken or opened. That of a deploy is no part of what a second run leaves as it is.
  type: bool
  returned: always
closed: {description: Whether a person has locked the host., type: bool, returned: "when I(state) is read"}
reason: {description: "Why; empty when nobody has.", type: str, returned: "when I(state) is read"}
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


def _keep(module: AnsibleModule, lock: dict[str, str]) -> None:
    """Take or open the lock of a person."""
    path, found = module.params["kept"], _read(module.params["kept"])
    is_closed = module.params["state"] == "closed"
    if found and not is_closed and lock["reason"] not in ("", found.get("reason")):
        module.exit_json(changed=False)
    if is_closed and found and found.get("reason") != lock["reason"]:
        module.fail_json(msg=_closed(found))
    changed = bool(found) != is_closed
    if changed and not module.check_mode:
        if is_closed and not os.path.isdir(os.path.dirname(path)):
            module.fail_json(msg=f"{os.path.dirname(path)} is missing: this host was never set up. Run site.yml first.")
        if is_closed:
            _create(path, lock)
        else:
            os.unlink(path)
    module.exit_json(changed=changed)


def _closed(lock: dict[str, str]) -> str:
    return (
        f"{lock.get('who')} has locked this host since {lock.get('since')}: {lock.get('reason')}. When that is over, open it"
        " with lock.yml --extra-vars lock_open=true, or with restart.yml if it was drained; --limit names single hosts."
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/run/lock/drumline-deploy.json"},
            "holder": {"type": "dict", "required": True},
            "state": {"type": "str", "choices": ["held", "free", "closed", "open", "read"], "default": "held"},
            "kept": {"type": "path", "default": "/opt/drumline/shared/locked.json"},
            "reason": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    path, holder = module.params["path"], module.params["holder"]
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    lock = {**{key: holder[key] for key in ("who", "machine", "process")}, "since": now}
    if module.params["state"] == "read":
        kept = _read(module.params["kept"])
        module.exit_json(changed=False, closed=bool(kept), reason=kept.get("reason", ""))
    if module.params["state"] in ("closed", "open"):
        _keep(module, lock | {"reason": module.params["reason"]})
    if module.params["state"] == "held" and (closed := _read(module.params["kept"])):
        module.fail_json(msg=_closed(closed))
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
