"""Where the playbooks are: in the wheel, or in the checkout of Drumline that this runs from."""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path
from sysconfig import get_path

HERE = Path(__file__).resolve().parent


def root() -> Path:
    """Return the folder that holds ansible/, systemd/ and supervisor/."""
    carried = HERE / "bundle"
    return carried if carried.is_dir() else HERE.parents[3]


def ansible() -> Path:
    """Return the folder of the playbooks."""
    return root() / "ansible"


def program(name: str) -> Path:
    """Return a program of this environment, such as ansible-playbook."""
    return Path(get_path("scripts"), name)


def ssh_arguments() -> str:
    """Return the arguments that Ansible gives ssh."""
    parser = ConfigParser(interpolation=None)
    parser.read(ansible() / "ansible.cfg")
    return parser["ssh_connection"]["ssh_args"]
