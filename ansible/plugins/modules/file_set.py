#!/usr/bin/python
"""Write a set of files in one remote operation."""

from __future__ import annotations

DOCUMENTATION = """
module: file_set
short_description: Write a set of files in one remote operation
description:
  - Writes every file of the set whose content, mode or owner differs, each by an atomic rename.
  - Removes what matches I(purge) and is not in the set, so that a set that shrinks leaves nothing behind.
  - Parent directories are created for root with mode 0755.
options:
  files:
    description: The files of the set.
    type: list
    elements: dict
    required: true
    suboptions:
      path: {description: Absolute path., type: path, required: true}
      content: {description: The whole content., type: str, required: true}
      mode: {description: Octal mode as a string., type: str, default: "0644"}
      owner: {description: Owning user., type: str, default: root}
      group: {description: Owning group., type: str, default: root}
      validate:
        description:
          - Command that checks the new file before it takes the place of the old one; C(%s) is its path. When it
            fails, nothing is replaced.
        type: str
  purge:
    description: Globs of absolute paths that belong to this set alone.
    type: list
    elements: str
    default: []
author: Drumline
"""

EXAMPLES = """
- name: Write the environments of the workers, and remove those of workers that are gone
  file_set:
    files:
      - {path: /etc/drumline/worker/high-1.env, content: "QUEUE=high\\n", mode: "0640", group: drumline}
    purge: [/etc/drumline/worker/*.env]

- name: Write a program, unless it is none
  file_set:
    files:
      - {path: /usr/local/sbin/drumline-manage, content: "{{ script }}", mode: "0755", validate: /bin/sh -n %s}
"""

RETURN = """
changed: {description: Whether anything was written or removed., type: bool, returned: always}
diff: {description: What was or would be written and removed, file by file., type: list, returned: always}
written: {description: Paths that were written., type: list, returned: always}
removed: {description: Paths that were removed., type: list, returned: always}
"""

import glob
import grp
import os
import pwd
import shlex
import stat
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule


def _identity(module: AnsibleModule, file: dict[str, Any]) -> tuple[int, int]:
    try:
        return pwd.getpwnam(file["owner"]).pw_uid, grp.getgrnam(file["group"]).gr_gid
    except KeyError as error:
        if not module.check_mode:
            module.fail_json(
                msg=f"{file['path']}: {error.args[0]}. Create the user or group first, or set another one."
            )
        return 0, 0


def _state(path: str) -> tuple[str | None, int, int, int]:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None, 0, 0, 0
    if not stat.S_ISREG(found.st_mode):
        return None, 0, 0, 0
    with open(path, encoding="utf-8", errors="replace") as handle:
        return handle.read(), stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid


def _write(module: AnsibleModule, file: dict[str, Any], mode: int, uid: int, gid: int) -> None:
    path, content = file["path"], file["content"]
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".file_set-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            os.fchown(descriptor, uid, gid)
            os.fchmod(descriptor, mode)
            handle.write(content)
            handle.flush()
            os.fsync(descriptor)
        if file["validate"]:
            code, out, err = module.run_command(file["validate"].replace("%s", shlex.quote(partial)))
            if code != 0:
                told = (err.strip() or out.strip()).replace(partial, path)
                module.fail_json(msg=f"{path} was not replaced: {file['validate']} says:\n{told}", path=path)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    # The name holds no secret; the task that passes one says no_log.
                    "content": {"type": "str", "required": True, "no_log": False},
                    "mode": {"type": "str", "default": "0644"},
                    "owner": {"type": "str", "default": "root"},
                    "group": {"type": "str", "default": "root"},
                    "validate": {"type": "str"},
                },
            },
            "purge": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    written, diffs = [], []
    for file in module.params["files"]:
        path, content, mode = file["path"], file["content"], int(file["mode"], 8)
        uid, gid = _identity(module, file)
        before = _state(path)
        if before == (content, mode, uid, gid):
            continue
        if not module.check_mode:
            try:
                _write(module, file, mode, uid, gid)
            except OSError as error:
                module.fail_json(msg=f"{path} cannot be written: {error.strerror}.", path=path)
        written.append(path)
        diffs.append({"before_header": path, "after_header": path, "before": before[0] or "", "after": content})

    kept = {file["path"] for file in module.params["files"]}
    removed = sorted({path for pattern in module.params["purge"] for path in glob.glob(pattern)} - kept)
    for path in removed:
        if not module.check_mode:
            os.unlink(path)
        diffs.append({"before_header": path, "after_header": path, "before": "present\n", "after": ""})

    module.exit_json(changed=bool(written or removed), written=written, removed=removed, diff=diffs)


if __name__ == "__main__":
    main()
