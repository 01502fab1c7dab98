"""Old sessions are deleted, by a worker, in the database."""


def test_expired_sessions_are_deleted_batch_by_batch_and_the_others_stay(application, sql):
    application.worker("low")
    sql(
        "INSERT INTO django_session SELECT 'expired' || number, '', now() - interval '1 minute' "
        "FROM generate_series(1, 2500) AS number"
    )
    sql("INSERT INTO django_session VALUES ('living', '', now() + interval '1 hour')")

    report = application.enqueue("users.cleanup_expired_sessions")
    assert (report["state"], report["queue"]) == ("SUCCESS", "low")
    assert sql("SELECT session_key FROM django_session") == [("living",)]
