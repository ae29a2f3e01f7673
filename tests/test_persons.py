"""Who is named in a body: addresses however they are written, and by what else a person is known."""

import json
import time

import pytest

from ledger.persons import Mentions, Traits, addresses_in, booker_of, traits_of

ANN = "ann@example.com"


@pytest.mark.parametrize(
    "body",
    [
        b'{"email":"ann@example.com"}',
        b'{"email":"Ann@Example.COM"}',
        b'{"email":"ann\\u0040example.com"}',
        b'{"email":"\\u0061nn@example.com"}',
        b'{"notes":"write to ann@example.com."}',
        b'{"notes":"write to <ann@example.com>, please"}',
        b'{"notes":"mailto:ann@example.com?subject=x"}',
        b'{"link":"https://cal.com/reschedule?email=ann@example.com&x=1"}',
        b'{"link":"https://cal.com/reschedule?email=ann%40example.com"}',
        b'{"notes":"first line\\nann@example.com\\nlast"}',
        b'{"guests":["bob@example.com","ann@example.com"]}',
        b"ann@example.com",
        b'{"email":"ann@example.com',
        b'\xff{"email":"ann@example.com"}',
    ],
)
def test_an_address_is_found_however_it_is_written(body: bytes) -> None:
    assert ANN in addresses_in(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"email":"joann@example.com"}',
        b'{"email":"ann@example.com.au"}',
        b'{"email":"ann@example.co"}',
        b'{"email":"mary.ann@example.com"}',
        b'{"email":"ann@xexample.com"}',
        b'{"notes":"ann at example.com"}',
        b"false",
    ],
)
def test_another_address_is_another_person(body: bytes) -> None:
    assert ANN not in addresses_in(body)


def test_what_is_rare_in_an_address_belongs_to_it() -> None:
    assert "o'brien@example.com" in addresses_in(b'{"email":"O\'Brien@example.com"}')
    assert "o'brien@example.com" in addresses_in(b'{"notes":"ask O\'Brien@example.com"}')
    assert "zoë@exämple.com" in addresses_in('{"email":"Zoë@Exämple.com"}'.encode())


@pytest.mark.parametrize("text", ["a" * 1_000_000 + " x@y.z", "@" * 500_000, "a@" * 300_000, "\\u0040" * 100_000])
def test_no_body_takes_long_to_look_through(text: str) -> None:
    begun = time.perf_counter()
    addresses_in(f'{{"notes":"{text}"}}'.encode())
    assert time.perf_counter() - begun < 10


def test_names_numbers_and_notes_are_told_beside_the_address() -> None:
    body = {
        "payload": {
            "organizer": {"email": "host@example.com", "name": "Hosta"},
            "attendees": [
                {"email": "Ann@example.com", "name": "Ann Onymous", "phoneNumber": "+49 30 1234567"},
                {"email": "bob@example.com", "name": "Bob", "phoneNumber": "+49 30 7654321"},
            ],
            "responses": {
                "email": {"value": "ann@example.com"},
                "name": {"value": {"firstName": "Annette", "lastName": "Onymous"}},
                "notes": {"value": "Limps a little"},
            },
        }
    }
    traits = traits_of(json.dumps(body).encode(), {ANN})
    assert traits.names == {"ann onymous", "annette onymous"}
    assert traits.phones == {"49301234567"}
    assert traits.notes == {"Limps a little"}
    assert booker_of(body) == ANN
    assert traits_of(json.dumps(body).encode(), {"bob@example.com"}).notes == set()
    assert traits_of(b"no json", {ANN}) == Traits()


def test_a_text_mentions_somebody_by_whole_words_only() -> None:
    mentions = Mentions([ANN], Traits(names={"ann"}, phones={"49301234567"}, notes={"Limps a little"}))
    for text in ("Bath with Ann", "ANN!", "call +49 (30) 123 45 67", "she limps a little", "to ann@example.com"):
        assert text in mentions, text
    for text in ("Annual check", "to joann@example.com", "call 030 1234", "limps"):
        assert text not in mentions, text
