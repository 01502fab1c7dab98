"""Drawing a report: page by page, with nothing of the database and nothing of Celery in it."""

from collections.abc import Iterable, Iterator
from datetime import date
from typing import BinaryIO

from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas

from apps.reports.selectors import Event

MARGIN = 20 * mm
LINE = 10 * mm
# Events of one hour that have room on its line; the rest is counted.
ROOM = 3


def report_draw(file: BinaryIO, *, title: str, days: Iterable[tuple[date, list[Event]]], pages: int) -> Iterator[int]:
    """Draw a page for each of the days, yield its number when it is drawn, and write the file after the last one.

    reportlab keeps the pages in memory until then: 500 take about 15 MB, and PAGES_MAX bounds them. The same days make
    the same bytes, since `invariant` leaves out when they were made.
    """
    canvas = Canvas(file, pagesize=A4, pageCompression=1, invariant=1)
    canvas.setTitle(title)
    for number, (day, events) in enumerate(days, start=1):
        _page(canvas, title, day, events, f"Page {number} of {pages}")
        yield number
    canvas.save()


def _page(canvas: Canvas, title: str, day: date, events: list[Event], footer: str) -> None:
    width, height = A4
    canvas.setFont("Helvetica", 9)
    canvas.drawString(MARGIN, height - MARGIN, title)
    canvas.drawRightString(width - MARGIN, MARGIN / 2, footer)
    canvas.setFont("Helvetica-Bold", 16)
    canvas.drawString(MARGIN, height - MARGIN - LINE, f"{day:%A, %d %B %Y}")
    canvas.setFont("Helvetica", 9)
    for hour in range(24):
        bottom = height - MARGIN - (hour + 2) * LINE
        canvas.drawString(MARGIN, bottom, f"{hour:02}:00")
        canvas.drawString(MARGIN + 2 * LINE, bottom, _words([event for event in events if event.at.hour == hour]))
        canvas.line(MARGIN, bottom - LINE / 3, width - MARGIN, bottom - LINE / 3)
    canvas.showPage()


def _words(events: list[Event]) -> str:
    shown = [f"{event.at:%H:%M} {event.what}" for event in events[:ROOM]]
    return "; ".join(shown + [f"and {len(events) - ROOM} more"] * (len(events) > ROOM))
