import pytest
from django.contrib.auth import get_user_model


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


def test_a_request_id_from_the_proxy_is_kept(client):
    assert client.get("/livez", headers={"X-Request-ID": "0123456789abcdef"})["X-Request-ID"] == "0123456789abcdef"


@pytest.mark.parametrize("sent", ["", "short", "x" * 65, 'a"}{"forged": 1', "new\tline-and-more"])
def test_what_does_not_look_like_a_request_id_is_replaced(client, sent):
    answered = client.get("/livez", headers={"X-Request-ID": sent})["X-Request-ID"]
    assert answered != sent
    assert len(answered) == 32


def test_the_home_page_leads_everywhere(client):
    page = client.get("/").content.decode()
    for path in ("/api/docs/", "/admin/", "/flower/"):
        assert f'href="{path}"' in page
