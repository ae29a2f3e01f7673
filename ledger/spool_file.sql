-- The spool's file, in SQLite's SQL: it is no part of the PostgreSQL schema. What it is for: ledger/spool_file.py.
--
-- deliveries   verified deliveries in order of arrival; `error` says why the log refused one, which is then set aside
-- totals       how many there are of each ledger, kept beside them, since counting would read every body
-- known_ledgers  the ledgers of each database that was served from here, for a start while it is away

-- name: create_deliveries
CREATE TABLE IF NOT EXISTS deliveries (
    spool_id INTEGER PRIMARY KEY,
    ledger_mark BLOB NOT NULL,
    event_id BLOB NOT NULL,
    receipt TEXT NOT NULL,
    body BLOB NOT NULL,
    error TEXT
);

-- name: create_waiting_index
CREATE INDEX IF NOT EXISTS deliveries_waiting ON deliveries (ledger_mark) WHERE error IS NULL;

-- name: create_totals
CREATE TABLE IF NOT EXISTS totals (
    ledger_mark BLOB PRIMARY KEY,
    waiting INTEGER NOT NULL,
    set_aside INTEGER NOT NULL
);

-- name: create_known_ledgers
CREATE TABLE IF NOT EXISTS known_ledgers (
    database TEXT NOT NULL,
    ledger_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    ledger_mark BLOB NOT NULL,
    PRIMARY KEY (database, ledger_id)
);

-- name: insert_delivery
INSERT INTO deliveries (ledger_mark, event_id, receipt, body)
VALUES (:ledger_mark, :event_id, :receipt, :body);

-- name: add_to_total
INSERT INTO totals (ledger_mark, waiting, set_aside)
VALUES (:ledger_mark, :waiting, :set_aside)
ON CONFLICT (ledger_mark) DO UPDATE
SET waiting = totals.waiting + excluded.waiting, set_aside = totals.set_aside + excluded.set_aside;

-- name: read_totals
SELECT ledger_mark, waiting, set_aside
FROM totals
WHERE waiting > 0 OR set_aside > 0
ORDER BY ledger_mark;

-- name: read_waiting
SELECT spool_id, event_id, receipt, body
FROM deliveries
WHERE ledger_mark = :ledger_mark AND error IS NULL
ORDER BY spool_id
LIMIT :deliveries_max;

-- name: read_oldest_receipt
SELECT receipt
FROM deliveries
WHERE error IS NULL
ORDER BY spool_id
LIMIT 1;

-- name: read_errors
SELECT DISTINCT error
FROM deliveries
WHERE error IS NOT NULL
ORDER BY error
LIMIT :errors_max;

-- name: delete_delivery
DELETE FROM deliveries
WHERE spool_id = :spool_id AND error IS NULL;

-- name: set_aside
UPDATE deliveries
SET error = :error
WHERE spool_id = :spool_id AND error IS NULL;

-- name: forget_ledgers
DELETE FROM known_ledgers
WHERE database = :database;

-- name: insert_known_ledger
INSERT INTO known_ledgers (database, ledger_id, name, ledger_mark)
VALUES (:database, :ledger_id, :name, :ledger_mark);

-- name: read_known_ledgers
SELECT ledger_id, name, ledger_mark
FROM known_ledgers
WHERE database = :database
ORDER BY ledger_id;

-- name: take_up_again
UPDATE deliveries
SET error = NULL
WHERE ledger_mark = :ledger_mark AND error IS NOT NULL;

-- name: read_set_aside
SELECT spool_id, body
FROM deliveries
WHERE ledger_mark = :ledger_mark AND error IS NOT NULL
ORDER BY spool_id;

-- name: forget_delivery
DELETE FROM deliveries
WHERE spool_id = :spool_id AND error IS NOT NULL;
