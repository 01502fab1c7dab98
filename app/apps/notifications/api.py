"""/api/reminders/."""

from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions, generics, mixins, pagination, serializers, status
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api.callers import caller
from apps.api.permissions import EmailVerified
from apps.api.problems import SIGNED_IN, ConflictError, responses
from apps.notifications import services
from apps.notifications.models import Reminder
from apps.notifications.selectors import reminders_of

# How far ahead a reminder may lie.
FARTHEST = timedelta(days=366)


class ReminderCreateSerializer(serializers.Serializer[Any]):
    """A reminder, at a time or in so many seconds."""

    text = serializers.CharField(max_length=1000)
    at = serializers.DateTimeField(required=False, help_text="In the site's time zone, unless it contains an offset.")
    in_seconds = serializers.IntegerField(required=False, min_value=1, max_value=int(FARTHEST.total_seconds()))

    def validate_at(self, at: datetime) -> datetime:
        """Refuse what is over, and what is too far."""
        if not timezone.now() < at < timezone.now() + FARTHEST:
            raise serializers.ValidationError(f"The time must be within the next {FARTHEST.days} days.", code="range")
        return at

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Ask for one time, no less and no more."""
        if ("at" in attrs) == ("in_seconds" in attrs):
            raise serializers.ValidationError({"at": "Set either at or in_seconds."}, code="either")
        return attrs


class ReminderSerializer(serializers.ModelSerializer[Reminder]):
    """What is told about a reminder."""

    status = serializers.ChoiceField(choices=Reminder.Status.choices, read_only=True)

    class Meta:
        model = Reminder
        fields = ("id", "text", "due_at", "status", "sent_at", "cancelled_at", "task_id")


class ReminderPages(pagination.PageNumberPagination):
    """Fifty at a time."""

    page_size = 50


class OwnReminders(generics.GenericAPIView[Reminder]):
    """Everybody has their own; somebody else's are not there."""

    serializer_class = ReminderSerializer
    permission_classes = (IsAuthenticated, EmailVerified)

    @property
    def throttle_scope(self) -> str:
        """Return the limit: a reminder is an e-mail, a look at one is nothing."""
        return "reminders.create" if self.request.method == "POST" else "reminders"

    def get_queryset(self) -> QuerySet[Reminder]:
        """Return the caller's reminders."""
        return reminders_of(user=caller(self.request))


class RemindersView(mixins.ListModelMixin, OwnReminders):
    """The caller's reminders."""

    pagination_class = ReminderPages

    @extend_schema(
        responses={200: ReminderSerializer(many=True), **responses({**SIGNED_IN, 404: "there is no such page"})}
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List them, the latest first."""
        return self.list(request, *args, **kwargs)

    @extend_schema(
        request=ReminderCreateSerializer,
        responses={201: ReminderSerializer, **responses({**SIGNED_IN, 400: "no text, or no time that lies ahead"})},
    )
    def post(self, request: Request) -> Response:
        """Schedule one."""
        serializer = ReminderCreateSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        try:
            reminder = services.reminder_schedule(user=caller(request), **serializer.validated_data)
        except services.TooManyRemindersError:
            raise exceptions.Throttled(detail=f"At most {services.REMINDERS} reminders in 24 hours.") from None
        return Response(ReminderSerializer(reminder).data, status=status.HTTP_201_CREATED)


class ReminderView(mixins.RetrieveModelMixin, OwnReminders):
    """One of the caller's reminders."""

    @extend_schema(
        responses={200: ReminderSerializer, **responses({**SIGNED_IN, 404: "the caller has no such reminder"})}
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Say where it stands."""
        return self.retrieve(request, *args, **kwargs)

    @extend_schema(
        responses={
            204: None,
            **responses({**SIGNED_IN, 404: "the caller has no such reminder", 409: "it was sent before"}),
        }
    )
    def delete(self, request: Request, *_: Any, **__: Any) -> Response:
        """Cancel it; it stays on the list."""
        try:
            services.reminder_cancel(reminder=self.get_object())
        except services.ReminderSentError:
            raise ConflictError("The reminder was sent before, or is being sent now.") from None
        return Response(status=status.HTTP_204_NO_CONTENT)
