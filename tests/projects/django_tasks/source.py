"""A project on Django's own tasks alone: no Celery in it, and no backend but the one that Django sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.fresh_project import start

if TYPE_CHECKING:
    from pathlib import Path

REQUIREMENTS = ["Django>=6.0,<6.1"]
FILES = {
    "letters/__init__.py": "",
    "letters/tasks.py": """\
import time
from pathlib import Path

from django.tasks import task


@task(queue_name='emails')
def note(path):
    Path(path).write_text('noted')


@task(takes_context=True)
def hold(context, path):
    with Path(path).open('a') as file:
        file.write(f'started {context.attempt}\\n')
    while not Path(f'{path}.gate').exists():
        time.sleep(0.1)
    with Path(path).open('a') as file:
        file.write('ended\\n')
    return context.attempt
""",
}
SETTINGS = """
INSTALLED_APPS += ['letters']
"""


def make(checkout: Path) -> None:
    """Write the checkout."""
    start(checkout, "post", FILES, SETTINGS, REQUIREMENTS)
