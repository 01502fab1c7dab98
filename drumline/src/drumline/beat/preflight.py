"""Which entries of the schedule beat would leave out or send otherwise than the code says, or where nobody serves them."""

from collections.abc import Iterable, Iterator, Mapping

from celery import Celery
from celery.schedules import maybe_schedule
from django_celery_beat.models import PeriodicTask

from drumline.beat.due import check_schedule
from drumline.beat.schedule import options_unheld


def schedule_problems(app: Celery) -> Iterator[str]:
    """Yield one line for each entry of the code's schedule that beat would leave out, or send without its options."""
    for name, entry in (app.conf.beat_schedule or {}).items():
        try:
            check_schedule(maybe_schedule(entry["schedule"] if isinstance(entry, Mapping) else entry.schedule))
            unheld = options_unheld(entry) if isinstance(entry, Mapping) else []
        except Exception as error:  # noqa: BLE001  Celery has a class of its own for each kind of mistake
            yield f"beat_schedule {name} has an invalid schedule ({error}), so beat skips it; correct it"
            continue
        if unheld:
            yield (
                f"beat_schedule {name} has options that its row in django-celery-beat cannot hold ({', '.join(unheld)}), "
                "so beat sends it without them; set them on the task"
            )


def unserved_schedules(served: Iterable[str]) -> Iterator[str]:
    """Yield one line for each enabled periodic task that is sent to a queue that is not served."""
    entries = PeriodicTask.objects.filter(enabled=True, queue__isnull=False).exclude(queue="")
    for name, queue in entries.exclude(queue__in=set(served)).values_list("name", "queue"):
        yield f"queue {queue} is not served, but the periodic task {name!r} sends to it; change it in the admin"


def schedules_unknown_to(tasks: Iterable[str]) -> Iterator[str]:
    """Yield one line for each enabled periodic task whose task an older release, which has these tasks, lacks."""
    entries = PeriodicTask.objects.filter(enabled=True).exclude(task__in=set(tasks))
    for name, task in entries.order_by("name").values_list("name", "task"):
        yield f"the periodic task {name!r} sends {task}, which the older release does not have; disable it in the admin"
