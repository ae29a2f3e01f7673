"""The `booking-ledger` command: its subcommands, loaded only when asked for, so that the light ones start at once."""

import importlib
import sys
from typing import Final, NamedTuple

import click

from ledger.errors import BookingLedgerError

EXIT_WRONG_USE: Final = 2


class Subcommand(NamedTuple):
    """Where a subcommand lives, and its line in `booking-ledger --help`."""

    place: str
    summary: str


SUBCOMMANDS: Final = {
    "demo": Subcommand("api.cli.demo:demo", "See it work: made-up Cal.com traffic into a throwaway database."),
    "serve": Subcommand("api.cli.serve:serve", "Receive webhooks, keep the read models current, answer queries."),
    "worker": Subcommand("api.cli.worker:worker", "Keep the read models current, in a process of its own."),
    "projections": Subcommand("api.cli.projections:projections", "Read models: how current; rebuild, pause, retry."),
    "migrate": Subcommand("api.cli.migrate:migrate", "Bring the database's schema up to this release."),
    "doctor": Subcommand("api.cli.doctor:doctor", "Say in one line each what is wrong here and what to do."),
    "webhooks": Subcommand(
        "api.cli.webhooks:webhooks",
        "Our webhook at Cal.com: register, list, delete; made-up deliveries: send-test, simulate.",
    ),
    "bookings": Subcommand("api.cli.bookings:bookings", "Bookings: list, show, history, suggestions, link."),
    "reconcile": Subcommand(
        "api.cli.reconcile:reconcile", "Ask Cal.com's API what it knows; tell the log what differs."
    ),
    "bench": Subcommand("api.cli.bench:bench", "How fast, beside its peers, in one run."),
    "events": Subcommand("api.cli.events:events", "The log itself, as JSON lines: export, tail."),
    "keys": Subcommand("api.cli.keys:keys", "Keys for programs that ask over HTTP: create, list, revoke."),
    "users": Subcommand("api.cli.users:users", "People who sign in: create, list, disable, enable, password."),
    "roles": Subcommand("api.cli.roles:roles", "PostgreSQL roles with no more rights than each needs: create, url."),
    "verify": Subcommand("api.cli.verify:verify", "Prove that the log was not changed: recompute its hash chain."),
    "checkpoints": Subcommand("api.cli.checkpoints:checkpoints", "What the log is now, signed: keygen, create."),
    "erase": Subcommand("api.cli.erase:erase", "Forget a person, everywhere."),
    "sealing": Subcommand("api.cli.sealing:sealing", "Root keys of the bodies: status, rewrap, new-key."),
    "proof": Subcommand("api.cli.proof:proof", "Prove to others what the log held of a booking."),
    "verify-proof": Subcommand("api.cli.proof:verify_proof", "Check such a proof, without any database."),
}


class LazyGroup(click.Group):
    """A group whose help needs no subcommand's module."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's
        if cmd_name not in SUBCOMMANDS:
            return None
        module, _, name = SUBCOMMANDS[cmd_name].place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's
        with formatter.section("Commands"):
            formatter.write_dl([(name, subcommand.summary) for name, subcommand in SUBCOMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Settings come from the environment (DATABASE_URL, CAL_COM_WEBHOOK_SECRET, PORT, …); "
    "without DATABASE_URL an embedded PostgreSQL is used. "
    "Exit codes: 0 fine, 1 a problem was found, 2 wrong use or wrong settings.",
)
@click.version_option(package_name="booking-ledger", message="%(version)s")
def cli() -> None:
    """Your Cal.com bookings, in your own Postgres, with their whole history."""


def main() -> None:
    """Run the command line; an error of ours is one sentence on standard error, never a traceback."""
    try:
        cli()
    except BookingLedgerError as error:
        click.echo(f"booking-ledger: {error}", err=True)
        sys.exit(EXIT_WRONG_USE)
