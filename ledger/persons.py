"""Who is named in a body: e-mail addresses wherever they stand, and what a body says of the person behind one. Pure.

An address is looked for in the bytes, not in the fields we know, since people write them into notes, answers and links,
and Cal.com adds fields. JSON may write any character as an escape, and a link may write the @ as %40; both are undone.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from ledger.calcom.payloads import Unreadable, read_json

# Each begins where a word does, so that a long text is gone through once.
WHOLE_ADDRESS = re.compile(r"""(?<![^\s"'<>()\[\]\\,;:=/?&@])[^\s"'<>()\[\]\\,;:=/?&@]++@[^\s"'<>()\[\]\\,;:=/?&@]++""")
WIDE_ADDRESS = re.compile(r"""(?<![^\s"<>()\[\]\\,;:@])[^\s"<>()\[\]\\,;:@]++@[^\s"'<>()\[\]\\,;:=/?&@]++""")
"""The same with what is rare in an address and common around one: o'brien@example.com, ?email=ann@example.com."""
PLAIN_ADDRESS = re.compile(rb"[A-Za-z0-9._+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))")
END_OF_A_SENTENCE: Final = ".!"

NAME_KEYS: Final = ("name", "fullname", "displayname", "attendeename", "bookername", "guestname")
FIRST_NAME_KEYS: Final = ("firstname", "givenname")
LAST_NAME_KEYS: Final = ("lastname", "surname", "familyname")
PHONE_KEYS: Final = ("phone", "phonenumber", "attendeephonenumber", "smsremindernumber", "mobile", "tel")
NOTE_KEYS: Final = ("notes", "additionalnotes")
NAME_CHARACTERS_MIN: Final = 2
PHONE_DIGITS_MIN: Final = 6
NOTE_CHARACTERS_MIN: Final = 4
_PLAIN: Final = str.maketrans("", "", "_- ")


class Traits(msgspec.Struct, kw_only=True):
    """By what else persons are known, as bodies tell it: names in lower case, digits of telephone numbers, notes."""

    names: set[str] = set()
    phones: set[str] = set()
    notes: set[str] = set()

    def add(self, other: "Traits") -> None:
        self.names |= other.names
        self.phones |= other.phones
        self.notes |= other.notes


def normal_address(email: str) -> str:
    """As addresses are compared."""
    return email.strip().lower()


def addresses_in(body: bytes) -> set[str]:
    """Every address that the body names, in lower case, however it is written; and some that are none."""
    return {address for piece in pieces_of(body) for address in addresses_in_piece(piece)}


def pieces_of(body: bytes) -> list[bytes]:
    """The pieces of the body that may name somebody: what stands between two quotation marks around an @."""
    # One byte is looked for much faster than several, and these two are seldom there.
    if (b"\\" in body and b"\\u0040" in body) or (b"%" in body and b"%40" in body):
        return [body]
    found = []
    at = body.find(b"@")
    while at >= 0:
        end = body.find(b'"', at)
        if end < 0:
            end = len(body)
        found.append(body[body.rfind(b'"', 0, at) + 1 : end])
        at = body.find(b"@", end)
    return found


def addresses_in_piece(piece: bytes) -> set[str]:
    """Those that a piece names; most pieces are nothing but one."""
    if PLAIN_ADDRESS.fullmatch(piece):
        return {piece.decode().lower()}
    text = piece.decode("utf-8", "replace")
    return addresses_in_text(ESCAPE.sub(_unescaped, text) if "\\" in text else text)


def addresses_in_text(text: str) -> set[str]:
    lowered = text.lower()
    if "%40" in lowered:
        lowered += " " + unquote(lowered)
    found: set[str] = set()
    if "@" in lowered:
        for pattern in (WHOLE_ADDRESS, WIDE_ADDRESS):
            found.update([one.rstrip(END_OF_A_SENTENCE) for one in pattern.findall(lowered)])
    return found


def _unescaped(escape: re.Match[str]) -> str:
    code, character = escape.groups()
    if code is not None:
        return chr(int(code, 16))
    return " " if character in "bfnrt" else f"\\{character}" if character in '"\\' else character


def traits_of(body: bytes, emails: Collection[str]) -> Traits:
    """What a body says of the persons behind these addresses; nothing where it is no JSON."""
    traits = Traits()
    try:
        value = read_json(body)
    except Unreadable:
        return traits
    notes = Traits()
    is_theirs = False
    for mapping in _mappings(value):
        answers = {_key(key): _answer(answer) for key, answer in mapping.items()}
        texts = {key: answer.strip() for key, answer in answers.items() if isinstance(answer, str) and answer.strip()}
        notes.notes.update(texts[key] for key in NOTE_KEYS if len(texts.get(key, "")) >= NOTE_CHARACTERS_MIN)
        if any(normal_address(text) in emails for text in texts.values()):
            traits.add(_told(texts, mapping))
            is_theirs = is_theirs or "name" in texts or "email" in texts
    if is_theirs and booker_of(value) in emails:
        traits.add(notes)
    return traits


def _told(texts: Mapping[str, str], mapping: Mapping[str, Any]) -> Traits:
    """The names and numbers beside an address. An organiser's object names the organiser alone."""
    names = {texts[key] for key in NAME_KEYS if key in texts}
    first = [texts[key] for key in FIRST_NAME_KEYS if key in texts]
    last = [texts[key] for key in LAST_NAME_KEYS if key in texts]
    names |= {f"{one} {other}" for one in first for other in last}
    named = next((answer for key, answer in mapping.items() if _key(key) == "name"), None)
    parts = named.get("value", named) if isinstance(named, dict) else None
    if isinstance(parts, dict):  # a form that asks for first and last name
        names.add(" ".join(part.strip() for part in parts.values() if isinstance(part, str)).strip())
    phones = {_digits(texts[key]) for key in PHONE_KEYS if key in texts}
    return Traits(
        names={name.lower() for name in names if len(name) >= NAME_CHARACTERS_MIN and "@" not in name},
        phones={phone for phone in phones if len(phone) >= PHONE_DIGITS_MIN},
    )


def booker_of(value: object) -> str | None:
    """The address of who filled in the form: that of the answers, else the first attendee's."""
    mappings = list(_mappings(value))
    for key in ("responses", "bookingfieldsresponses", "userfieldsresponses"):
        for mapping in mappings:
            answers = next((part for name, part in mapping.items() if _key(name) == key), None)
            email = _answer(answers.get("email")) if isinstance(answers, dict) else None
            if isinstance(email, str) and email:
                return normal_address(email)
    for mapping in mappings:
        attendees = mapping.get("attendees")
        if isinstance(attendees, list) and attendees and not mapping.get("seatsPerTimeSlot"):
            first = attendees[0]
            email = first.get("email") if isinstance(first, dict) else first
            return normal_address(email) if isinstance(email, str) else None
    return None


def _mappings(value: object) -> Iterator[dict[str, Any]]:
    """Every object in a JSON value, the outer ones first."""
    waiting = [value]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, dict):
            yield one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def _key(name: str) -> str:
    return name.lower().translate(_PLAIN)


def _answer(value: object) -> object:
    """A form's answer, bare or as `{label, value}`."""
    return value.get("value") if isinstance(value, dict) and "value" in value else value


def _digits(text: str) -> str:
    return "".join(character for character in text if character.isdigit())


class Mentions:
    """Whether a text mentions persons: their addresses, their names as whole words, their numbers, or their notes."""

    def __init__(self, emails: Iterable[str], traits: Traits) -> None:
        self._emails = frozenset(emails)
        self._phones = tuple(traits.phones)
        self._notes = tuple(note.lower() for note in traits.notes)
        names = "|".join(re.escape(name) for name in sorted(traits.names, key=len, reverse=True))
        self._names = re.compile(rf"(?<!\w)(?:{names})(?!\w)") if names else None

    def __contains__(self, text: str) -> bool:
        lowered = text.lower()
        if self._names is not None and self._names.search(lowered):
            return True
        if self._phones:
            digits = _digits(lowered)
            if any(phone in digits for phone in self._phones):
                return True
        return any(note in lowered for note in self._notes) or not self._emails.isdisjoint(addresses_in_text(text))
