"""What is asked of the read models when they are measured: each route's query, each kind of filter."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import date, timedelta
from random import Random
from types import MappingProxyType

import msgspec

from api.bench.made_up import (
    BOOKINGS_A_CLIENT,
    BOOKINGS_A_DAY,
    BOOKINGS_A_PET,
    DAYS_AHEAD,
    EVENT_TYPES,
    HOSTS,
    NOW,
    RARE_EVENT_TYPE,
    SALONS,
    SELDOM_TRIGGER,
    host_of,
    uid_of,
)
from ledger.postgres import Connection
from ledger.store import Ledger
from projections.agenda import APPOINTMENTS, Visits, count_by_status, list_visits
from projections.clients import Order, find_client, list_clients
from projections.days import day_at, find_zone, stretch_of
from projections.deliveries import DeliveryFilter, list_deliveries
from projections.lists import Cursor, Filter, Listed, list_page
from projections.lookup import find_booking, read_history
from projections.past_lists import list_page_as_of
from projections.reports import Group, Period, Report, read_report

PAGE_ROWS = 50
AHEAD = ["scheduled", "confirmed"]
WEEK = timedelta(days=7)
TEN_YEARS = timedelta(days=3_652)
EVENTS_BACK = 100
"""How many events ago the past is that is listed; the log of made-up bookings has one a second."""


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """Where to ask, and a seeded choice of whom to ask about."""

    connection: Connection
    ledger: Ledger
    bookings: int
    rng: Random

    def client(self) -> str:
        return f"client-{self.rng.randrange(self.bookings // BOOKINGS_A_CLIENT)}"

    def person(self) -> str:
        return f"person-{self.rng.randrange(self.bookings // BOOKINGS_A_CLIENT)}@example.com"

    def pet(self) -> str:
        return f"pet-{self.rng.randrange(self.bookings // BOOKINGS_A_PET)}"

    def host(self) -> str:
        return host_of(self.rng.randrange(HOSTS))

    def salon(self) -> str:
        return f"salon-{self.rng.randrange(SALONS)}"

    def event_type(self) -> str:
        return f"type-{self.rng.randrange(EVENT_TYPES)}"

    def place(self) -> Cursor:
        """Somewhere among the bookings, not at their end."""
        days = self.bookings / BOOKINGS_A_DAY - DAYS_AHEAD - 1
        return Cursor(NOW - timedelta(days=self.rng.uniform(0, days)), "")

    def uid(self) -> str:
        return uid_of(self.rng.randrange(1, self.bookings))

    async def page(self, narrowed: Filter, after: Cursor | None = None) -> Listed:
        return await list_page(self.connection, self.ledger, narrowed, after=after, rows_max=PAGE_ROWS)


Question = Callable[[Asking], Awaitable[object]]


async def _week_of_salon(asking: Asking) -> Listed:
    begins = asking.place().start_time or NOW
    narrowed = Filter(statuses=APPOINTMENTS, starts_from=begins, starts_before=begins + WEEK, salon=asking.salon())
    return await asking.page(narrowed)


async def _today(asking: Asking) -> Listed:
    zone = find_zone("Europe/Warsaw")
    day = stretch_of(day_at(NOW, zone), zone)
    narrowed = Filter(statuses=APPOINTMENTS, starts_from=day.begins, starts_before=day.ends)
    await count_by_status(asking.connection, asking.ledger, day, narrowed)
    return await asking.page(narrowed)


async def _as_of(asking: Asking) -> Listed:
    return await list_page_as_of(
        asking.connection,
        asking.ledger,
        Filter(),
        as_of=NOW - timedelta(seconds=EVENTS_BACK),
        after=asking.place(),
        rows_max=PAGE_ROWS,
        confirm_on_accept=False,
    )


async def _booking(asking: Asking) -> object:
    return await find_booking(asking.connection, asking.ledger, asking.uid(), confirm_on_accept=False)


async def _history(asking: Asking) -> object:
    return await read_history(asking.connection, asking.ledger, asking.uid(), confirm_on_accept=False)


async def _visits(asking: Asking, visits: Visits) -> Listed:
    return await list_visits(asking.connection, asking.ledger, visits, after=None, rows_max=PAGE_ROWS)


async def _report(asking: Asking, first: date, group: Group) -> Report:
    period = Period(first=first, end=NOW.date())
    return await read_report(asking.connection, asking.ledger, period, group)


async def _deliveries(asking: Asking, narrowed: DeliveryFilter) -> object:
    return await list_deliveries(asking.connection, asking.ledger, narrowed, after=None, rows_max=PAGE_ROWS)


async def _clients(asking: Asking, order: Order) -> object:
    return await list_clients(asking.connection, asking.ledger, order=order, after=None, rows_max=PAGE_ROWS)


LISTS: Mapping[str, Callable[[Asking], Filter]] = MappingProxyType(
    {
        "list, first page": lambda _: Filter(),
        "list, a week": lambda _: Filter(starts_from=NOW - WEEK, starts_before=NOW),
        "list, scheduled and confirmed": lambda _: Filter(statuses=AHEAD),
        "list, no_show": lambda _: Filter(statuses=["no_show"]),
        "list, cancelled from a day on": lambda _: Filter(statuses=["cancelled"], starts_from=NOW - WEEK),
        "list, attendee": lambda one: Filter(attendee=one.person()),
        "list, host": lambda one: Filter(host=one.host()),
        "list, host's next": lambda one: Filter(host=one.host(), statuses=AHEAD, starts_from=NOW),
        "list, event type many have": lambda one: Filter(event_type=one.event_type()),
        "list, event type few have": lambda _: Filter(event_type=RARE_EVENT_TYPE),
        "list, client": lambda one: Filter(client=one.client()),
        "list, pet": lambda one: Filter(pet=one.pet()),
        "list, salon": lambda one: Filter(salon=one.salon()),
        "list, metadata few have": lambda one: Filter(metadata={"barkbookClientId": one.client()}),
        "list, metadata many have": lambda _: Filter(metadata={"source": "phone"}),
        "list, name: uid": lambda one: Filter(name=one.uid()),
        "list, name: e-mail": lambda one: Filter(name=one.person()),
        "list, name: metadata value": lambda one: Filter(name=one.client()),
        "list, text many have": lambda _: Filter(text="mind the stairs"),
        "list, host and salon that never meet (one page)": lambda _: Filter(host=host_of(1), salon="salon-2"),
        "list, host and metadata that never meet (one page)": lambda _: Filter(
            host=host_of(0), metadata={"source": "website"}
        ),
        "list, host who has no such status": lambda _: Filter(host=host_of(1), statuses=["rescheduled"]),
        "list, text nobody has (one page)": lambda _: Filter(text="zebra"),
    }
)


def _listing(narrowed: Callable[[Asking], Filter]) -> Question:
    return lambda asking: asking.page(narrowed(asking))


QUESTIONS: Mapping[str, Question] = MappingProxyType(
    {
        **{name: _listing(narrowed) for name, narrowed in LISTS.items()},
        "list, a page in the middle": lambda one: one.page(Filter(), one.place()),
        "list, as of 100 events ago": _as_of,
        "one booking, from the log": _booking,
        "one booking's history": _history,
        "today, with counts": _today,
        "salon's week": _week_of_salon,
        "client's visits": lambda one: _visits(one, Visits(client=one.client(), statuses=APPOINTMENTS)),
        "pet's visits": lambda one: _visits(one, Visits(pet=one.pet(), statuses=APPOINTMENTS)),
        "client": lambda one: find_client(one.connection, one.ledger, one.client()),
        "clients by id": lambda one: _clients(one, "id"),
        "clients by last visit": lambda one: _clients(one, "last_visit"),
        "statistics, a week by day": lambda one: _report(one, NOW.date() - WEEK, "day"),
        "statistics, ten years by month": lambda one: _report(one, NOW.date() - TEN_YEARS, "month"),
        "statistics, a year by host": lambda one: _report(one, NOW.date() - timedelta(days=365), "host"),
        "deliveries": lambda one: _deliveries(one, DeliveryFilter()),
        "deliveries, trigger few have": lambda one: _deliveries(one, DeliveryFilter(triggers=[SELDOM_TRIGGER])),
        "deliveries, unrecognised": lambda one: _deliveries(one, DeliveryFilter(is_unrecognised=True)),
    }
)
