"""The task that shows what reaches a worker."""


def test_the_debug_task_prints_its_request_into_the_workers_log(application, sql):
    worker = application.worker("default")

    report = application.enqueue("debug_task", '["hello"]')

    assert (report["state"], report["queue"], report["result"]) == ("SUCCESS", "default", None)
    [line] = [line for line in worker.lines() if line["event"].startswith("Request: <Context: ")]
    assert report["id"] in line["event"]
    assert "'hello'" in line["event"]
    assert sql("SELECT count(*) FROM django_celery_results_taskresult") == [(0,)]
