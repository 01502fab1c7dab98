#!/usr/bin/env python3
"""Build the root file systems of the test hosts: Debian with systemd, ready for ssh.

An image is named after the content of its recipe, so a changed recipe is a new image and an
unchanged one costs nothing. mmdebstrap comes first because it needs only the Debian mirror that
the hosts need anyway, brings the security updates of today and knows no pull limits; the
Containerfile is the way out where mmdebstrap is missing or not allowed to run.
"""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SUITES = {"12": "bookworm", "13": "trixie"}
RECIPE = ("Containerfile", "customize", "packages")
LABEL = "org.drumline.image"
LOCK = Path("/run/lock/drumline-image")


class ImageError(Exception):
    """What went wrong and what to do about it, in one message."""


def say(message: str) -> None:
    """Progress goes to stderr: stdout belongs to the result."""
    print(f"image: {message}", file=sys.stderr, flush=True)


def podman_environment() -> dict[str, str]:
    """Podman 5 warns about cgroup v1 on every call; one machine's layout is no news."""
    return {**os.environ, "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}


def reference(debian: str) -> str:
    """Name the image, which changes with any file of the recipe."""
    digest = hashlib.sha256()
    for name in RECIPE:
        digest.update(name.encode() + b"\0" + (HERE / name).read_bytes() + b"\0")
    return f"localhost/drumline-debian-{debian}:{digest.hexdigest()[:12]}"


def exists(image: str) -> bool:
    """Whether podman has this image."""
    command = ["podman", "image", "exists", image]
    return subprocess.run(command, check=False, env=podman_environment()).returncode == 0


def run(*command: str) -> None:
    """Run a build step, its output shown only when it fails."""
    result = subprocess.run(
        command,
        check=False,
        env=podman_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if result.returncode != 0:
        tail = "\n".join(result.stdout.splitlines()[-25:])
        msg = f"`{' '.join(command[:2])}` exited {result.returncode}:\n{tail}"
        raise ImageError(msg)


def with_mmdebstrap(debian: str, image: str) -> None:
    """Build from a Debian mirror."""
    if shutil.which("mmdebstrap") is None:
        msg = "mmdebstrap is not installed (apt-get install mmdebstrap)"
        raise ImageError(msg)
    packages = ",".join((HERE / "packages").read_text().split())
    with tempfile.TemporaryDirectory(prefix="drumline-image-") as scratch:
        # _apt, the user that downloads, must be able to enter it.
        Path(scratch).chmod(0o755)
        tar = f"{scratch}/root.tar"
        run(
            "mmdebstrap",
            "--variant=minbase",
            f"--include={packages}",
            f"--customize-hook=copy-in {HERE / 'customize'} /tmp",
            '--customize-hook=chroot "$1" /tmp/customize',
            '--customize-hook=rm "$1/tmp/customize"',
            SUITES[debian],
            tar,
        )
        run(
            "podman",
            "import",
            "--quiet",
            "--change=STOPSIGNAL SIGRTMIN+3",
            '--change=CMD ["/sbin/init"]',
            f"--change=LABEL {LABEL}={debian}",
            tar,
            image,
        )


def with_containerfile(debian: str, image: str) -> None:
    """Build from a container registry."""
    run(
        "podman",
        "build",
        "--quiet",
        f"--build-arg=DEBIAN={debian}",
        f"--label={LABEL}={debian}",
        f"--tag={image}",
        # A stop signal and systemd are no part of the OCI format's defaults.
        "--format=docker",
        f"--file={HERE / 'Containerfile'}",
        str(HERE),
    )


BUILDERS = {"mmdebstrap": with_mmdebstrap, "containerfile": with_containerfile}


def ensure(debian: str, *, builder: str | None = None, rebuild: bool = False) -> str:
    """Return the image for this Debian, built first if there is none yet."""
    image = reference(debian)
    if not rebuild and exists(image):
        return image
    # Two callers at once would build the same image twice.
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if rebuild or not exists(image):
            build(debian, image, builder)
    return image


def build(debian: str, image: str, builder: str | None) -> None:
    """Build with the first way that works."""
    failures = []
    for name in [builder] if builder else list(BUILDERS):
        started = time.monotonic()
        say(f"building {image} with {name} (about half a minute)")
        try:
            BUILDERS[name](debian, image)
        except ImageError as error:
            say(f"{name} did not work: {error}")
            failures.append(f"{name}: {error}")
            continue
        say(f"built {image} in {time.monotonic() - started:.0f} s")
        forget_older(debian, keep=image)
        return
    msg = (
        f"no builder could make the Debian {debian} image. It needs a Debian mirror (mmdebstrap) "
        "or a container registry (podman build).\n" + "\n".join(failures)
    )
    raise ImageError(msg)


def forget_older(debian: str, *, keep: str) -> None:
    """Remove the images of earlier recipes; one that a host still uses stays."""
    listed = subprocess.run(
        [
            "podman",
            "images",
            "--filter",
            f"label={LABEL}={debian}",
            "--format",
            "{{.Repository}}:{{.Tag}}",
        ],
        check=False,
        env=podman_environment(),
        capture_output=True,
        text=True,
    )
    for image in listed.stdout.split():
        if image not in (keep, "<none>:<none>"):
            subprocess.run(["podman", "rmi", image], check=False, env=podman_environment(), capture_output=True)


def main() -> int:
    """Print the name of the image."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--debian", choices=sorted(SUITES), default="13")
    parser.add_argument("--builder", choices=sorted(BUILDERS), help="use this one only")
    parser.add_argument("--rebuild", action="store_true", help="for the updates since it was built")
    arguments = parser.parse_args()
    try:
        print(ensure(arguments.debian, builder=arguments.builder, rebuild=arguments.rebuild))
    except ImageError as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
