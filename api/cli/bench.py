"""`booking-ledger bench`: how fast, beside its peers, in one run."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from api.bench.works import WORKS
from api.cli.context import json_option, print_json, progress_bar
from ledger.errors import BookingLedgerError

if TYPE_CHECKING:
    from api.bench.plan import Plan
    from api.bench.rounds import Comparison

NODE_MODULES = Path("node_modules")


class BenchCommand(click.Command):
    """A command whose help tells of each work."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's
        with formatter.section("Works"):
            formatter.write_dl([(name, work.about) for name, work in WORKS.items()])


@click.command(cls=BenchCommand)
@click.argument("works", nargs=-1, type=click.Choice(list(WORKS)), metavar="[WORK]...")
@click.option("--quick", is_flag=True, help="Fewer rounds on less data; under two minutes.")
@click.option("--events", type=click.IntRange(1), help="The longest log; every power of ten from 10,000 up to it, too.")
@click.option("--rounds", type=click.IntRange(1), help="So many turns for everybody.")
@click.option(
    "--node-modules",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where npm has put packages of those we are measured against.  [default: ./node_modules]",
)
@click.option("--svg", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Draw the ratios, too.")
@json_option
def bench(
    *,
    works: tuple[str, ...],
    quick: bool,
    events: int | None,
    rounds: int | None,
    node_modules: Path | None,
    svg: Path | None,
    as_json: bool,
) -> None:
    """How fast, beside its peers, in one run.

    Every contender has its turn once a round; medians, and the ratio of ours to each. All works unless some are named.
    What needs a database gets a throwaway one, as durable as a real one: install booking-ledger[bench]. Without --quick
    this takes many minutes; nothing else should run on the machine meanwhile.
    """
    from api.bench.machine import machine_told, this_machine
    from api.bench.quiet import keep_quiet

    keep_quiet()
    machine = this_machine()
    if not as_json:
        click.echo(f"{machine_told(machine)}\n")
    plan = _plan(quick=quick, events=events, rounds=rounds, node_modules=node_modules)
    compared, failed = _run(works or tuple(WORKS), plan, as_json=as_json)
    if svg is not None:
        from api.bench.pictures import picture

        svg.write_text(picture(compared, machine_told(machine)), encoding="utf-8")
    if as_json:
        print_json({"machine": machine, "comparisons": compared})
    for name, error in failed:
        click.echo(f"booking-ledger: {name} could not be measured: {error}", err=True)
    sys.exit(1 if failed else 0)


def _plan(*, quick: bool, events: int | None, rounds: int | None, node_modules: Path | None) -> "Plan":
    from api.bench.plan import QUICK, Plan, sizes_up_to

    plan = QUICK if quick else Plan()
    if events is not None:
        plan = msgspec.structs.replace(plan, sizes=sizes_up_to(events))
    if rounds is not None:
        plan = msgspec.structs.replace(plan, rounds=rounds, rounds_heavy=rounds)
    found = node_modules or (NODE_MODULES if NODE_MODULES.is_dir() else None)
    return msgspec.structs.replace(plan, node_modules=found)


def _run(
    names: tuple[str, ...], plan: "Plan", *, as_json: bool
) -> "tuple[list[Comparison], list[tuple[str, Exception]]]":
    """What was measured, in the order of `WORKS`, and which works failed: the others need not be done again."""
    from api.bench.plan import Bench
    from api.bench.telling import print_comparisons

    compared: list[Comparison] = []
    failed: list[tuple[str, Exception]] = []
    with Bench(plan, progress_bar) as running:
        for name in (name for name in WORKS if name in names):
            try:
                told = WORKS[name].load()(running)
            except (BookingLedgerError, subprocess.SubprocessError) as error:
                failed.append((name, error))
                continue
            compared += [msgspec.structs.replace(one, work=name) for one in told]
            if not as_json:
                print_comparisons(told)
    return compared, failed
