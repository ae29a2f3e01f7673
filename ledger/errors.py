"""Every error of ours, by who must act.

BookingLedgerError
├── SenderError                    the sender must change the request; nothing was kept unless it says so
│   ├── SignatureRefused           the delivery is not Cal.com's, or not for our secret
│   ├── BodyTooLarge
│   ├── SecretMissing              no secret configured: nothing can be verified (the operator acts too)
│   ├── EventUnsupported           STRICT_EVENTS only: kept all the same, but the sender wants to know
│   ├── NotFound
│   └── BadParameter               a query parameter that cannot be understood
├── CallerError                    the caller may try again
│   ├── VersionConflict            somebody else wrote first: read, decide again
│   ├── AppenderFull               the queue stayed full past the stated time
│   └── StoreUnavailable           Postgres is away or refuses for now
└── OperatorError                  we must stop; the sentence says what to do
    ├── BadSetting
    ├── SchemaUnknown              the database is behind or ahead of this program
    ├── UnsafeServer               fsync, full_page_writes or synchronous_commit is off
    ├── MigrationChanged           an applied migration was edited
    ├── EmbeddedPostgresFailed
    ├── ServerUnreachable          DATABASE_URL leads nowhere
    └── AddressTaken

An error takes data and owns its sentence. HTTP codes are given in `api/problems.py` only.
"""

from typing import ClassVar


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


class SecretMissing(SenderError):
    def __init__(self) -> None:
        super().__init__("No webhook secret is configured; set CAL_COM_WEBHOOK_SECRET and restart.")


class EventUnsupported(SenderError):
    def __init__(self, trigger: str | None) -> None:
        super().__init__(f"Unsupported Event Type: {trigger or 'none in the body'}. The delivery was kept.")


class NotFound(SenderError):
    def __init__(self, what: str) -> None:
        super().__init__(f"There is no {what}.")


class BadParameter(SenderError):
    def __init__(self, name: str, rule: str) -> None:
        self.name = name
        super().__init__(f"{name} {rule}.")


class VersionConflict(CallerError):
    def __init__(self, stream_id: str, *, expected: int, actual: int) -> None:
        self.actual = actual
        super().__init__(f"{stream_id} is at version {actual}, not {expected}; read it again and decide again.")


class AppenderFull(CallerError):
    def __init__(self, *, waited_seconds: float) -> None:
        super().__init__(f"The write queue stayed full for {waited_seconds:g} s; nothing was kept, try again.")


class StoreUnavailable(CallerError):
    def __init__(self, cause: str) -> None:
        super().__init__(f"Postgres cannot take the write now ({cause}); nothing is known to be kept, try again.")


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


class EmbeddedPostgresFailed(OperatorError):
    def __init__(self, what: str) -> None:
        super().__init__(f"The embedded PostgreSQL: {what}")


class ServerUnreachable(OperatorError):
    def __init__(self, cause: str) -> None:
        super().__init__(
            f"DATABASE_URL does not lead to a PostgreSQL that lets us in ({cause}); check host, port, user."
        )


class AddressTaken(OperatorError):
    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"{host}:{port} is taken by another program; set PORT to a free one.")
