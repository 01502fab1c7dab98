"""From the request that creates an account to the contact in the CRM, which is away, busy, and then there."""

from tests.counterparts.crm import crm_server
from tests.support.waiting import wait_until


def test_an_account_reaches_a_crm_that_fails_and_asks_for_patience(application, sql):
    application.relay()
    with crm_server() as crm:
        crm.answers = [(500, {}), (429, {"Retry-After": "1"})]
        application.env.update(CRM_URL=crm.url, CRM_TOKEN="the-secret-token")
        worker = application.worker("default")
        application.web()

        application.sign_up("ada@example.com", full_name="Ada")

        wait_until(lambda: sql("SELECT 1 FROM crm_contact WHERE external_id = 'C-1'"), "the contact is copied")
        assert len(crm.asked) == 3
        name = "integrations.sync_to_crm"
        ended = f"SELECT state, attempt, retries FROM drumline_ledger WHERE name = '{name}'"
        wait_until(lambda: sql(ended) == [(2, 3, 2)], "the task has ended")
        assert "the-secret-token" not in worker.text()


def test_what_the_crm_refuses_is_a_dead_letter_after_one_attempt(application, sql):
    application.relay()
    with crm_server() as crm:
        crm.answers = [(422, {})]
        application.env.update(CRM_URL=crm.url)
        application.worker("default")
        application.web()

        application.sign_up("ada@example.com")

        dead = "SELECT attempt, error FROM drumline_ledger WHERE state = 3"
        [(attempt, error)] = wait_until(lambda: sql(dead), "it is a dead letter")
        assert attempt == 1
        assert "the CRM answered 422" in error
