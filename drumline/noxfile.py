"""The package's own suite, and its promises in a fresh project, over the versions that projects have.

`make test-matrix` runs all rows, `make test-matrix ONLY=3.13-6.1-5.7` runs one.
"""

import os
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv"
nox.options.reuse_existing_virtualenvs = True
# A Python that this machine does not have is skipped, and said.
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
# pyenv keeps the versions that its user has not switched to off the path.
for folder in sorted((Path.home() / ".pyenv" / "versions").glob("3.*/bin")):
    os.environ["PATH"] += f"{os.pathsep}{folder}"

# Python, Django and Celery: the oldest together, each version at least once, and the newest together.
MATRIX = [
    ("3.11", "4.2", "5.4"),
    ("3.11", "5.2", "5.5"),
    ("3.11", "5.2", "5.6"),
    ("3.12", "5.2", "5.7"),
    ("3.12", "6.0", "5.6"),
    ("3.13", "6.1", "5.7"),
    ("3.14", "6.1", "5.7"),
]
# django-celery-beat 2.9 asks for a Django below 6.1: there the schedule's tests are left out.
WITHOUT_BEAT = {"6.1"}
REPOSITORY = Path(__file__).parents[1]


@nox.session
@nox.parametrize(("python", "django", "celery"), [nox.param(*row, id="-".join(row)) for row in MATRIX])
def suite(session: nox.Session, django: str, celery: str) -> None:
    """Install the package with these versions, run its tests, and start and kill real workers with it."""
    package = ".[postgresql,tasks]" if django in WITHOUT_BEAT else ".[beat,postgresql,tasks]"
    # Of kombu the newest that the versions of Redis' client allow: Celery 5.4 takes another client than kombu 5.7.
    versions = f"django~={django}.0", f"celery[redis]~={celery}.0", "kombu[redis]", "psycopg[binary]>=3.2"
    session.install(package, *versions, "--group", "test")
    session.run("pytest", "--quiet", "--numprocesses", "auto", *session.posargs)
    with session.chdir(REPOSITORY):
        session.run(
            str(REPOSITORY / ".venv" / "bin" / "pytest"),
            *("--quiet", "-k", "not wheel and not distribution", *session.posargs),
            "tests/integration/test_startproject.py",
            external=True,
            env={"DRUMLINE_PYTHON": str(Path(session.bin) / "python")},
        )
