"""Bookings as people read them on a terminal. Control characters of whoever booked are shown, never obeyed."""

import sys
from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from projections.calendar_events import CalendarEvent
from projections.lookup import FoundBooking, HistoryEntry
from projections.measures import ProjectionStatus
from projections.progress import Progress
from projections.suggestions import Reason, SuggestionPage

STATUS_STYLES = {
    "scheduled": "cyan",
    "confirmed": "green",
    "completed": "bright_black",
    "no_show": "magenta",
    "cancelled": "red",
    "rescheduled": "yellow",
}
FIRST_FIELDS = ("title", "start_time", "end_time", "status", "attendees", "host_name", "location", "rescheduled_from")
"""What a booking's first event is told by; its further fields are in `bookings show`."""

HEADING_FIELDS = frozenset({"cal_com_event_id", "booking_number", "rescheduled_from"})
"""What an event's heading tells already, when one booking takes another's place."""

REASONS: dict[Reason, str] = {
    "same_start": "the same attendee and start",
    "only_booking_of_attendee": "the attendee's only booking",
    "attendee": "the same attendee",
}

VALUE_CHARACTERS_MAX = 60

PLAIN_WIDTH = 110
"""Columns where the output goes to a file or a pipe."""

console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)


def print_bookings(rows: Sequence[CalendarEvent], *, title: str | None = None) -> None:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold", expand=True)
    for heading, columns in (("start (UTC)", 16), ("min", 3), ("status", 11), ("what", None), ("who", 16), ("uid", 22)):
        table.add_column(heading, no_wrap=True, overflow="ellipsis", min_width=columns, ratio=None if columns else 1)
    for row in rows:
        table.add_row(
            row.start_time.strftime("%Y-%m-%d %H:%M") if row.start_time else "unknown",
            str(row.duration_minutes if row.duration_minutes is not None else ""),
            _status(row.status),
            _plain(row.title or row.event_type or "(no title yet)"),
            _plain(row.attendee_name or row.attendee_email or ""),
            _plain(row.cal_com_event_id),
        )
    console.print(table)
    if not rows:
        console.print("No bookings.")


def print_booking(found: FoundBooking) -> None:
    booking = found.booking
    if not found.is_current:
        console.print(f"{_plain(found.asked_for)} was rescheduled; this is the booking that stands now.")
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name in booking.__struct_fields__:
        value = getattr(booking, name)
        if value not in (None, "", [], {}, False):
            table.add_row(name, _status(value) if name == "status" else _value(value))
    if len(found.chain) > 1:
        table.add_row("chain", _plain(" → ".join(found.chain)))
    for doubt in found.doubts:
        table.add_row("doubt", f"{_plain(doubt.name)}: raised by {_plain(doubt.trigger)} at position {doubt.position}")
    console.print(table)


def print_history(name: str, entries: Sequence[HistoryEntry]) -> None:
    console.print(f"[bold]History of {_plain(name)}[/bold]")
    for entry in entries:
        late = "  [yellow]came late[/yellow]" if entry.late else ""
        console.print(
            f"{entry.occurred_at:%Y-%m-%d %H:%M:%S}  [bold]{_plain(entry.trigger)}[/bold]  "
            f"{_plain(entry.uid)}  position {entry.position}{late}",
            soft_wrap=True,
        )
        first = entry is entries[0]
        for change in entry.changes:
            if change.field in FIRST_FIELDS if first else change.field not in HEADING_FIELDS:
                before, after = _value(change.before), _value(change.after)
                told = f"{before} → {after}" if change.before else after
                console.print(f"    {change.field}: {told}", soft_wrap=True)


def print_suggestions(page: SuggestionPage) -> None:
    for suggestion in page.suggestions:
        start = f", start {_value(suggestion.start_time)}" if suggestion.start_time else ""
        console.print(
            f"{suggestion.occurred_at:%Y-%m-%d %H:%M:%S}  [bold]{_plain(suggestion.trigger)}[/bold]  "
            f"{_plain(suggestion.attendee)}{start}  {suggestion.event_id}",
            soft_wrap=True,
        )
        for booking in suggestion.bookings:
            start = "start unknown" if booking.start_time is None else _value(booking.start_time)
            told = f"{start}  {_status(booking.status)}  {_plain(booking.title or '(no title yet)')}"
            console.print(
                f"    {_plain(booking.cal_com_event_id)}  {told}  ({REASONS[booking.reason]})", soft_wrap=True
            )
    if not page.suggestions:
        console.print("Nothing to suggest.")
    if page.next_before is not None:
        console.print(f"There may be more: --before {page.next_before}")


def _status(status: str) -> str:
    style = STATUS_STYLES.get(status, "default")
    return f"[{style}]{_plain(status)}[/{style}]"


def _value(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, list):
        return _plain(
            ", ".join(str(item.get("email", item)) if isinstance(item, dict) else str(item) for item in value)
        )
    if isinstance(value, dict):
        return _plain(", ".join(f"{key}={item}" for key, item in value.items()))
    return _plain("none" if value is None else str(value))


def _plain(text: str) -> str:
    """Text that cannot speak to the terminal or to rich."""
    printable = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return escape(printable if len(printable) <= VALUE_CHARACTERS_MAX else printable[: VALUE_CHARACTERS_MAX - 1] + "…")


def print_projections(rows: Sequence[ProjectionStatus]) -> None:
    """Every live read model of every ledger, one a line."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("ledger", "projection"):
        table.add_column(heading)
    for heading in ("generation", "position", "lag", "parked"):
        table.add_column(heading, justify="right")
    table.add_column("state")
    for row in rows:
        table.add_row(
            row.ledger,
            row.projection,
            str(row.generation),
            f"{row.position:,}",
            f"{row.lag_events:,}",
            f"{row.parked:,}",
            _plain(row.state if row.last_error is None else f"{row.state}: {row.last_error}"),
        )
    console.print(table)


def print_generations(rows: Sequence[Progress]) -> None:
    """Rebuilds under way, one a line."""
    for row in rows:
        rate = f", {row.rate:,.0f} events/s" if row.rate else ""
        eta = f", {row.eta_seconds:,.0f} s to go" if row.eta_seconds else ""
        state = "paused" if row.paused else row.phase
        console.print(
            f"{row.projection}: generation {row.generation} is being built ({state}), "
            f"{row.events_done:,} of {row.events_total:,} events{rate}{eta}"
        )
