#!/usr/bin/python
"""Read a set of files, in the form that file_set writes."""

from __future__ import annotations

DOCUMENTATION = """
module: file_list
short_description: Read a set of files, in the form that file_set writes
description:
  - Returns every regular file that matches, with its content, mode and owner. Handing the list to file_set, with the
    same globs as I(purge), brings back exactly these files.
  - With I(kept), what was found also outlives this run. The file is there until the run has ended well or brought everything
    back; a run that was killed leaves it, and the next one then returns what that one found.
options:
  paths:
    description: Globs of absolute paths.
    type: list
    elements: str
    required: true
  about:
    description: What else to keep with the files, and to return.
    type: raw
  kept:
    description: File that keeps what was found. It is not written on a host that lacks its folder.
    type: path
author: Drumline
"""

EXAMPLES = """
- name: Remember the units
  file_list:
    paths: [/etc/systemd/system/drumline-*.service]
    kept: /opt/drumline/shared/before.json
  register: before

- name: Bring them back, and remove what came since
  file_set:
    files: "{{ before.files }}"
    purge: [/etc/systemd/system/drumline-*.service]
"""

RETURN = """
changed: {description: Never., type: bool, returned: always}
files: {description: The files as file_set takes them., type: list, returned: always}
about: {description: What I(about) was when they were found., type: raw, returned: always}
resumed: {description: Whether an earlier run that did not end well found them., type: bool, returned: always}
"""

import glob
import grp
import json
import os
import pwd
import stat
from typing import Any

from ansible.module_utils.basic import AnsibleModule


def _read(path: str) -> dict[str, str]:
    found = os.stat(path)
    with open(path, encoding="utf-8") as handle:
        content = handle.read()
    return {
        "path": path,
        "content": content,
        "mode": f"{stat.S_IMODE(found.st_mode):04o}",
        "owner": pwd.getpwuid(found.st_uid).pw_name,
        "group": grp.getgrgid(found.st_gid).gr_name,
    }


def _kept(path: str) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8") as handle:
            found: dict[str, Any] = json.load(handle)
            return found
    except FileNotFoundError:
        return None


def _keep(path: str, found: dict[str, Any]) -> None:
    # Whole or not at all: its content holds secrets, and a part of it would restore a part.
    partial = f"{path}.partial"
    try:
        with open(os.open(partial, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
            json.dump(found, handle)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "str", "required": True},
            "about": {"type": "raw"},
            "kept": {"type": "path"},
        },
        supports_check_mode=True,
    )
    kept = module.params["kept"]
    if kept and (found := _kept(kept)):
        module.exit_json(changed=False, resumed=True, **found)
    paths = sorted({path for pattern in module.params["paths"] for path in glob.glob(pattern) if os.path.isfile(path)})
    found = {"files": [_read(path) for path in paths], "about": module.params["about"]}
    if kept and not module.check_mode and os.path.isdir(os.path.dirname(kept)):
        try:
            _keep(kept, found)
        except OSError as error:
            module.fail_json(msg=f"{kept} cannot be written: {error.strerror}. Nothing was changed.")
    module.exit_json(changed=False, resumed=False, **found)


if __name__ == "__main__":
    main()
