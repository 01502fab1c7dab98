"""The admin page of durable tasks: view, requeue and discard them."""

import json
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

from django import VERSION
from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from drumline.admin.read_only import BoundedPaginator, ReadOnlyAdmin
from drumline.application import application
from drumline.ledger import operators, selectors
from drumline.message import ledger_id
from drumline.models import DurableTask, Worker

State = DurableTask.State


class StateFilter(admin.SimpleListFilter):
    """Shows dead letters by default, because they need a decision. A search covers all states."""

    title = "state"
    parameter_name = "state"
    # Each condition is one that an index has, and each order the index's own.
    STATES = {
        "dead": ("Dead letters", Q(state=State.DEAD), "-finished_at"),
        "waiting": ("Waiting", Q(**selectors.PUBLISHED) | Q(**selectors.UNPUBLISHED), "due_at"),
        "running": ("Running", Q(state=State.RUNNING), "started_at"),
        "finished": ("Finished", Q(state=State.FINISHED), "-finished_at"),
        "discarded": ("Discarded", Q(state=State.DISCARDED), "-finished_at"),
        "any": ("Any", Q(), "-pk"),
    }

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> Iterable[tuple[str, str]]:
        """Return the choices."""
        return [(value, label) for value, (label, _, _) in self.STATES.items()]

    def chosen(self, request: HttpRequest) -> str:
        """Return the choice, or what stands for none."""
        value = self.value()
        return value if value in self.STATES else "any" if request.GET.get("q") else "dead"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Filter and order."""
        _, condition, order = self.STATES[self.chosen(request)]
        return queryset.filter(condition).order_by(order)

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Offer no "All": the default is one of the choices."""
        chosen = self.chosen(self._request)
        for value, label in self.lookup_choices:
            query = changelist.get_query_string({self.parameter_name: value})
            yield {"selected": value == chosen, "query_string": query, "display": label}

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        self._request = request
        super().__init__(request, *args)


class QueueFilter(admin.SimpleListFilter):
    """Filters by the declared queues, without reading every row."""

    title = "queue"
    parameter_name = "queue"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> Iterable[tuple[str, str]]:
        """Return the declared queues."""
        return [(name, name) for name in sorted(application().amqp.queues)]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Filter."""
        return queryset.filter(queue=self.value()) if self.value() else queryset


@admin.register(DurableTask)
class DurableTaskAdmin(ReadOnlyAdmin):
    """The ledger. Requeueing and discarding need the permission to change durable tasks."""

    list_display = ("name", "error_line", "queue", "state", "attempt", "created_at", "finished_at")
    list_filter = (StateFilter, QueueFilter, "created_at", "finished_at")
    search_fields = ("name",)
    search_help_text = "Task id, or the beginning of a task name."
    list_per_page = 50
    show_full_result_count = False
    # Facets would count every row. Django 4.2 has none.
    if VERSION >= (5,):
        show_facets = admin.ShowFacets.NEVER
    paginator = BoundedPaginator
    sortable_by = ()
    actions = ("requeue", "discard")
    fieldsets = (
        (None, {"fields": ("task_id", "name", "queue", "priority", "state", "arguments")}),
        ("When", {"fields": ("created_at", "due_at", "expires_at", "published_at", "started_at", "finished_at")}),
        ("Attempts", {"fields": ("attempt", "retries", "max_attempts", "worker", "what_happened")}),
        ("Result", {"fields": ("result", "error", "formatted_traceback")}),
        ("Workflow", {"fields": ("parent_id", "root_id", "generation")}),
    )

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Forbid deletion, which would lose the task. Discard it instead."""
        return False

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Allow requeuing and discarding to users who may change durable tasks."""
        return bool(request.user.has_perm("drumline.change_durabletask"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[DurableTask]:
        """Defer columns that only the page of one task shows."""
        rows: QuerySet[DurableTask] = super().get_queryset(request)
        return rows.defer("message", "traceback", "result", "history")

    def get_search_results(
        self, _request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search by id, and if no task has that id, by the beginning of the name."""
        if not search_term:
            return queryset, False
        by_id = queryset.filter(pk=ledger_id(search_term.strip()))
        return (by_id if by_id.exists() else queryset.filter(name__startswith=search_term.strip())), False

    @admin.display(description="error")
    def error_line(self, task: DurableTask) -> str:
        """Return the first line of the error, shortened for the list."""
        return task.error.splitlines()[0][:120] if task.error else ""

    @admin.display(description="task id")
    def task_id(self, task: DurableTask) -> str:
        """Return the Celery task id."""
        return selectors.task_id(task)

    @admin.display
    def arguments(self, task: DurableTask) -> SafeString:
        """Return the call's arguments as JSON."""
        args, kwargs = selectors.task_arguments(task)
        return _block(json.dumps({"args": args, "kwargs": kwargs}, indent=2, ensure_ascii=False))

    @admin.display(description="traceback")
    def formatted_traceback(self, task: DurableTask) -> SafeString | str:
        """Return the traceback, preformatted."""
        return _block(task.traceback) if task.traceback else ""

    @admin.display
    def worker(self, task: DurableTask) -> SafeString | str:
        """Return the worker that claimed the task last, linked while its row exists."""
        row = Worker.objects.filter(id=task.worker_id).first() if task.worker_id else None
        if row is None:
            return str(task.worker_id or "")
        return format_html('<a href="{}">{}</a>', reverse("admin:drumline_worker_change", args=[row.pk]), row.name)

    @admin.display
    def what_happened(self, task: DurableTask) -> SafeString | str:
        """Return the history, oldest first."""
        columns = ("at", "what", "attempt", "by", "error", "worker")
        rows = format_html_join(
            "",
            "<tr>{}</tr>",
            (
                (format_html_join("", "<td>{}</td>", ((entry.get(name, ""),) for name in columns)),)
                for entry in task.history
            ),
        )
        head = format_html_join("", "<th>{}</th>", ((name,) for name in columns))
        return format_html("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>", head, rows) if rows else ""

    @admin.action(description="Requeue: run dead letters and discarded tasks again", permissions=["operate"])
    def requeue(self, request: HttpRequest, rows: QuerySet[DurableTask]) -> None:
        """Requeue them and record the user in their history."""
        ids = _ids(rows)
        done = operators.requeue(ids, by=request.user.get_username())
        self._report(request, "requeued", done, len(ids), "neither dead nor discarded")

    @admin.action(description="Discard: give up waiting tasks and dead letters", permissions=["operate"])
    def discard(self, request: HttpRequest, rows: QuerySet[DurableTask]) -> HttpResponse | None:
        """Ask for a reason, then discard them."""
        ids = _ids(rows)
        reason = request.POST.get("reason", "").strip()
        if not reason:
            context = {
                **self.admin_site.each_context(request),
                "title": "Discard tasks",
                "opts": self.opts,
                "number": len(ids),
                "rows": rows[:20],
                "post": request.POST,
                "asked": "reason" in request.POST,
            }
            return TemplateResponse(request, "drumline/discard.html", context)
        done = operators.discard(ids, reason=reason, by=request.user.get_username())
        self._report(request, "discarded", done, len(ids), "neither dead nor waiting")
        return None

    def _report(self, request: HttpRequest, what: str, done: int, number: int, others: str) -> None:
        rest = f"; {number - done} were {others}" if done < number else ""
        self.message_user(request, f"{done} of {number} {what}{rest}.", messages.WARNING if rest else messages.SUCCESS)


def _ids(rows: QuerySet[DurableTask]) -> list[UUID]:
    # All of them before the first is touched, which may take it out of the filter.
    return list(rows.order_by().values_list("pk", flat=True))


def _block(text: str) -> SafeString:
    return format_html('<pre style="white-space: pre-wrap; overflow-wrap: anywhere">{}</pre>', text)
