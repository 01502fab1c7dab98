"""/api/imports/: upload a CSV file of stock movements, and see how far it is."""

from typing import Any, cast

from django.db.models import QuerySet
from django.http import UnreadablePostError
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions, generics, mixins, pagination, parsers, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api.callers import caller
from apps.api.problems import SIGNED_IN, InsufficientStorageError, responses
from apps.warehouse.models import CsvImport, RejectedRow
from apps.warehouse.parsing import HEADER, RECORD
from apps.warehouse.selectors import imports_of, rejects_of
from apps.warehouse.services import imports

# Refused rows in one answer.
REJECTS = 100


class CsvParser(parsers.BaseParser):
    """Hands on the stream itself: a file is never in memory as a whole."""

    media_type = "text/csv"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        """Return what the upload is read from."""
        return stream


class ImportSerializer(serializers.ModelSerializer[CsvImport]):
    """How far an import is."""

    state = serializers.ChoiceField(choices=CsvImport.State.choices, read_only=True)
    chunks = serializers.IntegerField(source="chunk_count", help_text="0 until the file is split into chunks.")
    chunks_done = serializers.IntegerField()
    rows = serializers.IntegerField(help_text="Rows read so far.")
    rejected = serializers.IntegerField(help_text="Rows rejected so far.")
    totals = serializers.DictField(help_text="Loaded movements, quantity and amount, by currency.")
    error = serializers.CharField(help_text="Why it failed, otherwise empty.")
    url = serializers.SerializerMethodField()

    class Meta:
        model = CsvImport
        fields: tuple[str, ...] = (
            *("id", "state", "size", "chunks", "chunks_done", "rows", "loaded", "rejected", "totals", "error"),
            *("received_at", "ended_at", "url"),
        )

    def get_url(self, csv_import: CsvImport) -> str:
        """Return where to look again."""
        return reverse("import", args=[csv_import.pk])


class RejectSerializer(serializers.ModelSerializer[RejectedRow]):
    """A refused row."""

    class Meta:
        model = RejectedRow
        fields = ("line", "reason")


class RejectsQuery(serializers.Serializer[Any]):
    """Which of the refused rows."""

    after_line = serializers.IntegerField(
        default=0, min_value=0, max_value=2**31 - 1, help_text=f"Show the next {REJECTS} rejected rows after this line."
    )


class ImportDetailSerializer(ImportSerializer):
    """How far an import is, with rows that were refused."""

    rejects = RejectSerializer(many=True)

    class Meta(ImportSerializer.Meta):
        fields = (*ImportSerializer.Meta.fields, "rejects")


class ImportPages(pagination.PageNumberPagination):
    """Fifty at a time."""

    page_size = 50


class OwnImports(generics.GenericAPIView[CsvImport]):
    """Everybody has their own; somebody else's are not there."""

    serializer_class = ImportSerializer

    @property
    def throttle_scope(self) -> str:
        """Return the limit: a file is work, a look at one is little."""
        return "imports.create" if self.request.method == "POST" else "imports.read"

    def get_queryset(self) -> QuerySet[CsvImport]:
        """Return the caller's imports."""
        return imports_of(owner_id=caller(self.request).pk)


class ImportsView(mixins.ListModelMixin, OwnImports):
    """The caller's imports."""

    parser_classes = (CsvParser,)
    pagination_class = ImportPages

    @extend_schema(
        responses={200: ImportSerializer(many=True), **responses({404: "there is no such page", **SIGNED_IN})}
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List them, the latest first."""
        return self.list(request, *args, **kwargs)

    @extend_schema(
        description=(
            f"The file begins with the line `{','.join(HEADER)}`, is UTF-8, and has at most {RECORD} bytes in a record. "
            "A rejected row is reported with its line number, as is text that a spreadsheet would run as a formula. The "
            "accepted rows become visible all at once, or not at all."
        ),
        request={"text/csv": OpenApiTypes.BINARY},
        responses={
            202: ImportSerializer,
            **responses(
                {
                    400: "the body is empty, or was cut off",
                    413: "the body is larger than 100 MB",
                    415: "the body is not text/csv",
                    507: "the account's quota is used up, or the site's",
                    **SIGNED_IN,
                }
            ),
        },
    )
    def post(self, request: Request) -> Response:
        """Upload a file as the body; `url`, which is also the Location, tells how far it is."""
        length = request.META.get("CONTENT_LENGTH") or "0"
        size = int(length) if length.isdigit() else 0
        if not size:
            raise exceptions.ParseError("The body is empty.")
        try:
            imports.room_check(owner_id=caller(request).pk, size=size)
            csv_import = imports.import_receive(
                owner_id=caller(request).pk, upload=cast("Any", request.data), size=size
            )
        except imports.NoRoomError as error:
            raise InsufficientStorageError(str(error)) from None
        except (imports.UploadCutOffError, UnreadablePostError) as error:
            raise exceptions.ParseError(f"The body was cut off: {error}") from error
        answer = ImportSerializer(self.get_queryset().get(pk=csv_import.pk)).data
        return Response(answer, status=status.HTTP_202_ACCEPTED, headers={"Location": answer["url"]})


class ImportView(OwnImports):
    """One of the caller's imports."""

    serializer_class = ImportDetailSerializer

    @extend_schema(
        parameters=[RejectsQuery],
        responses={
            200: ImportDetailSerializer,
            **responses({400: "after_line is no line", 404: "the caller has no such import", **SIGNED_IN}),
        },
    )
    def get(self, request: Request, *_: Any, **__: Any) -> Response:
        """Tell how far it is, and which rows were refused; of a file in which most are, not every one."""
        query = RejectsQuery(data=request.query_params)
        query.is_valid(raise_exception=True)
        csv_import = self.get_object()
        rejects = rejects_of(import_id=csv_import.pk, limit=REJECTS, **query.validated_data)
        answer = ImportSerializer(csv_import).data
        return Response({**answer, "rejects": RejectSerializer(rejects, many=True).data})
