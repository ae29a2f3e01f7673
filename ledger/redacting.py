"""What is left of a body's facts without the persons erased. Pure.

Free text goes whole where it mentions them, since half a sentence may still tell of somebody. Persons go by a
pseudonym, the same in all of a ledger, that nobody can make of an address without the ledger's key.
"""

import hmac
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from ledger.calcom.observation import ObservedBooking
from ledger.facts import AnyFact, Dated, Details, Kept, Observed, Person, Redacted
from ledger.persons import Mentions, Traits, addresses_in, normal_address
from ledger.readings import Reading
from ledger.redaction import Redaction, keep
from ledger.store import Ledger
from ledger.vocabulary import StreamId

PSEUDONYM_PREFIX: Final = "erased-"
PSEUDONYM_DIGITS: Final = 16
NAMES_OF_BOOKINGS: Final = frozenset(
    {"by_uid", "moved_to_uid", "rescheduled_to", "status", "previous_uid", "event_type_number"}
)
"""Fields that tell bookings apart, and nobody."""

F = TypeVar("F", bound=AnyFact)


def person_tag(ledger: Ledger, email: str) -> bytes:
    """By which an erasure knows a person; tells nothing to whoever does not have the ledger's key."""
    return hmac.digest(ledger.event_id_key, b"person:" + normal_address(email).encode(), "sha256")


def pseudonym(tag: bytes) -> str:
    return PSEUDONYM_PREFIX + tag.hex()[:PSEUDONYM_DIGITS]


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """Persons to be taken out: the pseudonym for each address, and what of a text would tell of them."""

    pseudonyms: Mapping[str, str]
    mentions: Mentions

    @classmethod
    def of(cls, tags: Mapping[str, bytes], traits: Traits) -> "Erased":
        return cls(pseudonyms={email: pseudonym(tag) for email, tag in tags.items()}, mentions=Mentions(tags, traits))


def redact_fact(fact: F, erased: Erased) -> F:
    """The same fact, without them.

    Cal.com's API does not tell a booker's notes from a description: it goes where the booker may be one of them.
    """
    changed = {name: _redacted(name, getattr(fact, name), erased) for name in fact.__struct_fields__}
    people = fact.details.attendees
    if isinstance(fact, Observed) and people and people[0].email in erased.pseudonyms:
        changed["details"] = msgspec.structs.replace(changed["details"], description=None)
    return msgspec.structs.replace(fact, **changed)


def _redacted(name: str, value: Any, erased: Erased) -> Any:  # noqa: ANN401  # a field's value can be anything
    match value:
        case Details():
            return _redact_details(value, erased)
        case str():
            return None if name not in NAMES_OF_BOOKINGS and value in erased.mentions else value
        case tuple():
            return tuple([erased.pseudonyms.get(email, email) for email in value])
        case dict():
            return {erased.pseudonyms.get(email, email): mark for email, mark in value.items()}
        case _:
            return value


def _redact_details(details: Details, erased: Erased) -> Details:
    changed = {
        name: None
        for name in details.__struct_fields__
        if isinstance(text := getattr(details, name), str) and name not in NAMES_OF_BOOKINGS and text in erased.mentions
    }
    people = None if details.attendees is None else tuple([_redact_person(one, erased) for one in details.attendees])
    return msgspec.structs.replace(
        details, **changed, attendees=people, metadata=_redact_metadata(details.metadata, erased)
    )


def _redact_person(person: Person, erased: Erased) -> Person:
    known_as = erased.pseudonyms.get(person.email)
    return person if known_as is None else Person(email=known_as)


def _redact_metadata(metadata: dict[str, str] | None, erased: Erased) -> dict[str, str] | None:
    if metadata is None:
        return None
    return {
        key: text for key, text in metadata.items() if key not in erased.mentions and text not in erased.mentions
    } or None


def redact_row(row: ObservedBooking, erased: Erased) -> ObservedBooking:
    """A booking as Cal.com's API shows it, without them."""

    def is_other(email: str | None, other: str | None) -> bool:
        return not any(form is not None and normal_address(form) in erased.pseudonyms for form in (email, other))

    changed = {
        name: None
        for name in ("title", "description", "location", "meeting_url", "cancellation_reason", "cancelled_by_email")
        if isinstance(text := getattr(row, name), str) and text in erased.mentions
    }
    if row.attendees and not is_other(row.attendees[0].email, row.attendees[0].display_email):
        changed["description"] = None
    metadata = {
        key: text
        for key, text in (row.metadata or {}).items()
        if key not in erased.mentions and not (isinstance(text, str) and text in erased.mentions)
    }
    return msgspec.structs.replace(
        row,
        **changed,
        attendees=[one for one in row.attendees if is_other(one.email, one.display_email)],
        hosts=[one for one in row.hosts if is_other(one.email, one.display_email)],
        metadata=metadata or None,
    )


def persons_in(fact: AnyFact) -> set[str]:
    """The addresses of those who come to the booking, or came: not the host's."""
    found = {person.email for person in fact.details.attendees or ()}
    found.update(getattr(fact, "emails", ()))
    found.update(getattr(fact, "absent", ()))
    host = fact.details.host_email
    return {email for email in found if not _is_pseudonym(email) and email != host}


def redact_stream(
    stream_id: StreamId,
    readings: Sequence[Reading],
    erased: Erased,
    *,
    gone: Collection[StreamId],
    covers: int,
) -> Redaction:
    """What stands for a stream's events from now on: all they said, without the persons, nothing of `gone` bookings.

    `readings` are what stood until now. A stream that is one of those gone says nothing more of itself.
    """
    told = [(about, dated) for reading in readings for about, dated in reading.facts if about not in gone]
    is_gone = stream_id in gone
    earlier = [name for reading in readings if reading.redacted is not None for name in reading.redacted.pseudonyms]
    kept = redacted_facts(told, erased)
    named = {name for one in kept for name in _pseudonyms_in(one.fact)}
    return Redaction(
        redacted=Redacted(
            pseudonyms=tuple(sorted({*earlier, *erased.pseudonyms.values()} & named)),
            gone=is_gone,
            covers=covers,
            kept=kept,
        ),
        chain=(stream_id,) if is_gone else _each((stream_id,), *(reading.chain for reading in readings)),
        glances=() if is_gone else _each(*(reading.glances for reading in readings)),
    )


def redacted_facts(told: Iterable[tuple[StreamId, Dated]], erased: Erased) -> tuple[Kept, ...]:
    """The facts without the persons; one that names them even so, in the name of a booking say, is left out."""
    facts = keep(
        (about, msgspec.structs.replace(dated, fact=redact_fact(dated.fact, erased)))
        for about, dated in told
        if not isinstance(dated.fact, Redacted)
    )
    return tuple([one for one in facts if erased.pseudonyms.keys().isdisjoint(addresses_in(msgspec.json.encode(one)))])


def _pseudonyms_in(fact: AnyFact) -> set[str]:
    people = {person.email for person in fact.details.attendees or ()}
    found = people.union(getattr(fact, "emails", ()), getattr(fact, "absent", ()))
    return {email for email in found if _is_pseudonym(email)}


def _each(*streams: Iterable[StreamId]) -> tuple[StreamId, ...]:
    """Each once, in order."""
    return tuple(dict.fromkeys(one for some in streams for one in some))


def _is_pseudonym(email: str) -> bool:
    """An address has an @."""
    return email.startswith(PSEUDONYM_PREFIX) and "@" not in email
