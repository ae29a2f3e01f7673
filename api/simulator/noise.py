"""Verified deliveries that are about no booking: test buttons, forms, templates, triggers nobody knows yet."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

from api.simulator.story import Sent
from api.simulator.studio import Studio
from api.simulator.wire import Json, envelope, milliseconds, seconds_with_offset

NoiseFunction = Callable[[Studio, datetime], Sent]


def ping(_: Studio, at: datetime) -> Sent:
    """The test button of Cal.com's webhook form."""
    return _about_nothing(envelope("PING", at, _test_payload(at)), at)


def button_pressed(_: Studio, at: datetime) -> Sent:
    """The same button under a real trigger's name: a BOOKING_CREATED without uid."""
    return _about_nothing(envelope("BOOKING_CREATED", at, _test_payload(at)), at)


def form_submitted(studio: Studio, at: datetime) -> Sent:
    """The answers stand at the root of the body as well."""
    person = studio.somebody()
    given = {"name": person.name, "email": person.email}
    payload: Json = {
        "formId": studio.uuid(),
        "formName": "Before your first visit",
        "teamId": None,
        "responses": {slug: {"value": value, "response": value} for slug, value in given.items()},
    }
    return _about_nothing({**given, **envelope("FORM_SUBMITTED", at, payload)}, at)


def ooo_created(studio: Studio, at: datetime) -> Sent:
    host = studio.some_host()
    entry: Json = {
        "id": studio.rng.randrange(1, 10_000),
        "start": seconds_with_offset(at),
        "end": seconds_with_offset(at + timedelta(days=3)),
        "createdAt": milliseconds(at),
        "updatedAt": milliseconds(at),
        "notes": None,
        "reason": {"emoji": "🌴", "reason": "ooo_reasons_vacation"},
        "reasonId": 5,
        "user": {
            "id": host.id,
            "name": host.name,
            "username": host.username,
            "email": host.email,
            "timeZone": host.time_zone,
        },
        "toUser": None,
        "uuid": studio.uuid(),
    }
    return _about_nothing(envelope("OOO_CREATED", at, {"oooEntry": entry}), at)


def text_template(studio: Studio, at: datetime) -> Sent:
    """A payload template that is not JSON: plain text, whatever the content type says."""
    return Sent(
        body=f"New booking with {studio.somebody().name} 🐾".encode(),
        trigger="",
        uid=None,
        occurred_at=at,
        content_type="application/x-www-form-urlencoded",
    )


def unknown_trigger(studio: Studio, at: datetime) -> Sent:
    """Cal.com adds triggers without notice."""
    payload: Json = {"rating": studio.rng.randint(1, 5), "comment": None}
    return _about_nothing(envelope("BOOKING_RATED", at, payload), at)


NOISE: Mapping[str, NoiseFunction] = MappingProxyType(
    {
        function.__name__: function
        for function in (ping, button_pressed, form_submitted, ooo_created, text_template, unknown_trigger)
    }
)


def _about_nothing(body: Json, at: datetime) -> Sent:
    return Sent(body=body, trigger=str(body["triggerEvent"]), uid=None, occurred_at=at)


def _test_payload(at: datetime) -> Json:
    nobody: Json = {"timeZone": "Europe/London", "language": {"locale": "en"}, "utcOffset": 0}
    return {
        "type": "Test",
        "title": "Test trigger event",
        "startTime": milliseconds(at),
        "endTime": milliseconds(at),
        "attendees": [{"email": "jdoe@example.com", "name": "John Doe", **nobody}],
        "organizer": {"name": "Cal", "email": "no-reply@example.com", **nobody},
    }
