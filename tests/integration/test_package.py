"""The package's own suite, by the statements and on the server of production."""

import os
import subprocess

from tests.support.paths import BIN, PROJECT


def test_the_packages_own_tests_hold_on_postgresql(cluster):
    server = {"PGHOST": str(cluster.folder), "PGPORT": str(cluster.port), "PGUSER": "drumline"}
    suite = subprocess.run(
        [BIN / "pytest", "--quiet", "--tb=short", "--show-capture=no", "-p", "no:cacheprovider"],
        cwd=PROJECT / "drumline",
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **server},
        capture_output=True,
        text=True,
        check=False,
    )
    assert suite.returncode == 0, suite.stdout[-10_000:] + suite.stderr
