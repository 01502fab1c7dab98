"""Beats that are killed, and a beat without its broker or its database: each due run is sent once, or by its policy."""

import json
import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import uuid5

import pytest

from tests.faults.rig import System
from tests.support.waiting import during, wait_until

# Seconds within which a run is recorded that is due while a beat is alive.
ON_TIME = 5
# Seconds of lateness from which a run is skipped.
GRACE = 60
# What passes between a moment and the look at it.
SLACK = timedelta(seconds=1)
NEVER = datetime.max.replace(tzinfo=UTC)
# What a beat says when it begins, and when it has sent a run.
BEGINS = "beat: Starting"
SENT = {"drumline": '"run_sent"', "stock": "Sending due task"}


@dataclass
class Entry:
    """One entry of the schedule: every so many seconds, each such minute of the hour, or at a moment."""

    policy: str
    seconds: int = 0
    minutes: int = 0
    at: datetime | None = None
    # Seconds since its last run; without, it is new.
    behind: float | None = None
    number: int = 0
    pk: int = 0
    # The moment from which it counts, and that at which beats had seen it.
    last: datetime = NEVER
    seen: datetime = NEVER

    @property
    def name(self) -> str:
        when = f"at {self.at:%H:%M:%S}" if self.at else f"each {self.seconds} s" if self.seconds else "crontab"
        return f"{self.number}: {when}{f' */{self.minutes}' * bool(self.minutes)}, {self.policy}"

    @property
    def period(self) -> timedelta:
        return timedelta(seconds=self.seconds, minutes=self.minutes)

    def due(self, until: datetime) -> list[datetime]:
        """Return the moments at which it is due, from its last run on."""
        if self.at:
            return [self.at] if self.at <= until else []
        moment = self.last + self.period
        if self.minutes:
            moment = self.last.replace(second=0, microsecond=0) + timedelta(minutes=1)
            moment += timedelta(minutes=-moment.minute % self.minutes)
        found = []
        while moment <= until:
            found.append(moment)
            moment += self.period
        return found


def schedule(system: System, entries: list[Entry]) -> list[Entry]:
    """Add the entries to the tables, as an operator does it in the admin, and wait until the beats send them."""
    for number, entry in enumerate(entries):
        entry.number = number
    asked = [
        {"name": entry.name, "at": entry.at.isoformat() if entry.at else None}
        | {key: value for key, value in asdict(entry).items() if key in {"policy", "seconds", "minutes", "behind"}}
        for entry in entries
    ]
    added = json.loads(system.application.manage("faults_schedule", json.dumps(asked)).stdout.splitlines()[-1])
    for entry in entries:
        entry.pk, last = added[entry.name]
        entry.last = datetime.fromisoformat(last).astimezone(UTC)
    wait_until(lambda: system.value("SELECT count(*) FROM scheduled"), "beat sends")
    for entry in entries:
        entry.seen = datetime.now(UTC)
    return entries


class Judged:
    """What became of each entry's due runs: `wrong` says what is not as it must be, `told` all of it in words.

    A run's id is made of its entry and its moment, so the ledger tells which moments were sent, and none twice.
    Everything must have been sent that was due until `until`; of what was due in `gap`, what the policy says.
    """

    def __init__(
        self, system: System, entries: list[Entry], *, until: datetime, gap: tuple[datetime, datetime] | None = None
    ) -> None:
        self.until, self.gap = until, gap
        self.due = self.lost = self.strange = 0
        self.missed: Counter[str] = Counter()
        self.made_up: Counter[str] = Counter()
        self.late = 0.0
        self.wrong: list[str] = []
        rows: dict[str, dict[str, datetime]] = {entry.name: {} for entry in entries}
        for name, id_, created in system.sql(
            "SELECT message::json #>> '{headers,periodic_task_name}', id::text, created_at FROM drumline_ledger "
            "WHERE name = 'faults.scheduled'"
        ):
            rows[name][id_] = created
        counts = dict(system.sql("SELECT id, total_run_count FROM django_celery_beat_periodictask"))
        for entry in entries:
            self._judge(entry, rows[entry.name], counts[entry.pk])

    def _judge(self, entry: Entry, rows: dict[str, datetime], count: int) -> None:
        from drumline.beat.scheduler import RUNS

        ids = {moment: str(uuid5(RUNS, f"{entry.pk} {moment.isoformat()}")) for moment in entry.due(datetime.now(UTC))}
        sent = {moment: rows[id_] for moment, id_ in ids.items() if id_ in rows}
        due = [moment for moment in ids if first(entry, sent) <= moment <= self.until]
        lost = [moment for moment in due if moment not in sent]
        begin, end = self.gap or (NEVER, NEVER)
        if self.gap:
            lost = self._beside_gap(entry, list(ids), sent, lost)
        for moment, at in sent.items():
            if moment > entry.seen and not begin <= moment <= end:
                self.late = max(self.late, (at - moment).total_seconds())
        self.due, self.lost = self.due + len(due), self.lost + len(lost)
        self.strange += len(rows) - len(sent)
        if lost:
            moments = ", ".join(f"{moment:%H:%M:%S.%f}" for moment in lost)
            self.wrong.append(f"{entry.name}: {len(lost)} of {len(due)} lost: {moments}")
        if len(sent) != len(rows):
            self.wrong.append(f"{entry.name}: {len(rows) - len(sent)} sent at moments at which it was not due")
        if count != len(rows):
            self.wrong.append(f"{entry.name}: total_run_count is {count}, and {len(rows)} are in the ledger")

    def _beside_gap(
        self, entry: Entry, due: list[datetime], sent: dict[datetime, datetime], lost: list[datetime]
    ) -> list[datetime]:
        """Judge by the policy what was due in the gap, and return what was lost beside it."""
        begin, end = self.gap
        after = {moment: at for moment, at in sent.items() if at > end}
        missed = [moment for moment in due if begin <= moment <= end and (moment not in sent or moment in after)]
        made_up = [moment for moment in missed if moment in after]
        if entry.policy == "once":
            # One stands for all: the last that is due when beat looks, which may be a moment after the gap.
            made_up = [*made_up, *after][:1] if missed and len(made_up) < 2 else made_up
            if missed and len(made_up) != 1:
                self.wrong.append(f"{entry.name}: {len(made_up)} runs stand for {len(missed)} missed ones")
            elif missed and entry.period and (age := after[made_up[0]] - made_up[0]) > entry.period + SLACK:
                self.wrong.append(f"{entry.name}: the run that was made up was not the last one, but {age} old")
            lost = [
                moment for moment in lost if moment not in missed and not begin <= moment < min(after, default=begin)
            ]
        elif entry.policy == "skip":
            if made_up:
                self.wrong.append(f"{entry.name}: {len(made_up)} made up that were to be skipped")
            lost = [moment for moment in lost if moment not in missed]
        self.missed[entry.policy] += bool(missed) if entry.policy == "once" else len(missed)
        self.made_up[entry.policy] += len(made_up)
        return lost

    @property
    def told(self) -> str:
        return f"{self.due} due, {self.lost} lost, {self.strange} at other moments; the latest {self.late:.1f} s late"


def first(entry: Entry, sent: dict[datetime, datetime]) -> datetime:
    """Return the moment from which every run counts.

    A beat looks for new entries every few seconds; of a shorter interval's runs before that, `once` sends the last.
    """
    if entry.policy == "once" and entry.seconds:
        return min([*sent, entry.last + entry.period + timedelta(seconds=2 * ON_TIME)])
    return entry.last


def rhythm(system: System, entries: list[Entry], until: datetime) -> str:
    """Say what stock Celery sent, whose runs have no moments: by the time between them."""
    due = sent = doubled = lost = 0
    for entry in entries:
        moments = [at for (at,) in system.sql(f"SELECT at FROM scheduled WHERE entry = '{entry.name}' ORDER BY at")]
        moments = [moment for moment in moments if moment <= until]
        due += (expected := len(entry.due(until)))
        sent += len(moments)
        if entry.seconds:
            pairs = [(later - earlier) / entry.period for earlier, later in pairwise([entry.last, *moments])]
            doubled += sum(pair < 0.5 for pair in pairs)
            lost += sum(max(0, round(pair) - 1) for pair in pairs)
            lost += int((until - max([entry.last, *moments])) / entry.period)
        else:
            minutes = {moment.replace(second=0, microsecond=0) for moment in moments} if entry.minutes else moments[:1]
            doubled += len(moments) - len(minutes)
            lost += max(0, expected - len(minutes))
    return f"{sent} sent where {due} were due: {doubled} doubled, {lost} lost"


def ran(system: System) -> list[str]:
    """Wait until everything that is in the ledger was done, and say what was not, and what was begun twice."""
    system.sql("INSERT INTO sent SELECT id::text FROM drumline_ledger WHERE name = 'faults.scheduled'")
    system.drained(seconds=120)
    system.closed()
    came = system.outcome()
    return [f"{came[what]} {words}" for what, words in (("lost", "never ran"), ("reruns", "ran twice")) if came[what]]


def story(system: System, judged: Judged) -> str:
    """Return what is wrong, and what the last beats said at the end."""
    beats = [process for process in system.application.processes if "beat" in process.args]
    logs = "\n".join("\n".join(process.text().splitlines()[-15:]) for process in beats[-3:])
    return "\n".join([*judged.wrong, logs])


def twenty(seconds: float) -> list[Entry]:
    """Return entries of every kind, of which each clocked one is due within the time."""
    now = datetime.now(UTC)
    # A beat that waits for a broker that is down is late by a second, and `once` would merge what is due in it.
    intervals = (3, 1, 4, 2, 5, 3, 6, 7, 8, 10, 15, 20)
    return [
        *(Entry("all" if number % 2 else "once", seconds=every) for number, every in enumerate(intervals)),
        *(Entry("once", minutes=1), Entry("all", minutes=1, behind=60), Entry("once", minutes=2)),
        Entry("all", minutes=2, behind=120),
        *(Entry("once", at=now + timedelta(seconds=8 + share * (seconds - 8))) for share in (0, 0.3, 0.6, 0.9)),
    ]


def caught_up(system: System, entries: list[Entry], gap: tuple[datetime, datetime] | None = None) -> Judged:
    """Wait until all was sent that was due by now, or is not any more; end the beats, and judge."""
    until = datetime.now(UTC)
    with suppress(AssertionError):
        wait_until(lambda: not Judged(system, entries, until=until, gap=gap).wrong, "all was sent", seconds=ON_TIME * 2)
    for process in system.application.processes:
        if "beat" in process.args:
            process.stop()
    return Judged(system, entries, until=until, gap=gap)


def killed(system: System, seconds: float, *, every: float = 3, seed: int = 20261123) -> tuple[list[Entry], int]:
    """kill -9 of one of three beats again and again, started again at once; another one is at work all the time."""
    moments, sent = random.Random(seed), SENT[system.mode]
    system.worker()
    beats = [system.application.beat() for _ in range(3)]
    for process in beats:
        process.wait_for(BEGINS, seconds=60)
    entries = schedule(system, twenty(seconds))
    end, kills = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        during(moments.uniform(every - 0.5, every + 0.5))
        victim = moments.randrange(3)
        others = [process for process in beats if process is not beats[victim]]
        wait_until(lambda others=others: any(sent in other.text() for other in others), "another beat is at work")
        beats[victim].popen.kill()
        beats[victim].popen.wait()
        beats[victim] = system.application.beat()
        kills += 1
    return entries, kills


def test_every_due_run_is_sent_exactly_once_while_beats_are_killed(system, fault_row, full):
    seconds = 300 if full else 21
    fault_row.says(
        f"3 beats, a kill -9 of one every 3 s for {seconds} s, 20 entries (interval, crontab, clocked)",
        "every due run exactly once",
    )

    def stock() -> str:
        with system("stock") as harmed:
            entries, _ = killed(harmed, seconds)
            return rhythm(harmed, entries, datetime.now(UTC))

    fault_row.stock(stock)
    with system("drumline") as harmed:
        entries, kills = killed(harmed, seconds)
        judged = caught_up(harmed, entries)
        not_done = ran(harmed)
        fault_row.got("; ".join([f"{kills} kills: {judged.told}", *judged.wrong, *not_done]))
        assert judged.wrong == [], story(harmed, judged)
        assert not_done == [], harmed.logs(lines=10)
        assert all(entry.due(judged.until) for entry in entries if entry.at)


def broker_down(system: System, seconds: float) -> tuple[list[Entry], tuple[datetime, datetime]]:
    """Kill the broker under a beat and a worker, and start it again; return when that was."""
    worker = system.worker()
    system.application.beat().wait_for(BEGINS, seconds=60)
    entries = schedule(system, twenty(seconds))
    down = datetime.now(UTC)
    system.broker.kill()
    during(seconds)
    up = datetime.now(UTC)
    system.broker.start()
    during(ON_TIME)
    assert worker.alive(), worker.text()[-3000:]
    return entries, (down, up)


def test_each_run_is_recorded_on_time_while_the_broker_is_down(system, fault_row, full):
    seconds = 180 if full else 7
    fault_row.says(
        f"beat with the broker down for {seconds} s, 20 entries",
        f"each run is in the ledger within {ON_TIME} s, and runs once when the broker is back",
    )

    def stock() -> str:
        with system("stock") as harmed:
            entries, _ = broker_down(harmed, seconds)
            during(30)
            return rhythm(harmed, entries, datetime.now(UTC))

    fault_row.stock(stock)
    with system("drumline") as harmed:
        entries, (down, up) = broker_down(harmed, seconds)
        judged = caught_up(harmed, entries)
        not_done = ran(harmed)
        meanwhile = f"started BETWEEN '{down + SLACK}' AND '{up}'"
        fault_row.got("; ".join([judged.told, *judged.wrong, *not_done]))
        assert judged.wrong == [], story(harmed, judged)
        assert judged.late < ON_TIME, story(harmed, judged)
        assert not_done == [], harmed.logs(lines=10)
        assert harmed.value(f"SELECT count(*) FROM run WHERE {meanwhile}") == 0, "the broker was not down"


def database_down(system: System, seconds: float) -> tuple[list[Entry], tuple[datetime, datetime]]:
    """Kill PostgreSQL under a beat and a worker just before a run is due, and start it again; return when that was."""
    system.worker()
    system.application.beat().wait_for(BEGINS, seconds=60)
    now = datetime.now(UTC)
    soon = 20
    entries = [
        *(Entry(policy, seconds=every) for policy in ("once", "all") for every in (2, 3, 7, 20)),
        *(Entry(policy, minutes=1) for policy in ("once", "all")),
        # Missed by more than the grace, and due again after the gap or much later.
        *(Entry("skip", seconds=every, behind=every - soon) for every in (seconds + 15, 3600)),
        *(Entry(policy, at=now + timedelta(seconds=soon + 20)) for policy in ("once", "all")),
    ]
    schedule(system, entries)
    skipped = [entry for entry in entries if entry.policy == "skip"]
    last = min(entry.last + entry.period for entry in skipped)
    wait_until(lambda: datetime.now(UTC) > last - SLACK, "a run is about to be due", seconds=soon)
    system.cluster.stop()
    down = datetime.now(UTC)
    during(seconds)
    up = datetime.now(UTC)
    system.cluster.start()
    system.sql(f"INSERT INTO outage VALUES ('{down}')")
    # The worker's and the beat's way back, and the skipped entry's next run.
    during(ON_TIME + 25)
    return entries, (down - SLACK, up)


@pytest.mark.usefixtures("only_full")
def test_missed_runs_are_made_up_by_their_policy_when_the_database_is_back(system, fault_row):
    # A run is skipped when it is more than a minute late.
    seconds = GRACE + 6
    fault_row.says(
        f"beat with PostgreSQL down for {seconds} s, 14 entries",
        "none lost or doubled beside the gap; of those in it `all` each, `once` one for an entry, `skip` none",
    )

    def stock() -> str:
        with system("stock") as harmed:
            entries, _ = database_down(harmed, seconds)
            alive = all(process.alive() for process in harmed.application.processes if "beat" in process.args)
            return rhythm(harmed, entries, datetime.now(UTC)) + "; beat ended" * (not alive)

    fault_row.stock(stock)
    with system("drumline") as harmed:
        entries, gap = database_down(harmed, seconds)
        judged = caught_up(harmed, entries, gap)
        not_done = [words for words in ran(harmed) if "never" in words]
        made_up = ", ".join(f"`{policy}` {judged.made_up[policy]} of {n}" for policy, n in judged.missed.items())
        fault_row.got("; ".join([judged.told, f"made up in the gap: {made_up}", *judged.wrong, *not_done]))
        assert judged.wrong == [], story(harmed, judged)
        assert judged.missed["skip"] == 2
        assert not_done == [], harmed.logs(lines=10)
