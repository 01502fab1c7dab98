"""Every way to send a task goes through the ledger, with nothing changed where it is called."""

import uuid
from pathlib import Path

import pytest

from tests.support.waiting import wait_until


@pytest.fixture
def fleet(application, tmp_path):
    """A worker and a relay; `fleet.shell` runs Python in the project."""
    application.with_probe()
    application.worker("default", concurrency=2)
    application.relay()
    application.shell = lambda code: application.manage(
        "shell",
        "--no-imports",
        "--command",
        f"from celery import *\nimport uuid\nfrom django.db import transaction\nfrom probe.tasks import *\nfolder = {str(tmp_path)!r}\n{code}",
    ).stdout.strip()
    return application


def effects(folder: Path, name: str) -> int:
    path = folder / f"{name}.effects"
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def finished(sql):
    """Wait until every row is in its end, and return how many are in which: {state: count}."""

    def count() -> dict[int, int]:
        return dict(sql("SELECT state, count(*) FROM drumline_ledger GROUP BY state"))

    def wait() -> dict[int, int]:
        wait_until(lambda: not {0, 1} & count().keys(), "every task has ended", seconds=40)
        return count()

    return wait


def test_a_task_sent_in_a_transaction_that_is_rolled_back_never_runs(fleet, tmp_path, finished):
    fleet.shell(
        "try:\n"
        "    with transaction.atomic():\n"
        "        note.delay(folder, 'never')\n"
        "        raise ValueError\n"
        "except ValueError:\n"
        "    note.delay(folder, 'later')"
    )

    wait_until(lambda: effects(tmp_path, "later"), "the second task has run")
    assert finished() == {2: 1}
    assert effects(tmp_path, "never") == 0


def test_chain_group_chord_link_and_best_effort_all_run_once(fleet, tmp_path, finished):
    fleet.shell(
        "chain(note.si(folder, 'first'), note.si(folder, 'second'), note.si(folder, 'third')).delay()\n"
        "group(note.si(folder, f'member-{n}') for n in range(20)).delay()\n"
        "chord([note.si(folder, name) for name in 'abc'], note_all.s(folder)).delay()\n"
        "note.apply_async((folder, 'linked'), link=note.si(folder, 'link'))\n"
        "note.apply_async((folder, 'delayed'), countdown=0.5)\n"
        "note.delay_on_commit(folder, 'on-commit')\n"
        "best_effort.delay(folder, 'best-effort')\n"
        "fail.apply_async(('broken',), task_id=str(uuid.UUID(int=7)), link_error=note_error.s(folder))"
    )

    names = ["first", "second", "third", *[f"member-{n}" for n in range(20)], "a", "b", "c", "a+b+c"]
    names += ["linked", "link", "delayed", "on-commit", f"error-{'0' * 8}-0000-0000-0000-{'0' * 11}7"]
    wait_until(lambda: all(effects(tmp_path, name) for name in names), "every task has run", seconds=40)
    wait_until(lambda: effects(tmp_path, "best-effort"), "the task without the ledger has run")
    # One row for each but the best effort, and the failed task is a dead letter. Celery calls its errback in place.
    assert finished() == {2: len(names) - 1, 3: 1}
    assert [effects(tmp_path, name) for name in names] == [1] * len(names)


def test_a_retry_from_within_a_transaction_survives_its_rollback(fleet, sql, tmp_path, finished):
    fleet.shell("retry_in_a_transaction.delay(folder, 'third-time')")

    wait_until(lambda: effects(tmp_path, "third-time"), "the third attempt has run")
    assert finished() == {2: 1}
    assert effects(tmp_path, "third-time.attempts") == 3
    assert sql("SELECT attempt, retries FROM drumline_ledger") == [(3, 2)]


def test_a_task_replaces_itself_by_another_and_by_a_chord(fleet, tmp_path, finished):
    fleet.shell("replace_itself.delay(folder, ['alone'])\nreplace_itself.delay(folder, ['x', 'y'])")

    wait_until(lambda: effects(tmp_path, "alone") and effects(tmp_path, "x+y"), "both replacements have run")
    finished()
    assert [effects(tmp_path, name) for name in ("alone", "x", "y", "x+y")] == [1, 1, 1, 1]


def test_the_same_id_twice_is_the_same_task(fleet, tmp_path, finished):
    fleet.shell("for name in ('first', 'second'):\n    note.apply_async((folder, name), task_id='import-of-today')\n")

    wait_until(lambda: effects(tmp_path, "first"), "it has run")
    assert finished() == {2: 1}
    assert effects(tmp_path, "second") == 0


def test_a_second_delivery_of_a_finished_task_runs_nothing(fleet, broker, tmp_path, finished):
    fleet.shell(
        "from drumline.broker.publishing import publish\n"
        "from drumline.message import Message\n"
        "from drumline.models import DurableTask\n"
        "note.delay(folder, 'once')\n"
        "publish([Message.loads(row.message) for row in DurableTask.objects.all()] * 3)"
    )

    wait_until(lambda: effects(tmp_path, "once"), "it has run")
    assert finished() == {2: 1}
    wait_until(lambda: not broker.client.llen("default") and not broker.client.hlen("unacked"), "all is acknowledged")
    assert effects(tmp_path, "once") == 1


def test_what_no_column_holds_reaches_the_worker_and_what_it_refuses_is_deferred_with_the_reason(
    fleet, sql, tmp_path, finished
):
    fleet.shell(
        "from datetime import date, datetime\n"
        "from drumline.models import DurableTask\n"
        "odd = {'text': 'a\\0b' + chr(0xdce9), 'number': float('nan'), 'at': datetime.now()}\n"
        "options = {'task_id': uuid.UUID(int=5), 'priority': 5.0, 'eta': date.today(), 'shadow': 's' * 300}\n"
        "note.apply_async((folder, 'odd'), headers=odd, **options)\n"
        "with transaction.atomic():\n"
        "    note.apply_async((folder, 'refused'), countdown=0.1, task_id=str(uuid.UUID(int=6)))\n"
        "    row = DurableTask.objects.get(id=uuid.UUID(int=6))\n"
        "    row.message = row.message.replace('application/json', 'application/x-yaml')\n"
        "    row.save()"
    )

    wait_until(lambda: effects(tmp_path, "odd"), "the odd one has run")
    refused = "SELECT history->0->>'error', state FROM drumline_ledger WHERE history->0->>'what' = 'refused'"
    [(error, state)] = wait_until(lambda: sql(refused), "the worker has refused the other one")
    assert "ContentDisallowed" in error
    assert state == 0, "another release may take it"
    assert effects(tmp_path, "refused") == 0
    sql(f"UPDATE drumline_ledger SET state = 4 WHERE id = '{uuid.UUID(int=6)}'")
    assert finished() == {2: 1, 4: 1}


def test_a_memory_error_is_a_dead_letter_and_the_worker_lives_on(fleet, sql, tmp_path, finished):
    fleet.shell("out_of_memory.delay()\nnote.delay(folder, 'neighbour')")

    wait_until(lambda: effects(tmp_path, "neighbour"), "the neighbour has run")
    assert finished() == {2: 1, 3: 1}
    assert sql("SELECT error FROM drumline_ledger WHERE state = 3") == [("TaskOutOfMemoryError: no more",)]
    assert fleet.processes[0].alive()


def test_an_error_that_no_database_takes_holds_no_other_end(fleet, sql, tmp_path, finished):
    fleet.shell(
        "for how in ('nul', 'surrogate', 'long', 'speechless'):\n"
        "    fail_unspeakably.apply_async((how,), task_id=how)\n"
        "retry_once.apply_async((folder, 'dated', 'date'))\n"
        "retry_once.apply_async((folder, 'refused', 'refused'), task_id='refused')\n"
        "for n in range(8):\n    retry_once.delay(folder, f'healthy-{n}')"
    )

    names = ["dated", *(f"healthy-{n}" for n in range(8))]
    wait_until(lambda: all(effects(tmp_path, name) for name in names), "all that can succeed has succeeded", seconds=60)
    assert finished() == {2: len(names), 3: 5}
    assert sql("SELECT DISTINCT attempt, retries FROM drumline_ledger WHERE state = 2") == [(2, 1)]
    assert sql("SELECT DISTINCT attempt FROM drumline_ledger WHERE state = 3") == [(1,)], "none was run again"
    errors = [error for (error,) in sql("SELECT error FROM drumline_ledger WHERE state = 3 ORDER BY left(error, 60)")]
    assert errors[0].startswith("EndRefusedError: the end of this run could not be stored (TypeError: keys must be str")
    assert errors[1] == "SpeechlessError: <SpeechlessError whose text raised RuntimeError>"
    assert errors[2:4] == ["ValueError: a\\x00b", "ValueError: caf\\udce9.csv"]
    assert "characters left out" in errors[4]


def test_a_task_that_replaced_itself_by_a_chain_keeps_the_retries_of_its_members(fleet, tmp_path, finished):
    # The last member runs under the id of the task that was replaced, whose close may still wait to be written.
    fleet.shell("for n in range(25):\n    replace_by_a_chain.delay(folder, f'{n}')")

    assert finished() == {2: 50}
    lost = [f"{n}-b" for n in range(25) if not effects(tmp_path, f"{n}-b")]
    assert not lost, "each of these ended before its retry"


def test_who_waits_for_a_task_that_expired_or_was_discarded_learns_of_it(fleet):
    said = fleet.shell(
        "from drumline import discard\n"
        "late = note.apply_async((folder, 'late'), countdown=2, expires=1, ignore_result=False)\n"
        "member = note.si(folder, 'member').set(countdown=3600, task_id=str(uuid.uuid4()))\n"
        "body = chord([member], note_all.s(folder).set(ignore_result=False)).apply_async()\n"
        "discard([uuid.UUID(member.options['task_id'])], reason='no use', by='ada')\n"
        "for result in (late, current_app.AsyncResult(body.id)):\n"
        "    try:\n        result.get(timeout=40)\n"
        "    except Exception as error:\n        print(type(error).__name__)"
    )

    assert said.splitlines()[-2:] == ["TaskRevokedError", "ChordError"]


def test_arguments_that_are_not_text_are_refused_before_anything_is_sent(fleet, sql):
    said = fleet.shell(
        "try:\n    note.apply_async((folder, 'x'), serializer='pickle')\nexcept TypeError as error:\n    print(error)"
    )

    assert "durable=False" in said
    assert sql("SELECT count(*) FROM drumline_ledger") == [(0,)]
