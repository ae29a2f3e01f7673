"""`booking-ledger bench`: how fast, beside its peers, in one run."""

from typing import TYPE_CHECKING

import click

from api.cli.context import json_option, print_json, progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from api.bench.rounds import Comparison, Contender

BOOKINGS = 20_000
BOOKINGS_QUICK = 4_000


@click.command()
@click.option("--quick", is_flag=True, help="Fewer rounds on less data; under two minutes.")
@json_option
def bench(*, quick: bool, as_json: bool) -> None:
    """How fast, beside its peers, in one run.

    Every contender runs once a round, in turns; medians, and the ratio of ours to each peer. Touches no database.
    """
    from api.bench.rounds import ROUNDS_DEFAULT, ROUNDS_QUICK, this_machine

    compared = _run(bookings=BOOKINGS_QUICK if quick else BOOKINGS, rounds=ROUNDS_QUICK if quick else ROUNDS_DEFAULT)
    if as_json:
        print_json({"machine": this_machine(), "comparisons": compared})
        return
    from api.cli.tables import print_comparisons

    machine = this_machine()
    click.echo(f"{machine.processor}, {machine.cores} cores, Python {machine.python}")
    print_comparisons(compared)


def _run(*, bookings: int, rounds: int) -> "list[Comparison]":
    from api.bench.folding import folding_bodies, folding_decoded

    works: Sequence[tuple[str, str, Callable[[], list[Contender]]]] = (
        ("folding decoded facts", "facts/s", lambda: folding_decoded(bookings=bookings)),
        ("decoding and folding bodies", "bodies/s", lambda: folding_bodies(bookings=bookings)),
    )
    return [_compare(title, unit, prepare(), rounds=rounds) for title, unit, prepare in works]


def _compare(title: str, unit: str, contenders: "list[Contender]", *, rounds: int) -> "Comparison":
    from api.bench.rounds import compare

    steps = rounds * len(contenders)
    done = iter(range(1, steps + 1))
    with progress_bar(title) as progress:
        return compare(title, unit, contenders, rounds=rounds, progress=lambda: progress(next(done), steps))
