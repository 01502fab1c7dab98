"""GET /api/tasks/<id>/: the status of a task, for the user who requested it."""

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.api.callers import caller
from apps.api.problems import SIGNED_IN, responses
from drumline.ledger import selectors
from drumline.models import DurableTask
from drumline.sending.owners import task_owner

# What a client reads, for what the ledger holds.
STATES = {state: state.name.lower() for state in DurableTask.State}


class TaskSerializer(serializers.Serializer[Any]):
    """How a task fares: nothing of its arguments, nor of its errors more than their class."""

    id = serializers.SerializerMethodField()
    state = serializers.SerializerMethodField()
    queue = serializers.CharField()
    attempts = serializers.IntegerField(source="attempt", help_text="Number of starts, retries included.")
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True, help_text="Time of the latest start.")
    finished_at = serializers.DateTimeField(allow_null=True)
    error = serializers.SerializerMethodField(help_text="Class of the error, if the state is `dead`.")

    def get_id(self, task: DurableTask) -> str:
        """Return the id that it was sent under."""
        return selectors.task_id(task)

    @extend_schema_field(serializers.ChoiceField(list(STATES.values())))
    def get_state(self, task: DurableTask) -> str:
        """Return where it stands."""
        return STATES[DurableTask.State(task.state)]

    def get_error(self, task: DurableTask) -> str:
        """Return what it ended with; empty unless it is dead."""
        return selectors.task_error(task)


class TaskView(APIView):
    """One durable task. Finished ones are known for a day."""

    throttle_scope = "tasks.read"

    @extend_schema(
        responses={
            200: TaskSerializer,
            **responses({**SIGNED_IN, 404: "there is no such task, or somebody else asked for it"}),
        },
    )
    def get(self, request: Request, task_id: str) -> Response:
        """Tell how a task fares that this person asked for."""
        task = selectors.task_by_id(task_id)
        if task is None or task_owner(task) != str(caller(request).pk):
            raise NotFound
        return Response(TaskSerializer(task).data)
