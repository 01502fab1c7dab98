"""What the Vagrantfile configures, and the inventory that it writes, as the playbooks read it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import PROJECT
from tests.support.rendering import Playbooks, load

RENDER = Path(__file__).parent / "render.rb"
INVENTORY = Path("ansible/inventories/vagrant")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the Vagrantfile, and the variables of its inventory beside it."""
    shutil.copy(PROJECT / "Vagrantfile", tmp_path)
    shutil.copytree(PROJECT / INVENTORY / "group_vars", tmp_path / INVENTORY / "group_vars")
    return tmp_path


@pytest.fixture
def run(checkout: Path) -> Run:
    def run(*triggers: str, **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DRUMLINE_", "VAGRANT_"))}
        return subprocess.run(
            ["ruby", RENDER, checkout / "Vagrantfile", *triggers],
            capture_output=True,
            text=True,
            check=False,
            env=kept | {"PROVIDERS": "libvirt"} | environment,
        )

    return run


@pytest.fixture
def machines(run: Run) -> Callable[..., dict[str, Any]]:
    def machines(*triggers: str, **environment: str) -> dict[str, Any]:
        ran = run(*triggers, **environment)
        assert ran.returncode == 0, ran.stderr
        configured: dict[str, Any] = json.loads(ran.stdout)["machines"]
        return configured

    return machines


def refusal(ran: subprocess.CompletedProcess[str]) -> str:
    assert ran.returncode == 1, ran.stdout
    return ran.stderr


@pytest.mark.parametrize("fleet", ["0", "1"])
def test_vagrant_finds_nothing_wrong(checkout: Path, fleet: str) -> None:
    environment = os.environ | {"VAGRANT_HOME": str(checkout / "home"), "DRUMLINE_FLEET": fleet}
    ran = subprocess.run(
        ["vagrant", "validate", "--ignore-provider"],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


# ---- the machines


def test_one_machine_is_everything_unless_a_fleet_is_asked_for(machines: Any) -> None:
    assert list(machines()) == ["web1"]
    assert list(machines(DRUMLINE_FLEET="1")) == ["database1", "broker1", "worker1", "web1"]


@pytest.mark.parametrize("fleet", ["0", "1"])
def test_the_site_is_forwarded_to_this_machine_alone(machines: Any, fleet: str) -> None:
    forwarded = {name: each["networks"].get("forwarded_port") for name, each in machines(DRUMLINE_FLEET=fleet).items()}
    assert forwarded.pop("web1") == {"guest": 443, "host": 8443, "host_ip": "127.0.0.1"}
    assert set(forwarded.values()) <= {None}


def test_the_playbook_runs_once_when_every_machine_is_there(machines: Any) -> None:
    provisioned = {name: each.get("provisioners") for name, each in machines(DRUMLINE_FLEET="1").items()}
    site = provisioned.pop("web1")["site"]
    assert (site["playbook"], site["limit"]) == ("ansible/site.yml", "all")
    assert list(provisioned)[-1] != "web1"
    assert set(provisioned.values()) == {None}


@pytest.mark.parametrize(("debian", "box"), [("13", "debian/trixie64"), ("12", "debian/bookworm64")])
def test_debian_is_13_or_12_by_choice(machines: Any, run: Run, debian: str, box: str) -> None:
    assert machines(DRUMLINE_DEBIAN=debian)["web1"]["overrides"]["libvirt"]["box"] == box
    assert json.loads(run(DRUMLINE_DEBIAN=debian).stdout)["box"] == f"bento/debian-{debian}"


def test_a_box_of_ones_own_takes_the_place_of_every_other(machines: Any, run: Run) -> None:
    assert machines(DRUMLINE_BOX="drumline/debian-13")["web1"]["overrides"]["libvirt"]["box"] == "drumline/debian-13"
    assert json.loads(run(DRUMLINE_BOX="drumline/debian-13").stdout)["box"] == "drumline/debian-13"


def test_sizes_are_chosen_for_all_machines_or_for_one(machines: Any) -> None:
    chosen = machines(
        DRUMLINE_FLEET="1", DRUMLINE_MEMORY="2048", DRUMLINE_MEMORY_WORKER1="8192", DRUMLINE_CPUS_WEB1="3"
    )
    sizes = {
        name: (each["providers"]["libvirt"]["memory"], each["providers"]["libvirt"]["cpus"])
        for name, each in chosen.items()
    }
    assert sizes == {"database1": (2048, 1), "broker1": (2048, 1), "worker1": (8192, 2), "web1": (2048, 3)}
    assert chosen["worker1"]["providers"]["virtualbox"] == {"memory": 8192, "cpus": 2}
    assert chosen["worker1"]["providers"]["parallels"] == {"memory": 8192, "cpus": 2}
    assert chosen["worker1"]["providers"]["vmware_desktop"]["vmx"] == {"memsize": "8192", "numvcpus": "2"}


def test_the_network_collides_with_none_of_this_machine(machines: Any) -> None:
    address = machines(ADDRESSES="127.0.0.1/8,192.168.56.1/24,192.168.57.9/30")["web1"]["networks"]["private_network"][
        "ip"
    ]
    assert address == "192.168.58.11"


def test_what_was_chosen_holds_until_the_last_machine_is_destroyed(machines: Any, checkout: Path) -> None:
    machines("before(up)", DRUMLINE_FLEET="1", DRUMLINE_PORT="9443")
    # Now this machine has an address of the network itself.
    later = machines(ADDRESSES="192.168.56.1/24")
    assert list(later)[-1] == "web1"
    assert later["web1"]["networks"]["forwarded_port"]["host"] == 9443
    assert later["web1"]["networks"]["private_network"]["ip"] == "192.168.56.11"

    left = checkout / ".vagrant/machines/broker1/libvirt/id"
    left.parent.mkdir(parents=True)
    left.touch()
    machines("after(destroy)")
    assert (checkout / INVENTORY / "hosts.yml").exists()

    left.unlink()
    machines("after(destroy)")
    assert not (checkout / INVENTORY / "hosts.yml").exists()
    assert list(machines()) == ["web1"]


# ---- what cannot work


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"DRUMLINE_DEBIAN": "11"}, "DRUMLINE_DEBIAN is 11; it is 12 or 13."),
        ({"DRUMLINE_PORT": "443"}, "DRUMLINE_PORT is 443; it is a port from 1024 to 65535."),
        ({"DRUMLINE_MEMORY": "4g"}, "DRUMLINE_MEMORY is 4g; it is a whole number"),
        ({"DRUMLINE_NETWORK": "10.0.0.0/8"}, "DRUMLINE_NETWORK is 10.0.0.0/8; it is a /24"),
        ({"ADDRESSES": "192.168.0.1/16"}, "Name a free one: DRUMLINE_NETWORK="),
        ({"PROVIDERS": ""}, "there is no provider that could run a VM. Install one:\n  libvirt: apt-get install"),
        (
            {"VAGRANT_DEFAULT_PROVIDER": "virtualbox"},
            "the provider virtualbox is not there. There is libvirt; the others:",
        ),
        ({"PROVIDERS": "", "VAGRANT_DEFAULT_PROVIDER": "parallels"}, "vagrant plugin install vagrant-parallels"),
        ({"LIBVIRT": "stopped"}, "libvirt does not run. Start it: systemctl start libvirtd"),
    ],
)
def test_what_cannot_work_is_refused_with_what_to_do(run: Run, variables: dict[str, str], told: str) -> None:
    assert told in refusal(run(**variables))


# ---- the inventory


@pytest.fixture
def host(machines: Any, checkout: Path) -> Callable[[str], Playbooks]:
    """The playbooks' variables of a host of the fleet."""
    machines("before(up)", DRUMLINE_FLEET="1")
    return lambda name: Playbooks(str(checkout / INVENTORY), name)


def test_every_group_that_the_local_inventory_has_is_on_some_machine(host: Any) -> None:
    local = {group for group in Playbooks().value("base", "groups") if group not in ("all", "ungrouped", "local")}
    fleet = host("web1").value("base", "groups")
    assert {group for group in local if fleet.get(group)} == local


def test_one_machine_holds_every_group_when_it_is_alone(machines: Any, checkout: Path) -> None:
    machines("before(up)")
    alone = Playbooks(str(checkout / INVENTORY), "web1")
    groups = alone.value("base", "groups")
    assert all(members == ["web1"] for name, members in groups.items() if name != "ungrouped")
    assert alone.value("base", "__postgresql_address") == "127.0.0.1"


def test_the_hosts_are_reached_at_the_addresses_of_their_own_network(host: Any) -> None:
    worker = host("worker1")
    assert worker.value("base", "ansible_host") == "192.168.56.12"
    assert worker.value("base", "ansible_private_key_file").endswith(".vagrant/machines/worker1/libvirt/private_key")


def test_the_application_reaches_broker_and_database_on_their_machines(host: Any) -> None:
    for name in ("web1", "worker1"):
        secrets = host(name).value("app_release", "app_release_secrets")
        assert "@192.168.56.13:6379" in secrets["CELERY_BROKER_URL"]
        assert "@192.168.56.14:5432" in secrets["DATABASE_URL"]


def test_broker_and_database_let_in_the_application_and_nobody_else(host: Any) -> None:
    # Always in the same order, or the second run of the playbook would change something.
    application = ["192.168.56.11", "192.168.56.12"]
    broker, database = host("broker1"), host("database1")
    assert broker.value("firewall", "firewall_peers") == {"6379": application}
    assert database.value("firewall", "firewall_peers") == {"5432": application}
    assert set(broker.value("redis", "redis_bind")) == {"127.0.0.1", "-::1", "192.168.56.13"}
    assert set(database.value("postgresql", "postgresql_listen_addresses")) == {"127.0.0.1", "192.168.56.14"}


def test_the_proof_expects_private_ports_where_other_hosts_need_them(host: Any) -> None:
    ports = {name: host(name).value("verify", "verify_ports") for name in ("web1", "broker1", "database1")}
    assert ports == {"web1": [22, 80, 443], "broker1": [22, 6379], "database1": [22, 5432]}


def test_the_site_is_looked_at_where_vagrant_forwards_it(host: Any) -> None:
    assert host("web1").value("verify", "verify_url") == "https://127.0.0.1:8443"
    assert host("worker1").value("verify", "verify_url") == ""
    assert host("web1").value("nginx", "nginx_public_https_port") == 8443


def test_every_process_fits_the_memory_of_its_machine(machines: Any, checkout: Path) -> None:
    model = load(PROJECT / "ansible/group_vars/all/processes.yml")
    needs = {
        "web": model["app_web"]["memory_mb"],
        "worker": sum(numbers["instances"] * numbers["memory_mb"] for numbers in model["app_queues"].values()),
        "beat": model["app_beat"]["memory_mb"] + model["app_relay"]["memory_mb"],
        "flower": model["app_flower"]["memory_mb"],
    }
    for fleet in ("0", "1"):
        configured = machines("before(up)", DRUMLINE_FLEET=fleet)
        groups = Playbooks(str(checkout / INVENTORY), "web1").value("base", "groups")
        for name, machine in configured.items():
            needed = sum(megabytes for group, megabytes in needs.items() if name in groups[group])
            # The kernel keeps some of it for itself.
            assert needed <= machine["providers"]["libvirt"]["memory"] * 0.95, name
