"""What a run changed is loaded, although the run fails later."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.support.paths import ANSIBLE

PLAYBOOK = """
- name: Set up
  hosts: all
  gather_facts: false
  tasks:
    - name: Write a file
      ansible.builtin.copy:
        content: new
        dest: "{{ folder }}/{{ inventory_hostname }}.conf"
        mode: "0644"
      notify: Load it
    - name: Fail on one host
      ansible.builtin.fail:
      when: inventory_hostname == 'west'
    - name: Go on
      ansible.builtin.copy:
        content: ""
        dest: "{{ folder }}/went-on"
        mode: "0644"
  handlers:
    - name: Load it
      ansible.builtin.copy:
        content: ""
        dest: "{{ folder }}/{{ inventory_hostname }}.loaded"
        mode: "0644"
"""


def test_what_was_changed_before_a_host_failed_is_loaded(tmp_path: Path) -> None:
    """The next run finds the files as they must be, and notifies nobody."""
    playbook = tmp_path / "site.yml"
    playbook.write_text(PLAYBOOK)

    ran = subprocess.run(
        [
            "ansible-playbook",
            "--inventory=east,west,",
            "--connection=local",
            f"--extra-vars=folder={tmp_path}",
            playbook,
        ],
        cwd=ANSIBLE,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg")},
    )

    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert not (tmp_path / "went-on").exists(), ran.stdout
    for host in ("east", "west"):
        assert (tmp_path / f"{host}.loaded").exists(), f"{host} has a new file that nothing loaded:\n{ran.stdout}"
