"""`booking-ledger webhooks`: our webhook at Cal.com, made-up deliveries for a receiver here, stored ones read again."""

import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal, TypeVar

import click
import msgspec

from api.cli.context import json_option, print_json, read_settings
from api.cli.practice import printable, send_test, simulate
from api.cli.replay import replay
from api.webhook_paths import WEBHOOK_PATH, WEBHOOK_PATHS
from ledger.errors import BadSetting
from ledger.settings import Settings

if TYPE_CHECKING:
    from ledger.calcom.addresses import Ourselves
    from ledger.calcom.answers import Webhook
    from ledger.calcom.api import CalComApi, WebhookOwner
    from ledger.calcom.subscriptions import Registration

Result = TypeVar("Result")
SigningSecret = Literal["our secret", "another secret", "no secret"]

url_option = click.option("--url", metavar="URL", help=f"Our address for webhooks; default: PUBLIC_URL{WEBHOOK_PATH}.")


def read_team_event_type(
    _context: click.Context, _option: click.Parameter, value: str | None
) -> tuple[int, int] | None:
    """`12/345`: the numbers of the team and of its event type."""
    if value is None:
        return None
    team, _, event_type = value.partition("/")
    if not (team.isdecimal() and event_type.isdecimal()):
        raise click.BadParameter(f"{value!r} is not two numbers with a slash between them, such as 12/345.")
    return int(team), int(event_type)


def with_owner(command: Callable[..., None]) -> Callable[..., None]:
    """The command is called with `owner`, whose webhooks it is about; `_owner` tells the options."""

    @functools.wraps(command)
    def called(
        *,
        event_type: int | None,
        team_event_type: tuple[int, int] | None,
        organization: int | None,
        **others: object,
    ) -> None:
        command(owner=_owner(event_type, team_event_type, organization), **others)

    for option in (
        click.option("--organization", type=click.IntRange(1), metavar="ID", help="Those of an organization."),
        click.option(
            "--team-event-type",
            callback=read_team_event_type,
            metavar="TEAM/ID",
            help="Those of one event type of a team.",
        ),
        click.option("--event-type", type=click.IntRange(1), metavar="ID", help="Those of one event type."),
    ):
        option(called)
    return called


@click.group()
def webhooks() -> None:
    """Our webhook at Cal.com, made-up deliveries, and stored ones read again."""


webhooks.add_command(send_test)
webhooks.add_command(simulate)
webhooks.add_command(replay)


@webhooks.command()
@url_option
@with_owner
@click.option("--force", is_flag=True, help="Also an address that Cal.com may not reach, or should not.")
@json_option
def register(*, owner: "WebhookOwner", url: str | None, force: bool, as_json: bool) -> None:
    """Make or bring up to date our webhook at Cal.com.

    With the first secret of CAL_COM_WEBHOOK_SECRET, active, without a template, and with every trigger that the account
    accepts. Run again, it changes nothing. Webhooks that do not lead to us are left alone. Wants CAL_COM_API_KEY.
    """

    async def work(api: "CalComApi", settings: Settings) -> "Registration":
        from ledger.calcom.addresses import refuse_unsafe
        from ledger.calcom.subscriptions import register as register_webhook

        ours = _ourselves(settings, url)
        if ours.url is None:
            raise BadSetting("PUBLIC_URL", f"must be set, or --url given: where Cal.com reaches {WEBHOOK_PATH}")
        if not settings.webhook_secrets:
            raise BadSetting("CAL_COM_WEBHOOK_SECRET", "must be set: Cal.com will sign with it")
        if not force:
            refuse_unsafe(ours.url, api_url=settings.cal_com_api_url)
        secret = settings.webhook_secrets[0].reveal_text()
        return await register_webhook(api, owner, ours, url=ours.url, secret=secret)

    registered = _with_api(work)
    if as_json:
        print_json(registered)
    else:
        _tell_registration(registered)


@webhooks.command("list")
@url_option
@with_owner
@json_option
def list_command(*, owner: "WebhookOwner", url: str | None, as_json: bool) -> None:
    """The webhooks that Cal.com has, and which of them are ours."""

    async def work(api: "CalComApi", settings: Settings) -> "list[ListedWebhook]":
        ours = _ourselves(settings, url)
        return [_listed(webhook, ours, settings) for webhook in await api.list_webhooks(owner)]

    found = _with_api(work)
    if as_json:
        print_json(found)
        return
    for webhook in found:
        state = "active" if webhook.active else "inactive"
        template = ", with a template" if webhook.has_template else ""
        click.echo(
            f"{'ours ' if webhook.ours else 'other'}  {webhook.id}  {state}, {len(webhook.triggers)} triggers, "
            f"{webhook.signed_with}{template}  {printable(webhook.url)}"
        )
    if not found:
        click.echo("No webhooks.")


@webhooks.command()
@click.argument("webhook_id", metavar="ID")
@url_option
@with_owner
@click.option("--force", is_flag=True, help="Also one that does not lead to us.")
@json_option
def delete(*, webhook_id: str, owner: "WebhookOwner", url: str | None, force: bool, as_json: bool) -> None:
    """Take away one of our webhooks at Cal.com. What it delivered stays in the log."""

    async def work(api: "CalComApi", settings: Settings) -> "ListedWebhook":
        from ledger.calcom.subscriptions import delete as delete_webhook

        ours = _ourselves(settings, url)
        return _listed(await delete_webhook(api, owner, ours, webhook_id, force=force), ours, settings)

    gone = _with_api(work)
    if as_json:
        print_json(gone)
    else:
        click.echo(f"Deleted {gone.id}, which led to {printable(gone.url)}.")


class ListedWebhook(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook without its secret: of that only whose it is."""

    id: str
    url: str
    ours: bool
    active: bool
    triggers: tuple[str, ...]
    signed_with: SigningSecret
    has_template: bool


def _listed(webhook: "Webhook", ours: "Ourselves", settings: Settings) -> ListedWebhook:
    return ListedWebhook(
        id=str(webhook.id),
        url=webhook.subscriber_url,
        ours=ours.own(webhook.subscriber_url),
        active=webhook.active,
        triggers=webhook.triggers,
        signed_with=_whose_secret(webhook, settings),
        has_template=bool(webhook.payload_template),
    )


def _whose_secret(webhook: "Webhook", settings: Settings) -> SigningSecret:
    if not webhook.secret:
        return "no secret"
    known = {secret.reveal_text() for secret in settings.webhook_secrets}
    return "our secret" if webhook.secret in known else "another secret"


def _tell_registration(registered: "Registration") -> None:
    what = {
        "created": "Registered",
        "updated": f"Brought up to date ({', '.join(registered.changed)})",
        "unchanged": "Nothing to change",
    }[registered.action]
    click.echo(f"{what}: webhook {registered.id} to {printable(registered.url)}, {len(registered.triggers)} triggers.")
    if registered.left_out:
        click.echo(f"Left out, since this account does not accept them: {', '.join(registered.left_out)}.")
    if registered.also_ours:
        click.echo(
            f"Also ours, so that every change arrives more than once: {', '.join(registered.also_ours)} "
            "(booking-ledger webhooks delete ID)."
        )


def _owner(event_type: int | None, team_event_type: tuple[int, int] | None, organization: int | None) -> "WebhookOwner":
    from ledger.calcom.api import WebhookOwner

    if sum(given is not None for given in (event_type, team_event_type, organization)) > 1:
        raise click.UsageError("--event-type, --team-event-type and --organization cannot be given together.")
    team, event_type = team_event_type or (None, event_type)
    return WebhookOwner(event_type=event_type, team=team, organization=organization)


def _ourselves(settings: Settings, url: str | None) -> "Ourselves":
    """What is ours. Raises BadParameter for a --url that is none."""
    from ledger.calcom.addresses import Ourselves, is_web_address
    from ledger.errors import BadParameter

    if url is not None and not is_web_address(url):
        raise BadParameter("--url", "is an http:// or https:// address, without user, password or spaces")
    if url is None and settings.public_url is not None:
        url = settings.public_url + WEBHOOK_PATH
    return Ourselves(url=url, public_url=settings.public_url, paths=WEBHOOK_PATHS)


def _with_api(work: "Callable[[CalComApi, Settings], Awaitable[Result]]") -> Result:
    """What `work` returns, with Cal.com's API for the configured key. What takes long is told on standard error."""
    import structlog

    from api.cal_com import cal_com_api

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    settings = read_settings()

    async def run() -> Result:
        async with cal_com_api(settings) as api:
            return await work(api, settings)

    return asyncio.run(run())
