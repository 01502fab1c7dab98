"""/api/reports/: ask for a report, see how far it is, fetch it."""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.cache import get_conditional_response
from django.utils.http import content_disposition_header
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import exceptions, serializers, status
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.api.callers import caller
from apps.api.problems import JSON_BODY, SIGNED_IN, ConflictError, responses
from apps.reports import selectors, services
from apps.reports.models import PAGES_MAX, QUOTA, Report, ReportFile

# Reports that a list holds; older ones are soon deleted anyway.
LISTED = 100
TOO_LONG, FAILED = "It took too long.", "It could not be made."
NOT_FOUND = {404: "there is no such report, or it is somebody else's"}


class ReportRequestSerializer(serializers.Serializer[Any]):
    """What a report is about."""

    days = serializers.IntegerField(
        min_value=1, max_value=PAGES_MAX, help_text="Number of days, including today. Each is one page."
    )


class ReportSerializer(serializers.ModelSerializer[Report]):
    """How far a report is, and where it can be fetched."""

    state = serializers.ChoiceField(choices=Report.State.choices, read_only=True)
    first_day = serializers.DateField(read_only=True)
    error = serializers.SerializerMethodField(help_text="Why it failed, without internal details.")
    expires_at = serializers.DateTimeField(read_only=True, help_text="When the report is deleted.")
    url = serializers.SerializerMethodField()
    file_url = serializers.SerializerMethodField(help_text="URL of the PDF; null until it is ready.")
    task_url = serializers.SerializerMethodField(help_text="URL of the task's status.")

    class Meta:
        model = Report
        fields = (
            *("id", "state", "first_day", "last_day", "pages", "pages_done", "error"),
            *("requested_at", "finished_at", "expires_at", "url", "file_url", "task_id", "task_url"),
        )

    def get_error(self, report: Any) -> str:
        """Return why it failed, without the software's own words."""
        if report.state != Report.State.FAILED:
            return ""
        return TOO_LONG if "TimeLimitExceeded" in (report.task_error or "") else FAILED

    def get_url(self, report: Report) -> str:
        """Return where to look again."""
        return reverse("report", args=[report.pk])

    def get_file_url(self, report: Report) -> str | None:
        """Return where the file is, if it is."""
        return reverse("report-file", args=[report.pk]) if report.finished_at else None

    def get_task_url(self, report: Report) -> str:
        """Return the task's place."""
        return reverse("task", args=[report.task_id])


class ReportsView(APIView):
    """A person's own reports."""

    @property
    def throttle_scope(self) -> str:
        """Return the limit: making a report is work, looking at the list is none."""
        return "reports.request" if self.request.method == "POST" else "reports.read"

    @extend_schema(
        request=ReportRequestSerializer,
        responses={202: ReportSerializer, **responses({**JSON_BODY, **SIGNED_IN})},
    )
    def post(self, request: Request) -> Response:
        """Have a report made; `url`, which is also the Location, tells how far it is."""
        serializer = ReportRequestSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        try:
            report = services.report_request(user_id=caller(request).pk, **serializer.validated_data)
        except services.TooManyReportsError:
            raise exceptions.Throttled(
                detail=f"An account has at most {QUOTA} reports. Wait until the oldest one expires."
            ) from None
        answer = ReportSerializer(selectors.reports().get(pk=report.pk)).data
        return Response(answer, status=status.HTTP_202_ACCEPTED, headers={"Location": answer["url"]})

    @extend_schema(responses={200: ReportSerializer(many=True), **responses(SIGNED_IN)})
    def get(self, request: Request) -> Response:
        """List one's own reports, the hundred latest."""
        return Response(ReportSerializer(selectors.reports_of(user_id=caller(request).pk)[:LISTED], many=True).data)


class ReportView(APIView):
    """One report."""

    throttle_scope = "reports.read"

    @extend_schema(responses={200: ReportSerializer, **responses({**NOT_FOUND, **SIGNED_IN})})
    def get(self, request: Request, report_id: int) -> Response:
        """Tell how far a report is."""
        report = get_object_or_404(selectors.reports_of(user_id=caller(request).pk), pk=report_id)
        return Response(ReportSerializer(report).data)


class AnyAccept(DefaultContentNegotiation):
    """A file has one form, and its problems are JSON, whatever the client says that it accepts."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        """Return the renderer of problems."""
        return renderers[0], renderers[0].media_type


class ReportFileView(APIView):
    """A finished report's file."""

    throttle_scope = "reports.read"
    content_negotiation_class = AnyAccept

    @extend_schema(
        responses={
            (200, "application/pdf"): OpenApiTypes.BINARY,
            304: OpenApiResponse(description="it has the ETag of If-None-Match"),
            **responses({**NOT_FOUND, 409: "it is not ready", **SIGNED_IN}),
        },
    )
    def get(self, request: Request, report_id: int) -> HttpResponse:
        """Fetch the PDF."""
        report = get_object_or_404(selectors.reports_of(user_id=caller(request).pk), pk=report_id)
        file = ReportFile.objects.filter(report=report).first()
        if file is None:
            raise ConflictError(f"The report is {report.state}, not ready.", code="not_ready")
        name = f"activity-{report.first_day}-{report.last_day}.pdf"
        etag = f'"{file.sha256}"'
        headers = {
            "Content-Disposition": content_disposition_header(as_attachment=True, filename=name),
            "ETag": etag,
            "Cache-Control": "private, no-cache",
        }
        response = HttpResponse(bytes(file.content), content_type="application/pdf", headers=headers)
        return get_conditional_response(request, etag=etag, response=response) or response
