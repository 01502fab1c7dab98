#!/usr/bin/python
"""Read a set of files, in the form that file_set writes."""

from __future__ import annotations

DOCUMENTATION = """
module: file_list
short_description: Read a set of files, in the form that file_set writes
description:
  - Returns every regular file that matches, with its content, mode and owner. Handing the list to file_set, with the
    same globs as I(purge), brings back exactly these files. Changes nothing.
options:
  paths:
    description: Globs of absolute paths.
    type: list
    elements: str
    required: true
author: Drumline
"""

EXAMPLES = """
- name: Remember the units
  file_list:
    paths: [/etc/systemd/system/drumline-*.service]
  register: before

- name: Bring them back, and remove what came since
  file_set:
    files: "{{ before.files }}"
    purge: [/etc/systemd/system/drumline-*.service]
"""

RETURN = """
changed: {description: Never., type: bool, returned: always}
files: {description: The files as file_set takes them., type: list, returned: always}
"""

import glob
import grp
import os
import pwd
import stat

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


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"paths": {"type": "list", "elements": "str", "required": True}},
        supports_check_mode=True,
    )
    paths = sorted({path for pattern in module.params["paths"] for path in glob.glob(pattern) if os.path.isfile(path)})
    module.exit_json(changed=False, files=[_read(path) for path in paths])


if __name__ == "__main__":
    main()
