"""How many workers consume each queue of a host, at every moment of a while, as its journal tells it."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from testinfra.host import Host

# What systemd calls its messages (systemd.journal-fields(7), sd-messages.h).
STARTED = "39f53479d3a045ac8e11786248231fbf"
ENDS = {
    "de5b426a63be47a7b6ac3eaac82e2f6f",  # is stopped
    "98e322203f7a4ed290d09fe03c09fe15",  # a process has ended
    "7ad2d189f7e94e70a38c781354912448",  # has ended well
    "d9b373ed55a64feb8242e02dbe79a49c",  # has failed
}
# Runs in an instance that has reported READY, and says that it consumes before it ends another one. systemd starts it afterwards.
RELIEVE = "drumline-relieve"
WORKER = re.compile(r"drumline-worker@(\w+)-\d+\.service")


class Alone(NamedTuple):
    """A queue that nobody consumes: from when (seconds since the epoch), and for how many seconds."""

    queue: str
    at: float
    seconds: float


class Consumers:
    """The workers of a host, from when this is made."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.began = float(host.check_output("date +%s.%N"))
        listed = host.check_output("systemctl list-units --plain --no-legend --state=active 'drumline-worker@*'")
        self.first = {line.split()[0] for line in listed.splitlines()}

    def moments(self) -> list[tuple[float, Counter[str]]]:
        """When the number of consumers changed, and how many consume each queue from then on."""
        printed = self.host.check_output(
            f"journalctl _PID=1 + SYSLOG_IDENTIFIER={RELIEVE} --since=@{int(self.began)} --output=json --no-pager"
            " --output-fields=UNIT,_SYSTEMD_UNIT,SYSLOG_IDENTIFIER,MESSAGE_ID"
        )
        up, found = set(self.first), [(self.began, _by_queue(self.first))]
        for line in printed.splitlines():
            entry = json.loads(line)
            at, what = int(entry["__REALTIME_TIMESTAMP"]) / 1e6, entry.get("MESSAGE_ID")
            relieves = entry["SYSLOG_IDENTIFIER"] == RELIEVE
            unit = entry.get("_SYSTEMD_UNIT" if relieves else "UNIT", "")
            consumes = relieves or what == STARTED
            if at >= self.began and WORKER.fullmatch(unit) and (consumes or what in ENDS):
                up = up | {unit} if consumes else up - {unit}
                found.append((at, _by_queue(up)))
        return found

    def alone(self, queues: Iterable[str]) -> list[Alone]:
        """The spans in which nobody consumed one of these queues."""
        moments = self.moments()
        ends = [at for at, _ in moments[1:]] + [float(self.host.check_output("date +%s.%N"))]
        return [
            Alone(queue, at, round(end - at, 2))
            for (at, consumers), end in zip(moments, ends, strict=True)
            for queue in queues
            if not consumers[queue]
        ]


def _by_queue(units: Iterable[str]) -> Counter[str]:
    return Counter(match[1] for match in map(WORKER.fullmatch, units) if match)
