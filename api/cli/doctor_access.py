"""What `doctor` says of who may ask: the public routes, the secrets in use, the role's rights. And of alarms."""

from typing import TYPE_CHECKING

from ledger.settings import Settings

if TYPE_CHECKING:
    from ledger.postgres import Connection


def public_routes_told(settings: Settings) -> str:
    """Every route that needs no key; RouteUndeclared where one does not say whether it does."""
    from api.app import create_app
    from api.declared import public_routes
    from ledger.settings import Secret

    app = create_app(settings, "", internal_key=Secret(b""), with_worker=False)
    return f"no key is asked for on {', '.join(public_routes(app))}"


async def secrets_told(connection: "Connection", settings: Settings) -> str:
    """When each webhook secret last verified a delivery; which is which, its place and 4 digits of its SHA-256 tell."""
    from api.usage import fingerprint_of, read_secret_uses

    secrets = [secret.reveal() for secret in settings.webhook_secrets]
    uses = await read_secret_uses(connection, secrets)
    told = []
    for number, fingerprint in enumerate(map(fingerprint_of, secrets), start=1):
        at = uses.get(fingerprint)
        last = f"last used {at:%Y-%m-%d %H:%M} UTC" if at else "never used"
        told.append(f"secret {number} of {len(secrets)} ({fingerprint}): {last}")
    return "; ".join(told) or "there is none that could have been used"


async def rights_told(connection: "Connection") -> str:
    """Whether the role that we are could change the log."""
    from ledger.database_roles import read_own_rights

    role, could_change = await read_own_rights(connection)
    if could_change:
        return f"{role} owns the log and could change it; booking-ledger roles create makes one that cannot"
    return f"{role} can append to the log and cannot change it"


async def alarms_told(connection: "Connection") -> list[str]:
    """What somebody should look at, a sentence each; the ledger is named where it is not `main`."""
    from datetime import UTC, datetime

    from api.alarms import read_raised
    from ledger.store import read_ledgers
    from ledger.vocabulary import MAIN_LEDGER_NAME

    ledgers = await read_ledgers(connection)
    names = {ledger.ledger_id: name for name, ledger in ledgers.items()}
    raised = await read_raised(connection, ledgers.values(), now=datetime.now(UTC))
    return [
        one.alarm.sentence
        if names[one.ledger_id] == MAIN_LEDGER_NAME
        else f"{names[one.ledger_id]}: {one.alarm.sentence}"
        for one in raised
    ]
