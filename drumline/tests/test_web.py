import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission

OWN = {"Origin": "http://testserver"}
CANCEL = "/flower/api/worker/queue/cancel-consumer/high-1@app1?queue=high"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (None, 401),
        ({}, 401),
        ({"is_staff": True}, 204),
        ({"is_staff": True, "is_active": False}, 401),
        ({"is_superuser": True}, 401),
    ],
    ids=["a stranger", "a customer", "staff", "former staff", "a superuser who is not staff"],
)
def test_only_active_staff_is_let_through(client, fields, status):
    if fields is not None:
        client.force_login(get_user_model().objects.create_user("x@example.com", "p", **fields))
    answer = client.get("/ops/auth")
    assert answer.status_code == status
    assert "no-store" in answer["Cache-Control"]
    assert answer.content == b""


def test_auth_is_only_asked(client):
    assert client.post("/ops/auth").status_code == 405


def asked(client, method, path, **headers):
    """What nginx is answered about a request that it holds."""
    return client.get("/ops/auth", headers={"X-Original-Method": method, "X-Original-URI": path, **headers}).status_code


@pytest.fixture
def staff(client):
    user = get_user_model().objects.create_user("staff@example.com", "p", is_staff=True)
    client.force_login(user)
    return user


@pytest.fixture
def operator(staff):
    staff.user_permissions.add(Permission.objects.get(codename="operate_flower", content_type__app_label="drumline"))
    return staff


@pytest.mark.django_db
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "post", "X"])
@pytest.mark.usefixtures("staff")
def test_staff_without_the_permission_may_not_act_in_flower(client, method):
    assert asked(client, method, CANCEL, **OWN) == 403


@pytest.mark.django_db
@pytest.mark.usefixtures("staff")
def test_staff_without_a_permission_may_look_at_flower(client):
    assert asked(client, "GET", "/flower/workers") == 204
    assert asked(client, "HEAD", "/flower/") == 204
    assert asked(client, "POST", "/flower/tasks/datatable?draw=1") == 204


@pytest.mark.django_db
@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("headers", [OWN, {"Referer": "http://testserver/flower/workers"}])
def test_who_has_the_permission_acts_from_a_page_of_the_site(client, headers):
    assert asked(client, "POST", CANCEL, **headers) == 204


@pytest.mark.django_db
@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null", "Referer": "http://testserver/"},
        {"Origin": "http://sibling.testserver"},
        {"Origin": "http://testserver.example.com"},
        {"Origin": "https://testserver"},
        {"Origin": "http://testserver:8000"},
        {"Origin": "http://evil.example.com", "Referer": "http://testserver/"},
        {"Referer": "http://sibling.testserver/flower/"},
        {"Origin": "http://[testserver"},
    ],
    ids=str,
)
def test_a_page_of_another_origin_acts_in_nobodys_name(client, headers):
    assert asked(client, "POST", CANCEL, **headers) == 403


@pytest.mark.django_db
@pytest.mark.usefixtures("staff")
def test_a_query_in_another_spelling_counts_as_acting(client):
    for path in ("/flower/./tasks/datatable", "//flower/tasks/datatable", "/flower/tasks/datatable/x"):
        assert asked(client, "POST", path, **OWN) == 403


@pytest.mark.django_db
@pytest.mark.parametrize("fields", [None, {}, {"is_superuser": True}], ids=["a stranger", "a customer", "no staff"])
def test_who_is_not_staff_never_acts_in_flower(client, fields):
    if fields is not None:
        client.force_login(get_user_model().objects.create_user("x@example.com", "p", **fields))
    assert asked(client, "POST", CANCEL, **OWN) == 401


def test_a_request_id_from_the_proxy_is_kept(client):
    assert client.get("/livez", headers={"X-Request-ID": "0123456789abcdef"})["X-Request-ID"] == "0123456789abcdef"


@pytest.mark.parametrize("sent", ["", "short", "x" * 65, 'a"}{"forged": 1', "new\tline-and-more"])
def test_what_does_not_look_like_a_request_id_is_replaced(client, sent):
    answered = client.get("/livez", headers={"X-Request-ID": sent})["X-Request-ID"]
    assert answered != sent
    assert len(answered) == 32
