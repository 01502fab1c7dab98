"""E-mails for later, for everybody, and for ten thousand at once, through restarts and refusals."""

from datetime import UTC, datetime, timedelta

from tests.support.waiting import wait_until

REMINDERS = "notifications.send_reminder"
TO_USER = "notifications.send_weekly_digest_to_user"


def test_reminders_outlive_every_restart_are_sent_once_and_not_at_all_when_cancelled(application, broker, mailbox, sql):
    application.web()
    for name in ("ada", "eve"):
        application.sign_up(f"{name}@example.com")
    ada, eve = application.sign_in("ada@example.com"), application.sign_in("eve@example.com")

    def remind(text: str, **when) -> dict:
        answer = application.post("/api/reminders/", {"text": text, **when}, **ada)
        assert answer.status == 201, answer.body
        return answer.json()

    in_ten_days = (datetime.now(UTC) + timedelta(days=10)).isoformat()
    first, second, third = (
        remind("in an hour", in_seconds=3600),
        remind("in ten days", at=in_ten_days),
        remind("never", at=in_ten_days),
    )
    cancel = f"/api/reminders/{third['id']}/"
    assert application.request("DELETE", cancel, **eve).status == 404
    assert application.request("DELETE", cancel, **ada).status == 204
    processes = [application.worker("high"), application.relay()]

    # The end of everything that could remember them, but for the database.
    for process in processes:
        process.stop()
    broker.client.flushall()
    broker.kill()
    broker.start()
    application.relay()
    application.worker("high")
    # The time comes.
    sql(f"UPDATE drumline_ledger SET due_at = now() WHERE name = '{REMINDERS}'")

    def sent() -> list[str]:
        return sorted(message.get_payload().strip() for message in mailbox.messages if "reminder" in message["Subject"])

    wait_until(lambda: sent() == ["in an hour", "in ten days"], "both reminders are sent")
    for reminder in (first, third):
        again = application.enqueue(REMINDERS, f"[{reminder['id']}]")
        assert again["state"] == "SUCCESS"
    assert sent() == ["in an hour", "in ten days"]
    states = "SELECT state, attempt FROM drumline_ledger WHERE id = '{}'"
    assert [sql(states.format(it["task_id"])) for it in (first, second, third)] == [[(2, 1)], [(2, 1)], [(4, 0)]]
    assert application.request("DELETE", f"/api/reminders/{first['id']}/", **ada).status == 409


def test_a_digest_that_beat_missed_reaches_all_but_the_one_who_is_refused_and_once(application, mailbox, sql):
    users = "[User(email=f'user{number}@example.com', email_verified_at=now()) for number in range(40)]"
    code = (
        f"from django.utils.timezone import now; from apps.users.models import User; User.objects.bulk_create({users})"
    )
    application.manage("shell", "-c", code)
    application.manage("sync_schedule", DJANGO_TIME_ZONE="Europe/Vienna")
    zone = "SELECT hour, timezone FROM django_celery_beat_crontabschedule WHERE day_of_week = 'mon'"
    assert sql(zone) == [("8", "Europe/Vienna")]
    sql("UPDATE django_celery_beat_periodictask SET last_run_at = now() - interval '8 days'")
    mailbox.refused.add("user7@example.com")
    application.worker("low", concurrency=2)
    application.beat(DJANGO_TIME_ZONE="Europe/Vienna")

    def recipients() -> list[str]:
        return sorted(message["To"] for message in mailbox.messages)

    expected = sorted(f"user{number}@example.com" for number in range(40) if number != 7)
    wait_until(lambda: recipients() == expected, "everybody else has the digest")
    asked_again = f"SELECT retries FROM drumline_ledger WHERE name = '{TO_USER}' AND state = 0"
    assert wait_until(lambda: sql(asked_again) == [(1,)], "the refused one is tried again later")

    assert application.enqueue("notifications.send_weekly_digest")["state"] == "SUCCESS"
    application.enqueue(TO_USER, f'[{sql("SELECT min(id) FROM users_user")[0][0]}, "{monday()}"]')
    assert recipients() == expected
    assert sql("SELECT count(*) FROM notifications_email") == [(40,)]
    assert sql(f"SELECT count(DISTINCT id) FROM drumline_ledger WHERE name = '{TO_USER}'") == [(41,)]


def monday() -> str:
    today = datetime.now(UTC).date()
    return (today - timedelta(days=today.weekday())).isoformat()


def test_imported_people_get_one_welcome_e_mail_each(application, broker, mailbox, sql):
    people = "".join(f"user{number}@example.com,User {number}\n" for number in range(300))

    said = application.manage("import_users", text=people).stdout

    assert said.startswith("300 accounts created")
    # Published in one go after the commit, with no relay to help.
    assert broker.client.llen("high") == 300
    application.worker("high", concurrency=2)
    wait_until(lambda: len(mailbox.messages) == 300, "everybody is welcome")
    assert len({message["To"] for message in mailbox.messages}) == 300
    wait_until(lambda: sql("SELECT state, count(*) FROM drumline_ledger GROUP BY state") == [(2, 300)], "all done")
