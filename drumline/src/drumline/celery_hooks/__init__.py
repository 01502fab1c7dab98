"""Everything in which Drumline changes Celery and kombu, or reaches into what they do not document.

Only this folder does either. Importing its modules changes nothing: `install` does.
"""

from importlib import import_module

from django.apps import apps

from drumline import application, conf


def install() -> None:
    """Make Celery send through the ledger, claim tasks before running them, and report the state of its workers.

    - `application`: finds the Celery application that is configured with the Django settings.
    - `transports`: messages of durable tasks are not kept in Redis while a worker has them (`ring`).
    - `producer`: `Celery.producer_or_acquire` and `Celery.send_task` write a durable task into the ledger.
    - `tracer`: `Task.__trace__` claims a task's row before the task runs, and closes it after.
    - `signals`: handlers for the start, the stop and the tasks of a worker, which put the rest into it as it starts:
      `consumer` (a step in its event loop), `envelopes` (reads the list of Redis), `request` (the death of a process)
      and `pools` (the report of errors, without processes).
    - `tasks_backend.carrier`: sends the signals of `django.tasks` for ends that no run reports.
    - `chords`: counts a chord's members exactly, where results are kept by django-celery-results.
    """
    # Here, since some of these modules also serve a project without the ledger, whose tables they must not ask for.
    import_module("drumline.ledger.store").load_engine()
    application.find_by(import_module("drumline.celery_hooks.applications").configured_with_django)
    for hooks in ("transports", "producer", "tracer"):
        import_module(f"drumline.celery_hooks.{hooks}").install()
    import_module("drumline.celery_hooks.signals").connect()
    if conf.has_django_tasks():
        import_module("drumline.tasks_backend.carrier").connect()
    if apps.is_installed("django_celery_results"):
        import_module("drumline.celery_hooks.chords").install()
