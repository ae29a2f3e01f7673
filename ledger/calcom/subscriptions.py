"""Our webhook at Cal.com: registered, brought up to date, taken away; nobody else's is ever touched.

Which triggers an account accepts differs between Cal.com's own service and the releases that people run themselves, and
is asked for nowhere: all that we know are asked for, and what Cal.com refuses is left out until it agrees.
"""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final, Literal

import msgspec

from ledger.calcom.addresses import Ourselves, same_address
from ledger.calcom.answers import Webhook
from ledger.calcom.api import CalComApi, WebhookOwner
from ledger.calcom.triggers import KNOWN_TRIGGERS
from ledger.errors import CalComRejected, ForeignWebhook, NotFound

SUBSCRIBABLE: Final = KNOWN_TRIGGERS - {"PING", "BOOKING_CONFIRMED"}
"""All but the test button's, and the one that only system 001 sends."""

AFTER_SPRING_2026: Final = frozenset(
    {
        *("BOOKING_LOCATION_UPDATED", "BOOKING_REASSIGNED", "INSTANT_MEETING_ACCEPTED", "CALENDAR_ENTRY_REJECTED"),
        *("DELEGATION_CREDENTIAL_SECRET_ROTATION_FAILED", "DELEGATION_CREDENTIAL_ROTATION_REQUIRED"),
        "DELEGATION_CREDENTIAL_SECRET_ROTATED",
    }
)
NOT_EVERYWHERE: Final = AFTER_SPRING_2026 | {
    *("INSTANT_MEETING", "WRONG_ASSIGNMENT_REPORT", "ROUTING_FORM_FALLBACK_HIT", "DELEGATION_CREDENTIAL_ERROR"),
}
FALLBACKS: Final = (
    SUBSCRIBABLE - AFTER_SPRING_2026,
    SUBSCRIBABLE - NOT_EVERYWHERE,
    frozenset(name for name in SUBSCRIBABLE - NOT_EVERYWHERE if name.startswith(("BOOKING_", "MEETING_"))),
)
"""What to ask for where a refusal names no trigger: each release's own, then what every one has (CALCOM.md 1.1)."""

TIMED_PREFIX: Final = "AFTER_"
TIME_DEFAULT: Final = 5
TIME_UNIT_DEFAULT: Final = "MINUTE"
OTHER_FIELDS: Final = ("subscriberUrl", "secret", "active", "payloadTemplate")
TRIES_MAX: Final = 8
VALIDATION_FAILED: Final = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)

_NAME = re.compile(r"\b[A-Z][A-Z_]+[A-Z]\b")
_TIME = re.compile(r"\btime(?:Unit)?\b")


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """What `register` found or made. `left_out`: triggers that Cal.com does not accept; `changed`: fields by name.

    `also_ours`: further webhooks of the same owner that lead to us, so that every change arrives more than once.
    """

    action: Literal["created", "updated", "unchanged"]
    id: str
    url: str
    triggers: tuple[str, ...]
    left_out: tuple[str, ...]
    changed: tuple[str, ...] = ()
    also_ours: tuple[str, ...] = ()


class _Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of Cal.com in one try. `timed`: with the time that AFTER_* triggers need on its own service."""

    triggers: frozenset[str] = SUBSCRIBABLE
    timed: bool = True


async def register(api: CalComApi, owner: WebhookOwner, ourselves: Ourselves, *, url: str, secret: str) -> Registration:
    """The owner's webhook to `url` is there, active, signed with `secret`, untemplated, for all triggers it may have.

    Run again, it changes nothing. Raises CalComRejected where Cal.com refuses for another reason than triggers.
    """
    existing, also_ours = await _find(api, owner, ourselves, url)
    terms = _Terms()
    for tries_left in reversed(range(TRIES_MAX)):
        fields = _changes(existing, terms, url=url, secret=secret)
        if existing is not None and not fields:
            return _registration("unchanged", existing, also_ours)
        try:
            if existing is None:
                return _registration("created", await api.create_webhook(owner, fields), also_ours)
            updated = await api.update_webhook(owner, str(existing.id), fields)
            return _registration("updated", updated, also_ours, changed=tuple(fields))
        except CalComRejected as error:
            if error.status == HTTPStatus.CONFLICT and existing is None:
                existing, also_ours = await _find(api, owner, ourselves, url)
                lesser = terms if existing else None
            else:
                lesser = _lesser(terms, error.sentences) if error.status in VALIDATION_FAILED else None
            if lesser is None or not tries_left:
                raise
            terms = lesser
    raise AssertionError("the last try returns or raises")


async def delete(
    api: CalComApi, owner: WebhookOwner, ourselves: Ourselves, webhook_id: str, *, force: bool = False
) -> Webhook:
    """The webhook is gone from Cal.com; what it was. Raises NotFound, ForeignWebhook."""
    found = next((one for one in await api.list_webhooks(owner) if str(one.id) == webhook_id), None)
    if found is None:
        raise NotFound(f"webhook {webhook_id} there")
    if not force and not ourselves.own(found.subscriber_url):
        raise ForeignWebhook(webhook_id, found.subscriber_url)
    await api.delete_webhook(owner, webhook_id)
    return found


async def _find(
    api: CalComApi, owner: WebhookOwner, ourselves: Ourselves, url: str
) -> tuple[Webhook | None, tuple[str, ...]]:
    """The webhook that leads to exactly this URL, and the ids of others that are ours as well."""
    webhooks = await api.list_webhooks(owner)
    existing = next((webhook for webhook in webhooks if same_address(webhook.subscriber_url, url)), None)
    others = [webhook for webhook in webhooks if webhook is not existing and ourselves.own(webhook.subscriber_url)]
    return existing, tuple(str(webhook.id) for webhook in others)


def _changes(existing: Webhook | None, terms: _Terms, *, url: str, secret: str) -> dict[str, object]:
    """The fields to send; none where everything is as it should be. Triggers that it has besides ours it keeps."""
    had = frozenset(existing.triggers if existing else ())
    fields: dict[str, object] = {}
    if existing is None:
        fields |= {"subscriberUrl": url, "active": True, "secret": secret}
    else:
        fields |= {} if existing.active else {"active": True}
        fields |= {} if existing.secret == secret else {"secret": secret}
        fields |= {"payloadTemplate": None} if existing.payload_template else {}
    if not terms.triggers <= had:
        wanted = terms.triggers | had
        fields["triggers"] = sorted(wanted)
        if terms.timed and any(name.startswith(TIMED_PREFIX) for name in wanted):
            fields["time"] = (existing.time if existing else None) or TIME_DEFAULT
            fields["timeUnit"] = (existing.time_unit if existing else None) or TIME_UNIT_DEFAULT
    return fields


def _lesser(terms: _Terms, sentences: Sequence[str]) -> _Terms | None:
    """What may be accepted after this refusal; None: triggers are not what it is about, or nothing is left."""
    triggers = terms.triggers
    for sentence in sentences:
        named = KNOWN_TRIGGERS & set(_NAME.findall(sentence))
        lists_what_is_accepted = "values:" in sentence
        fewer = triggers & named if lists_what_is_accepted else triggers - named
        if named and fewer and fewer != triggers:
            return msgspec.structs.replace(terms, triggers=fewer)
    if any(_TIME.search(sentence) for sentence in sentences):
        if terms.timed:
            return msgspec.structs.replace(terms, timed=False)
        untimed = frozenset(name for name in triggers if not name.startswith(TIMED_PREFIX))
        return msgspec.structs.replace(terms, triggers=untimed) if untimed != triggers else None
    if any(name in sentence for name in OTHER_FIELDS for sentence in sentences):
        return None
    fewer = next((rung for rung in FALLBACKS if rung < triggers), frozenset())
    return msgspec.structs.replace(terms, triggers=fewer) if fewer else None


def _registration(
    action: Literal["created", "updated", "unchanged"],
    webhook: Webhook,
    also_ours: tuple[str, ...],
    *,
    changed: tuple[str, ...] = (),
) -> Registration:
    return Registration(
        action=action,
        id=str(webhook.id),
        url=webhook.subscriber_url,
        triggers=tuple(sorted(webhook.triggers)),
        left_out=tuple(sorted(SUBSCRIBABLE - set(webhook.triggers))),
        changed=changed,
        also_ours=also_ours,
    )
