"""`booking-ledger webhooks send-test` and `simulate`: made-up deliveries, signed with our secret.

Only to a receiver on this machine: what arrives is kept in its log for ever.
"""

import secrets
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click
import msgspec

from api.cli.context import json_option, print_json, progress_bar, read_settings
from api.webhook_paths import WEBHOOK_PATH
from ledger.errors import BadParameter, BadSetting, ReceiverUnreachable
from ledger.settings import Settings

if TYPE_CHECKING:
    from api.simulator.traffic import SimulatedDelivery

ANSWER_SECONDS_MAX = 30.0
ANSWER_CHARACTERS_MAX = 200
SEED_MAX = 2**31
FIRST_NOT_FINE = 300
EVERY_TRIGGER = "all"

receiver_option = click.option(
    "--url", metavar="URL", help=f"The receiver, on this machine; default: http://HOST:PORT{WEBHOOK_PATH}."
)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the receiver said to one delivery."""

    trigger: str
    status: int
    answer: str
    duration_ms: float


@click.command("send-test")
@receiver_option
@click.option("--trigger", default=EVERY_TRIGGER, show_default=True, metavar="NAME", help="One trigger, or all.")
@json_option
def send_test(*, url: str | None, trigger: str, as_json: bool) -> None:
    """Send one made-up delivery of each trigger to a receiver on this machine.

    Signed with the first secret of CAL_COM_WEBHOOK_SECRET; prints each answer. The receiver keeps them in its log for
    ever. Ends with 1 if any was not taken.
    """
    from api.simulator.each_trigger import one_of_each

    settings = read_settings()
    receiver = _receiver(settings, url)
    made = one_of_each(seed=secrets.randbelow(SEED_MAX), now=_now(), secret=_secret(settings))
    answers = []
    for answer in post(receiver, [made[name] for name in _chosen(trigger, tuple(made))]):
        answers.append(answer)
        if not as_json:
            click.echo(f"{answer.status}  {answer.duration_ms:6.1f} ms  {answer.trigger:<43} {answer.answer}")
    if as_json:
        print_json(answers)
    sys.exit(_exit_code(answers))


@click.command()
@receiver_option
@click.option("--bookings", default=100, show_default=True, type=click.IntRange(1, 1_000_000), help="At least so many.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="R", help="Deliveries a second; no limit.")
@click.option("--seed", type=click.IntRange(0), help="The same seed, the same people and trouble.")
@json_option
def simulate(*, url: str | None, bookings: int, rate: float | None, seed: int | None, as_json: bool) -> None:
    """Send whole made-up lifecycles to a receiver on this machine.

    Bookings made, moved, cancelled, paid, missed; some deliveries come late or twice, as Cal.com's do. The receiver
    keeps them in its log for ever. Ends with 1 if any was not taken.
    """
    from api.simulator.traffic import simulate as make_traffic

    settings = read_settings()
    receiver = _receiver(settings, url)
    seed = secrets.randbelow(SEED_MAX) if seed is None else seed
    deliveries = make_traffic(seed=seed, now=_now(), bookings=bookings, secret=_secret(settings))
    begun = time.monotonic()
    answers = []
    with progress_bar("posting webhooks") as progress:
        for answer in post(receiver, _at_rate(deliveries, rate)):
            answers.append(answer)
            progress(len(answers), len(deliveries))
    seconds = time.monotonic() - begun
    counts = {str(status): _count(answers, status) for status in sorted({answer.status for answer in answers})}
    if as_json:
        print_json({"sent": len(answers), "answers": counts, "seed": seed, "seconds": round(seconds, 3)})
    else:
        told = ", ".join(f"{count:,} answered {status}" for status, count in counts.items())
        click.echo(f"{len(answers):,} deliveries in {seconds:.1f} s: {told}. Again the same: --seed {seed}")
    sys.exit(_exit_code(answers))


def post(url: str, deliveries: "Iterable[SimulatedDelivery]") -> Iterator[Answer]:
    """Each is posted when it comes, one after the other, and its answer told. Raises ReceiverUnreachable."""
    import httpx

    with httpx.Client(timeout=ANSWER_SECONDS_MAX, trust_env=False) as client:
        for delivery in deliveries:
            begun = time.perf_counter()
            try:
                answered = client.post(url, content=delivery.body, headers=delivery.headers)
            except httpx.TransportError as error:
                raise ReceiverUnreachable(url, type(error).__name__) from error
            yield Answer(
                trigger=delivery.trigger or delivery.scenario,
                status=answered.status_code,
                answer=_short(answered.text),
                duration_ms=round((time.perf_counter() - begun) * 1000, 1),
            )


def printable(text: str) -> str:
    """Text that cannot speak to the terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _at_rate(deliveries: "Sequence[SimulatedDelivery]", rate: float | None) -> "Iterator[SimulatedDelivery]":
    """Each when it is due: a slow answer is caught up with."""
    begun = time.monotonic()
    for number, delivery in enumerate(deliveries):
        if rate is not None:
            time.sleep(max(0.0, begun + number / rate - time.monotonic()))
        yield delivery


def _receiver(settings: Settings, url: str | None) -> str:
    """The address to send to. Raises BadParameter for one on another machine."""
    from ledger.calcom.addresses import is_loopback, is_web_address

    if url is None:
        host = settings.host if settings.is_loopback else "127.0.0.1"
        url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}{WEBHOOK_PATH}"
    if not is_web_address(url) or not is_loopback(urlsplit(url).hostname or ""):
        raise BadParameter("--url", "leads to this machine only, such as http://127.0.0.1:8000/api/webhooks/cal-com")
    return url


def _secret(settings: Settings) -> bytes:
    if not settings.webhook_secrets:
        raise BadSetting("CAL_COM_WEBHOOK_SECRET", "must be set to the receiver's secret")
    return settings.webhook_secrets[0].reveal()


def _chosen(trigger: str, known: Sequence[str]) -> Sequence[str]:
    from ledger.calcom.triggers import canonical_trigger

    if trigger.lower() == EVERY_TRIGGER:
        return known
    if canonical_trigger(trigger) not in known:
        raise BadParameter("--trigger", f"is all or one of {', '.join(known)}")
    return (canonical_trigger(trigger),)


def _now() -> datetime:
    """Whole milliseconds, as Cal.com writes them."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _short(text: str) -> str:
    plain = printable(text)
    return plain if len(plain) <= ANSWER_CHARACTERS_MAX else plain[: ANSWER_CHARACTERS_MAX - 1] + "…"


def _count(answers: Sequence[Answer], status: int) -> int:
    return sum(answer.status == status for answer in answers)


def _exit_code(answers: Sequence[Answer]) -> int:
    return 1 if any(answer.status >= FIRST_NOT_FINE for answer in answers) else 0
