"""Every error of ours, by who must act.

BookingLedgerError
├── SenderError                    the sender must change the request; nothing was kept unless it says so
│   ├── SignatureRefused           the delivery is not Cal.com's, or not for our secret
│   ├── BodyTooLarge
│   ├── EncodingUnsupported        a compressed body: Cal.com sends none, and what it unpacks to has no bound
│   ├── TooManyTries               of what proved to be nobody's: wait, then try again
│   ├── SecretMissing              no secret configured: nothing can be verified (the operator acts too)
│   ├── EventUnsupported           STRICT_EVENTS only: kept all the same, but the sender wants to know
│   ├── NotFound
│   ├── NotLinkable                a delivery that has its booking already, or says nothing of any
│   └── BadParameter               a query parameter that cannot be understood
├── CallerError                    the caller may try again
│   ├── VersionConflict            somebody else wrote first: read, decide again
│   ├── RebuildUnderWay            one rebuild of a projection at a time: follow it, or cancel it
│   ├── AppenderFull               the queue stayed full past the stated time
│   ├── CalComUnavailable          Cal.com's API does not answer for now, or not well
│   ├── ErasureUnderWay            one at a time in a ledger; or a booking is told of faster than it can be redacted
│   ├── StoreUnavailable           Postgres is away or refuses for now
│   └── SpoolRefused               Postgres is away, and the spool cannot take the delivery either
└── OperatorError                  we must stop; the sentence says what to do
    ├── BadSetting
    ├── SchemaUnknown              the database is behind or ahead of this program
    ├── UnsafeServer               fsync, full_page_writes or synchronous_commit is off
    ├── MigrationChanged           an applied migration was edited
    ├── RouteUndeclared            a route that says neither who may ask nor that it is public
    ├── EmbeddedPostgresFailed
    ├── SpoolUnusable              no delivery can be kept while Postgres is away
    ├── ServerUnreachable          DATABASE_URL leads nowhere
    ├── CalComKeyRefused           CAL_COM_API_KEY is wrong, has expired, or may not do this
    ├── CalComRejected             Cal.com's API says no to what was asked
    ├── CalComUnreadable           what answers at CAL_COM_API_URL is not the API we know
    ├── UnsafeReceiver             an address that Cal.com cannot or should not deliver to
    ├── ForeignWebhook             a webhook at Cal.com that does not lead to us
    ├── ReceiverUnreachable        nothing takes the made-up deliveries
    ├── EvidenceRefused            a checkpoint or a proof that does not hold, and why
    ├── LogContradicted            the log is not what was signed before
    ├── CheckpointUndelivered      signed, but neither written nor handed over
    ├── BodyUnreadable             a body in the log is not what was put there, or its key is gone
    ├── ReceiptsUnusable           who was erased before a backup was restored cannot be read, or written
    ├── NotErasable                bodies of before they were sealed: there is no key to destroy
    ├── SealingKeyMissing          SEALING_KEY does not hold the root key that wraps what is to be opened
    └── AddressTaken

An error takes data and owns its sentence. HTTP codes are given in `api/problems.py` only.
"""

import math
from pathlib import Path
from typing import ClassVar
from uuid import UUID


class BookingLedgerError(Exception):
    """The root: `str(error)` is a sentence for the person who must act."""


class SenderError(BookingLedgerError):
    """The request is wrong; sending it again as it is will not help."""


class CallerError(BookingLedgerError):
    """Nothing is wrong with the request; try again, after reading again where the sentence says so."""


class OperatorError(BookingLedgerError):
    """The program cannot go on as it is set up."""


class SignatureRefused(SenderError):
    """`reason` is one of missing, repeated, malformed, no_secret_provided, mismatch."""

    SENTENCES: ClassVar = {
        "missing": "The request carries no X-Cal-Signature-256 header.",
        "repeated": "The request carries more than one signature header.",
        "malformed": "The signature is not 64 hexadecimal digits.",
        "no_secret_provided": "Cal.com sent this without a secret; set one on the webhook in Cal.com.",
        "mismatch": "The signature does not match the body under any active secret.",
    }

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(self.SENTENCES[reason])


class BodyTooLarge(SenderError):
    def __init__(self, *, body_bytes_max: int) -> None:
        super().__init__(f"The body is larger than {body_bytes_max:,} bytes.")


class EncodingUnsupported(SenderError):
    def __init__(self) -> None:
        super().__init__("The body is compressed; send it as it is, without Content-Encoding.")


class TooManyTries(SenderError):
    """`wait_seconds`: after that long one more is let through."""

    def __init__(self, what: str, *, wait_seconds: float) -> None:
        self.wait_seconds = math.ceil(wait_seconds)
        super().__init__(f"Too many {what}; try again in {self.wait_seconds} s.")


class SecretMissing(SenderError):
    def __init__(self) -> None:
        super().__init__("No webhook secret is configured; set CAL_COM_WEBHOOK_SECRET and restart.")


class EventUnsupported(SenderError):
    def __init__(self, trigger: str | None) -> None:
        super().__init__(f"Unsupported Event Type: {trigger or 'none in the body'}. The delivery was kept.")


class NotFound(SenderError):
    def __init__(self, what: str) -> None:
        super().__init__(f"There is no {what}.")


class NotLinkable(SenderError):
    def __init__(self, event_id: UUID, reason: str) -> None:
        super().__init__(f"Delivery {event_id} cannot be linked: {reason}.")


class BadParameter(SenderError):
    def __init__(self, name: str, rule: str) -> None:
        self.name = name
        super().__init__(f"{name} {rule}.")


class VersionConflict(CallerError):
    def __init__(self, stream_id: str, *, expected: int, actual: int) -> None:
        self.actual = actual
        super().__init__(f"{stream_id} is at version {actual}, not {expected}; read it again and decide again.")


class RebuildUnderWay(CallerError):
    """There is a generation that is being built; `projections status` shows how far it is."""

    def __init__(self, projection: str) -> None:
        super().__init__(f"A rebuild of {projection} is under way; follow it, or cancel it first.")


class AppenderFull(CallerError):
    def __init__(self, *, waited_seconds: float) -> None:
        super().__init__(f"The write queue stayed full for {waited_seconds:g} s; nothing was kept, try again.")


class ErasureUnderWay(CallerError):
    def __init__(self, ledger: str) -> None:
        super().__init__(f"Somebody is being erased from ledger {ledger} right now; try again when that is done.")


class StoreUnavailable(CallerError):
    def __init__(self, cause: str) -> None:
        super().__init__(f"Postgres cannot take the write now ({cause}); nothing is known to be kept, try again.")


class SpoolRefused(CallerError):
    def __init__(self, cause: str) -> None:
        super().__init__(
            f"Postgres cannot take the delivery now, nor can the spool ({cause}); "
            "nothing is known to be kept, try again."
        )


class SpoolUnusable(OperatorError):
    def __init__(self, folder: Path, cause: str) -> None:
        super().__init__(
            f"The spool in {folder} cannot be used ({cause}), so nothing could be kept while Postgres is away; "
            "let BOOKING_LEDGER_HOME name a folder on a local disk that this program may write to."
        )


class CalComUnavailable(CallerError):
    def __init__(self, asked: str, cause: str) -> None:
        super().__init__(f"Cal.com's API does not answer {asked} for now ({cause}); try again later.")


class BadSetting(OperatorError):
    def __init__(self, name: str, rule: str) -> None:
        self.name = name
        super().__init__(f"{name} {rule}.")


class SchemaUnknown(OperatorError):
    def __init__(self, *, found: int, known: int) -> None:
        self.found, self.known = found, known
        if found < known:
            todo = "run: booking-ledger migrate"
        else:
            todo = "it was migrated by a newer release: install that release"
        super().__init__(f"The database schema is at version {found}, this program needs {known}; {todo}")


class UnsafeServer(OperatorError):
    def __init__(self, setting: str) -> None:
        super().__init__(
            f"PostgreSQL runs with {setting} = off: an answered webhook could be lost in a crash. "
            f"Turn it on (ALTER SYSTEM SET {setting} = on) and reload."
        )


class MigrationChanged(OperatorError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"Migration {name} was applied with another content; restore the released file, add a new one for changes."
        )


class RouteUndeclared(OperatorError):
    def __init__(self, route: str) -> None:
        super().__init__(f"{route} declares no role and is not public; give it an opt of api/auth.py.")


class EmbeddedPostgresFailed(OperatorError):
    def __init__(self, what: str) -> None:
        super().__init__(f"The embedded PostgreSQL: {what}")


class ServerUnreachable(OperatorError):
    def __init__(self, cause: str, *, may_pass: bool = False) -> None:
        self.cause, self.may_pass = cause, may_pass
        super().__init__(
            f"DATABASE_URL does not lead to a PostgreSQL that lets us in ({cause}); check host, port, user."
        )


class CalComKeyRefused(OperatorError):
    """`status` is Cal.com's: 401, 403 or 498."""

    ADVICE: ClassVar = {
        401: "make a key in Cal.com (Settings, Developer, API keys), or set CAL_COM_API_URL to the server it is for",
        403: "use a key of an account that may do this",
        498: "the access token in it has expired: put in a fresh one, or an API key",
    }

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        super().__init__(f"Cal.com refuses CAL_COM_API_KEY ({status}, {reason}); {self.ADVICE[status]}.")


class CalComRejected(OperatorError):
    """`sentences`: all that Cal.com says about it."""

    def __init__(self, asked: str, status: int, reason: str, *, sentences: tuple[str, ...] = ()) -> None:
        self.status = status
        self.sentences = sentences
        super().__init__(f"Cal.com's API rejects {asked} ({status}, {reason}); change what was asked for.")


class CalComUnreadable(OperatorError):
    def __init__(self, asked: str, cause: str) -> None:
        super().__init__(
            f"The answer to {asked} cannot be read ({cause}); set CAL_COM_API_URL to the API's own address, "
            "such as https://api.cal.com/v2."
        )


class UnsafeReceiver(OperatorError):
    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"{url} {why}; give another --url, or --force if it is meant so.")


class ForeignWebhook(OperatorError):
    def __init__(self, webhook_id: str, url: str) -> None:
        super().__init__(f"Webhook {webhook_id} leads to {url}, which is not ours; --force deletes it all the same.")


class ReceiverUnreachable(OperatorError):
    def __init__(self, url: str, cause: str) -> None:
        super().__init__(f"Nothing takes deliveries at {url} ({cause}); start the receiver there, or give its --url.")


class EvidenceRefused(OperatorError):
    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"Refused: {reason}.")


class LogContradicted(OperatorError):
    def __init__(self, what: str) -> None:
        super().__init__(f"{what}. Nothing is signed or proved of such a log; compare it with a backup.")


class CheckpointUndelivered(OperatorError):
    def __init__(self, where: str, cause: str) -> None:
        super().__init__(f"The checkpoint did not reach {where} ({cause}).")


class BodyUnreadable(OperatorError):
    """`reason` names no content."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"A body in the log cannot be read: {reason}. See what booking-ledger verify says, or restore a backup."
        )


class ReceiptsUnusable(OperatorError):
    def __init__(self, folder: Path, cause: str) -> None:
        super().__init__(
            f"The receipts of erasures in {folder} cannot be used ({cause}); let ERASURES_FOLDER name the folder in "
            "which they are, or for the first time an empty one."
        )


class NotErasable(OperatorError):
    def __init__(self, bodies: int) -> None:
        super().__init__(
            f"{bodies:,} of the bodies to be erased lie in the log unsealed, as an older release wrote them, and no "
            "row of it may change; nothing of them was erased."
        )


class SealingKeyMissing(OperatorError):
    """`root_key` is the id of the root key that is missing."""

    def __init__(self, root_key: str) -> None:
        self.root_key = root_key
        super().__init__(
            f"SEALING_KEY does not hold root key {root_key}, which keys of the log are wrapped by; put the key of that "
            "id into it, after a comma, and restart (booking-ledger sealing status shows all ids)."
        )


class AddressTaken(OperatorError):
    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"{host}:{port} is taken by another program; set PORT to a free one.")
