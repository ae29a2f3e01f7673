"""`booking-ledger events`: the log itself, as JSON lines."""

import sys
from typing import IO, TYPE_CHECKING, Any

import click
import msgspec

from api.cli.bookings import find_ledger, ledger_option
from api.cli.context import with_connection
from ledger.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ledger.postgres import Connection
    from ledger.store import Ledger, RecordedEvent

PAGE_EVENTS = 1_000
LOOK_AGAIN_SECONDS = 1.0

after_option = click.option(
    "--after", default=0, show_default=True, type=click.IntRange(min=0), help="Only what follows this position."
)


@click.group()
def events() -> None:
    """The log itself, event by event, as JSON lines.

    Each line holds ledger, position, stream_id, stream_version, event_id, topic, occurred_at, recorded_at, source and
    body: the delivery as it came in, as text, or as body_base64 where it is not UTF-8. Where it was erased, body is
    null and erased is true; where it cannot be read although it should, fault says why.
    """


@events.command()
@ledger_option
@after_option
@click.option("--output", type=click.File("wb"), default="-", help="A file instead of standard output.")
@click.option(
    "--format",
    "as_format",
    type=click.Choice(["jsonl", "parquet"]),
    default="jsonl",
    show_default=True,
    help="Parquet has the same columns, `body` as bytes, `erased` in every row; it needs the extra `export`.",
)
def export(*, ledger_name: str, after: int, output: IO[bytes], as_format: str) -> None:
    """Everything up to the present end of the log."""

    async def work(connection: "Connection", _settings: Settings) -> None:
        from ledger.store import read_head

        ledger = await find_ledger(connection, ledger_name)
        head = await read_head(connection, ledger.ledger_id)
        if as_format == "jsonl":
            await _write(connection, ledger, output, after=after, until=head.position)
            return
        from api.parquet import writing_parquet

        with writing_parquet(ledger, output) as write:
            async for page in _pages(connection, ledger, after=after, until=head.position):
                write(page)

    with_connection(work)


@events.command()
@ledger_option
@click.option("--after", type=click.IntRange(min=0), help="Begin after this position instead of at the end.")
def tail(*, ledger_name: str, after: int | None) -> None:
    """What is appended from now on, until interrupted."""

    async def work(connection: "Connection", _settings: Settings) -> None:
        import asyncio

        from ledger.store import NOTIFY_CHANNEL, read_head

        appended = asyncio.Event()
        await connection.add_listener(NOTIFY_CHANNEL, lambda *_notification: appended.set())
        ledger = await find_ledger(connection, ledger_name)
        position = (await read_head(connection, ledger.ledger_id)).position if after is None else after
        while True:
            appended.clear()
            head = await read_head(connection, ledger.ledger_id)
            await _write(connection, ledger, sys.stdout.buffer, after=position, until=head.position)
            position = head.position
            try:
                await asyncio.wait_for(appended.wait(), LOOK_AGAIN_SECONDS)
            except TimeoutError:
                continue

    try:
        with_connection(work)
    except KeyboardInterrupt:
        click.echo(err=True)


async def _write(connection: "Connection", ledger: "Ledger", output: IO[bytes], *, after: int, until: int) -> None:
    """The events after one position up to another are in the output, which has been flushed."""
    async for page in _pages(connection, ledger, after=after, until=until):
        for event in page:
            output.write(msgspec.json.encode(_line(ledger, event)) + b"\n")
    output.flush()


async def _pages(
    connection: "Connection", ledger: "Ledger", *, after: int, until: int
) -> "AsyncIterator[list[RecordedEvent]]":
    """The events after one position up to another, page by page."""
    from ledger.store import read_log
    from ledger.vocabulary import Position

    position = after
    while position < until:
        page = await read_log(
            connection, ledger.ledger_id, after=Position(position), events_max=min(PAGE_EVENTS, until - position)
        )
        if not page:
            break
        yield page
        position = page[-1].position


def _line(ledger: "Ledger", event: "RecordedEvent") -> dict[str, Any]:
    told: dict[str, Any] = {
        "ledger": ledger.name,
        "position": event.position,
        "stream_id": event.stream_id,
        "stream_version": event.stream_version,
        "event_id": str(event.event_id),
        "topic": event.topic,
        "occurred_at": event.occurred_at,
        "recorded_at": event.recorded_at,
        "source": event.source,
    }
    if event.is_erased:
        return told | {"body": None, "erased": True}
    if event.fault is not None:
        return told | {"body": None, "fault": event.fault}
    try:
        return told | {"body": event.body.decode()}
    except UnicodeDecodeError:
        return told | {"body_base64": event.body}
