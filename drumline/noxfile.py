"""The package's own suite over the versions that projects have: `nox` in this folder, or `make test-matrix` above it.

A Python that this machine does not have is skipped and said; `--session 'suite(…)'` runs one row.
"""

import nox

nox.options.default_venv_backend = "uv"
nox.options.reuse_existing_virtualenvs = True

# Python, Django, Celery: each supported version once, and the oldest and the newest together.
MATRIX = [
    ("3.11", "4.2", "5.4"),
    ("3.11", "5.2", "5.5"),
    ("3.11", "5.2", "5.6"),
    ("3.12", "5.2", "5.7"),
    ("3.12", "6.0", "5.6"),
    ("3.13", "6.0", "5.7"),
    ("3.14", "6.1", "5.7"),
]


@nox.session
@nox.parametrize(("python", "django", "celery"), MATRIX)
def suite(session: nox.Session, django: str, celery: str) -> None:
    """Install the package with these versions and run its tests."""
    session.install(
        f"django~={django}.0", f"celery[redis]~={celery}.0", "-e", ".[beat,postgresql,tasks]", "--group", "test"
    )
    session.run("pytest", "--quiet", *session.posargs)
