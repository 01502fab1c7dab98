"""/api/imports/: what a client sees, and nobody else does."""

import io
from unittest import mock

import pytest
from django.core.management import call_command
from django.http import UnreadablePostError
from django.test import Client

from apps.warehouse.models import CsvImport, CsvPiece, Movement

CSV = b"reference,sku,quantity,amount,currency,date\n" + b"".join(
    b"R-%d,S,1,2.50,EUR,2026-11-23\n" % number for number in range(5)
)

pytestmark = pytest.mark.django_db


def upload(client, data=CSV, content_type="text/csv", **extra):
    return client.generic("POST", "/api/imports/", data, content_type=content_type, **extra)


def refused(answer, status):
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["status"] == status
    return answer.json()


def test_an_upload_is_accepted_and_its_url_tells_how_far_it_is(ada, run, run_all):
    answer = upload(ada, CSV + b"x\n" + CSV.splitlines(keepends=True)[1])
    assert answer.status_code == 202
    told = answer.json()
    assert answer["Location"] == told["url"] == f"/api/imports/{told['id']}/"
    assert (told["state"], told["size"], told["chunks"], told["rows"]) == ("received", len(CSV) + 30, 0, 0)

    run("warehouse.split_import")
    told = ada.get(told["url"]).json()
    assert (told["state"], told["chunks"], told["chunks_done"], told["ended_at"]) == ("processing", 1, 0, None)

    run("warehouse.process_chunk")
    told = ada.get(told["url"]).json()
    assert (told["chunks_done"], told["rows"], told["rejected"], told["loaded"]) == (1, 7, 1, 0)

    run_all()
    told = ada.get(told["url"]).json()
    assert (told["state"], told["rows"], told["rejected"], told["loaded"]) == ("loaded", 7, 2, 5)
    assert told["totals"] == {"EUR": {"movements": 5, "quantity": 5, "amount": "12.50"}}
    assert told["rejects"] == [
        {"line": 7, "reason": "1 columns instead of 6"},
        {"line": 8, "reason": "reference: the same as on line 2"},
    ]
    assert ada.get(told["url"], {"after_line": 7}).json()["rejects"] == told["rejects"][1:]


def test_a_failed_import_says_why(ada, run_all):
    url = upload(ada, b"a;b\n").json()["url"]
    run_all()
    told = ada.get(url).json()
    assert told["state"] == "failed"
    assert "line 1: the header must be reference,sku" in told["error"]


def test_only_the_pieces_are_stored_in_the_request(ada):
    with mock.patch("apps.warehouse.parsing.parts") as read:
        upload(ada)
    read.assert_not_called()
    assert bytes(CsvPiece.objects.get().data) == CSV
    assert not Movement.objects.exists()


def test_a_large_body_is_read_piece_by_piece(ada, monkeypatch):
    monkeypatch.setattr("apps.warehouse.services.imports.PIECE", 100_000)
    assert upload(ada, b"x" * 2_500_000).status_code == 202
    assert CsvPiece.objects.count() == 25
    assert max(piece.end - piece.start for piece in CsvPiece.objects.all()) == 100_000


def test_a_list_shows_ones_own_imports_the_latest_first(ada, stranger):
    ids = [upload(ada).json()["id"] for _ in range(2)]
    upload(stranger)
    told = ada.get("/api/imports/").json()
    assert told["count"] == 2
    assert [each["id"] for each in told["results"]] == ids[::-1]
    refused(ada.get("/api/imports/", {"page": 2}), 404)


def test_somebody_elses_import_is_not_there(ada, stranger):
    url = upload(ada).json()["url"]
    refused(stranger.get(url), 404)
    refused(stranger.get("/api/imports/999/"), 404)
    assert stranger.get("/api/imports/").json()["results"] == []


def test_nobody_gets_anything_without_signing_in(client):
    refused(client.get("/api/imports/"), 403)
    refused(client.get("/api/imports/1/"), 403)
    refused(upload(client), 403)
    assert not CsvImport.objects.exists()


def test_a_form_of_another_site_uploads_nothing(user):
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    refused(upload(client), 403)
    assert not CsvImport.objects.exists()


def test_an_empty_body_is_refused(ada):
    assert refused(upload(ada, b""), 400)["detail"] == "The body is empty."
    assert refused(upload(ada, CONTENT_LENGTH="many"), 400)["detail"] == "The body is empty."


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=x", "text/plain"])
def test_another_content_type_is_refused(ada, content_type):
    refused(upload(ada, content_type=content_type), 415)


def test_a_body_that_is_cut_off_is_refused_and_leaves_nothing(ada):
    cut_off = {"CONTENT_LENGTH": str(len(CSV) + 9), "wsgi.input": io.BytesIO(CSV)}
    problem = refused(upload(ada, **cut_off), 400)
    assert problem["detail"] == f"The body was cut off: {len(CSV)} bytes of {len(CSV) + 9} arrived."
    with mock.patch("django.http.HttpRequest.read", side_effect=UnreadablePostError("reset")):
        refused(upload(ada), 400)
    assert not CsvImport.objects.exists()


def test_more_than_the_limit_is_refused_there_and_elsewhere(ada, settings):
    settings.API_BODY_LIMITS = {"/api/imports/": 1_500_000}
    refused(upload(ada, b"x" * 1_500_001), 413)
    assert upload(ada, b"x" * 1_500_000).status_code == 202
    for path in ("/api/imports/1/", "/api/users/", "/api/imports"):
        refused(ada.generic("POST", path, b"x" * 1_000_001, content_type="text/csv"), 413)


@pytest.mark.parametrize("line", ["x", "-1", "1.5", "99999999999"])
def test_a_line_that_is_none_is_refused(ada, line):
    url = upload(ada).json()["url"]
    assert refused(ada.get(url, {"after_line": line}), 400)["errors"][0]["field"] == "after_line"


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_another_method_is_refused(ada, method):
    url = upload(ada).json()["url"]
    refused(getattr(ada, method)(url), 405)
    refused(getattr(ada, method)("/api/imports/"), 405)


def test_too_many_uploads_are_refused_and_looking_goes_on(ada, monkeypatch):
    rates = {"imports.create": "2/min", "imports.read": "3/min"}
    monkeypatch.setattr("rest_framework.throttling.ScopedRateThrottle.THROTTLE_RATES", rates)
    urls = [upload(ada).json()["url"] for _ in range(2)]
    answer = upload(ada)
    refused(answer, 429)
    assert int(answer["Retry-After"]) > 0
    assert CsvImport.objects.count() == 2
    for url in urls:
        assert ada.get(url).status_code == 200
    assert ada.get("/api/imports/").status_code == 200
    refused(ada.get("/api/imports/"), 429)


def test_the_schema_describes_uploads_and_their_problems(client):
    paths = client.get("/api/schema/", headers={"Accept": "application/vnd.oai.openapi+json"}).json()["paths"]
    post = paths["/api/imports/"]["post"]
    assert list(post["requestBody"]["content"]) == ["text/csv"]
    assert {"202", "400", "403", "413", "415", "429"} <= set(post["responses"])
    assert {"200", "400", "403", "404", "429"} <= set(paths["/api/imports/{id}/"]["get"]["responses"])


def test_the_schema_is_made_without_a_warning():
    # A warning makes it raise.
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", "/dev/null")


def test_an_account_has_a_quota_of_bytes_that_failed_imports_do_not_count_for(ada, stranger, settings):
    settings.IMPORTS_QUOTA = 2 * len(CSV)
    urls = [upload(ada).json()["url"] for _ in range(2)]
    detail = refused(upload(ada), 507)["detail"]
    assert detail == f"The account may still import 0 bytes of its {2 * len(CSV)}."
    assert upload(stranger).status_code == 202
    CsvImport.objects.filter(pk=urls[0].split("/")[-2]).update(state="failed")
    assert upload(ada).status_code == 202
    assert CsvImport.objects.count() == 4


@pytest.mark.parametrize("limit", [{"IMPORTS_CEILING": len(CSV)}, {"IMPORTS_DISK_RESERVE": 10**18}])
def test_the_site_takes_no_more_than_it_has_room_for(ada, stranger, settings, limit, caplog):
    settings.IMPORTS_CEILING = 10**9
    settings.IMPORTS_DISK_RESERVE = 0
    upload(stranger)
    for name, value in limit.items():
        setattr(settings, name, value)
    assert refused(upload(ada), 507)["detail"] == "The site has no room for imports at the moment."
    assert "import_refused" in caplog.text
    assert CsvImport.objects.count() == 1
