-- For users of the `eventsourcing` library (ledger/interop.py): our log in its words, and what it keeps beside a log.
--
-- interop.stored_events  a view: the log of one ledger under the library's column names, for its stock Postgres
--                        recorder (POSTGRES_SCHEMA=interop, ORIGINATOR_ID_TYPE=text, CREATE_TABLE=no). Which ledger, the
--                        setting `booking_ledger.ledger` says; `main` without it. Read-only.
-- interop.snapshots      what applications can fold again; no events, so not in the log, and without a position.
-- interop.tracking       how far each application has processed the notifications of others.
--
-- `recorder` is the name of the table that the stock recorder would have made for the same application.
--
-- The view's columns are plain columns of ledger.events, so that its indexes serve the library's statements. Hence an
-- event that the library numbers 0 shows as version 1 of `<originator>#0`, the stream that holds it.

-- migrate:up

CREATE SCHEMA interop;

CREATE TABLE interop.snapshots (
    ledger_id int NOT NULL,
    recorder text NOT NULL,
    originator_id text NOT NULL,
    originator_version bigint NOT NULL,
    topic text NOT NULL,
    state bytea NOT NULL,
    CONSTRAINT snapshots_pkey PRIMARY KEY (ledger_id, recorder, originator_id, originator_version)
);

CREATE TABLE interop.tracking (
    ledger_id int NOT NULL,
    recorder text NOT NULL,
    application_name text NOT NULL,
    notification_id bigint NOT NULL,
    CONSTRAINT tracking_pkey PRIMARY KEY (ledger_id, recorder, application_name)
);

CREATE FUNCTION interop.refuse_encoding(encoding smallint) RETURNS bytea
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RAISE EXCEPTION 'a body is stored in encoding %, which SQL cannot read', encoding
        USING ERRCODE = 'feature_not_supported', HINT = 'Read through PERSISTENCE_MODULE=ledger.interop.';
END
$$;

CREATE VIEW interop.stored_events AS
SELECT
    e.stream_id AS originator_id,
    e.stream_version AS originator_version,
    e.topic,
    CASE e.encoding WHEN 0 THEN e.state ELSE interop.refuse_encoding(e.encoding) END AS state,
    e.position AS notification_id
FROM ledger.events AS e
WHERE e.ledger_id = (
    SELECT l.ledger_id
    FROM ledger.ledgers AS l
    WHERE l.name = coalesce(nullif(current_setting('booking_ledger.ledger', true), ''), 'main')
);

CREATE FUNCTION interop.refuse_write() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'interop.stored_events is for reading: % refused', lower(TG_OP)
        USING ERRCODE = 'feature_not_supported', HINT = 'Write through PERSISTENCE_MODULE=ledger.interop.';
END
$$;

CREATE TRIGGER stored_events_read_only
    INSTEAD OF INSERT OR UPDATE OR DELETE ON interop.stored_events
    FOR EACH ROW EXECUTE FUNCTION interop.refuse_write();

COMMENT ON VIEW interop.stored_events IS 'The log of one ledger in the column names of the eventsourcing library; read-only.';
