"""What only a superuser can do to the log, for tests: change it behind its own back, and cover the traces."""

import hashlib

from ledger.chain import genesis
from ledger.postgres import Connection
from tests.builders import MAIN


async def with_triggers_off(connection: Connection, *statements: str) -> None:
    """The statements have run although the log refuses them."""
    await connection.execute("ALTER TABLE ledger.events DISABLE TRIGGER ALL")
    for statement in statements:
        await connection.execute(statement)
    await connection.execute("ALTER TABLE ledger.events ENABLE ALWAYS TRIGGER events_append_only")


async def rewrite(connection: Connection, *statements: str) -> None:
    """The statements have run, positions closed up, and chain and head were made anew, so that they show nothing."""
    await with_triggers_off(connection, *statements)
    await connection.execute("ALTER TABLE ledger.events DISABLE TRIGGER ALL")
    for row in await connection.fetch(MOVED, MAIN):
        await connection.execute(MOVE, MAIN, row["position"], row["place"])
    digest, digests = genesis(MAIN), []
    for row in await connection.fetch(LINKS, MAIN):
        digest = hashlib.sha256(digest + row["link"]).digest()
        digests.append(digest)
    await connection.execute(UPDATE_DIGESTS, MAIN, digests)
    await connection.execute("ALTER TABLE ledger.events ENABLE ALWAYS TRIGGER events_append_only")
    await connection.execute(UPDATE_HEAD, MAIN, len(digests), digest)


MOVED = """
SELECT position, place
FROM (SELECT position, row_number() OVER (ORDER BY position) AS place FROM ledger.events WHERE ledger_id = $1) AS placed
WHERE position <> place
ORDER BY position
"""
MOVE = "UPDATE ledger.events SET position = $3 WHERE ledger_id = $1 AND position = $2"
LINKS = """
SELECT
    '\\x01'::bytea || int4send(ledger_id) || int8send(position) || int4send(stream_version) || int2send(encoding)
        || timestamptz_send(occurred_at) || timestamptz_send(recorded_at) || uuid_send(event_id)
        || ledger.sized(stream_id) || ledger.sized(topic) || ledger.sized(source) || ledger.sized(metadata)
        || sha256(state) AS link
FROM ledger.events
WHERE ledger_id = $1
ORDER BY position
"""

UPDATE_DIGESTS = """
UPDATE ledger.events AS e SET digest = made.digest
FROM unnest($2::bytea[]) WITH ORDINALITY AS made (digest, position)
WHERE e.ledger_id = $1 AND e.position = made.position AND e.digest <> made.digest
"""
UPDATE_HEAD = "UPDATE ledger.ledgers SET position = $2, digest = $3 WHERE ledger_id = $1"
