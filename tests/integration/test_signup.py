"""From the request that creates an account to the e-mail that arrives."""

from concurrent.futures import ThreadPoolExecutor

from tests.support.waiting import wait_until

ACCOUNT = {"email": "Ada@Example.com", "password": "difference engine no. 2", "full_name": "Ada"}


def test_a_new_account_gets_its_e_mail_and_one_request_id_ties_the_logs_together(application, mailbox, sql):
    worker = application.worker("high")
    web = application.web()

    answer = application.post("/api/users/", ACCOUNT, **{"X-Request-ID": "request-from-nginx-1"})

    assert answer.status == 201
    assert answer.headers["X-Request-ID"] == "request-from-nginx-1"
    assert sql("SELECT email FROM users_user") == [("ada@example.com",)]
    message = mailbox.wait_for("ada@example.com")
    assert "https://testserver/verify-email/?token=" in message.get_payload()
    done = wait_until(lambda: worker.said("task_succeeded", request_id="request-from-nginx-1"), "the task's last line")
    sent = worker.said("email_sent", kind="verification", request_id="request-from-nginx-1")
    [enqueued] = web.said("task_enqueued", request_id="request-from-nginx-1")
    assert len(sent) == 1
    for line in (*sent, *done):
        assert line["task_id"] == enqueued["child_task_id"]
        assert line["task"] == "notifications.send_verification_email"
        assert line["queue"] == "high"
    [(sent_at,)] = sql("SELECT sent_at FROM notifications_email")
    assert sent_at is not None
    everything = web.text() + worker.text()
    assert ACCOUNT["password"] not in everything


def test_every_line_that_the_web_process_logs_is_one_json_object(application):
    web = application.web()
    application.get("/", **{"X-Request-ID": "the-home-page"})

    wait_until(lambda: web.said("request_finished", request_id="the-home-page"), "the request's line")

    assert len(web.lines()) == len(web.text().splitlines())


def test_a_rolled_back_account_gets_no_e_mail(application, mailbox, broker, sql):
    application.manage(
        "shell",
        "-c",
        """
from django.db import transaction
from apps.users.services import user_create
try:
    with transaction.atomic():
        user_create(email="gone@example.com", password="difference engine no. 2")
        raise LookupError
except LookupError:
    pass
user_create(email="stays@example.com", password="difference engine no. 2")
""",
    )

    assert broker.client.llen("high") == 1
    application.worker("high")
    mailbox.wait_for("stays@example.com")
    assert [message["To"] for message in mailbox.messages] == ["stays@example.com"]
    assert sql("SELECT email FROM users_user") == [("stays@example.com",)]


def test_a_task_delivered_twice_sends_one_e_mail(application, mailbox):
    application.worker("high")
    application.web()
    user = application.sign_up("ada@example.com", full_name="Ada")
    wait_until(lambda: len(mailbox.messages) == 2, "the e-mail that asks and the one that welcomes")

    again = application.enqueue("notifications.send_welcome_email", f"[{user['id']}]")

    assert again["state"] == "SUCCESS"
    assert len(mailbox.messages) == 2


def test_a_strangers_address_gets_the_e_mail_that_asks_and_nothing_else(application, mailbox, sql):
    """Whoever types it: not the welcome, not the digest, and not the typist's own words as a name or a reminder."""
    application.worker("high,low")
    application.web()
    words = "Buy at evil.example"
    application.post("/api/users/", {**ACCOUNT, "full_name": words})
    typist = application.sign_in("ada@example.com")
    for _ in range(3):
        refused = application.post("/api/reminders/", {"text": words, "in_seconds": 1}, **typist)
        assert refused.status == 403, refused.body
        application.post("/api/users/verification-email/", {}, **typist)
    application.enqueue("notifications.send_welcome_email", "[1]")
    application.enqueue("notifications.send_weekly_digest")

    mailbox.wait_for("ada@example.com")

    wait_until(lambda: sql("SELECT count(*) FROM drumline_ledger WHERE state IN (0, 1)") == [(0,)], "all has run")
    [message] = mailbox.messages
    assert message["Subject"] == "Confirm your e-mail address"
    assert "evil" not in message.as_string()


def test_the_same_e_mail_at_the_same_moment_gives_one_account_and_conflicts(application, sql):
    application.web()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: application.post("/api/users/", ACCOUNT), range(8)))

    assert sorted(answer.status for answer in answers) == [201, *[409] * 7]
    assert sql("SELECT count(*) FROM users_user") == [(1,)]
    assert sql("SELECT count(*) FROM notifications_email") == [(1,)]


def test_an_account_is_created_while_the_broker_is_down_and_gets_its_e_mail_afterwards(application, broker, mailbox):
    web = application.web()
    application.relay()
    broker.kill()

    assert application.post("/api/users/", ACCOUNT).status == 201
    web.wait_for("publish_left_to_relay")

    broker.start()
    application.worker("high")
    assert "verify-email" in mailbox.wait_for("ada@example.com").get_payload()


def test_a_body_of_ten_megabytes_is_refused_as_json(application, sql):
    application.web()

    answer = application.post("/api/users/", {**ACCOUNT, "full_name": "x" * 10_000_000})

    assert answer.status == 413
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert sql("SELECT count(*) FROM users_user") == [(0,)]


def test_a_duplicate_sign_up_leaves_neither_the_hash_nor_the_e_mail_in_the_log_of_postgresql(application, cluster, sql):
    application.web()
    assert application.post("/api/users/", ACCOUNT).status == 201
    before = (cluster.folder / "log").stat().st_size

    assert application.post("/api/users/", ACCOUNT).status == 409

    sql("DO $$ BEGIN RAISE LOG 'the end of the test'; END $$")
    logged = wait_until(
        lambda: (text := (cluster.folder / "log").read_text()[before:]) and "the end of the test" in text and text,
        "the log is written",
    )
    assert "ERROR" not in logged
    assert "ada@example.com" not in logged
    assert "pbkdf2" not in logged
    assert sql("SELECT count(*) FROM users_user") == [(1,)]
