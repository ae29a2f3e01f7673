-- Erasures: who is to be forgotten, so that nobody comes back by a late delivery, a reconciliation or an old backup.
--
-- ledger.erasures        one row per erasure: a tombstone from the moment it is asked for, a receipt once it is done. It
--                        names nobody: `person_tag` is a keyed hash of the e-mail address (HMAC-SHA256 under the
--                        ledger's event_id_key); null where bookings were erased for their age.
-- ledger.erased_streams  the bookings that an erasure took out (`is_gone`), or out of which it took a person.
-- ledger.erased_events   the events whose bodies an erasure made unreadable.
--
-- Rows are never deleted, and appending looks at them: every change of what is to be kept out also counts up
-- ledger.ledgers.erasures (migrations/0008), which each append compares under the head's lock.

-- migrate:up

CREATE TABLE ledger.erasures (
    ledger_id int NOT NULL,
    erasure_id uuid NOT NULL,
    person_tag bytea,
    cause text NOT NULL,
    state text NOT NULL DEFAULT 'begun',
    erased_at timestamptz NOT NULL,
    finished_at timestamptz,
    receipt jsonb,
    CONSTRAINT erasures_pkey PRIMARY KEY (ledger_id, erasure_id),
    CONSTRAINT erasures_person_tag_is_sha256 CHECK (octet_length(person_tag) = 32),
    CONSTRAINT erasures_cause_known CHECK (cause IN ('request', 'retention')),
    CONSTRAINT erasures_of_a_person_or_of_age CHECK ((person_tag IS NULL) = (cause = 'retention')),
    CONSTRAINT erasures_state_known CHECK (state IN ('begun', 'redacted', 'done')),
    CONSTRAINT erasures_finished_when_done CHECK ((state = 'done') = (finished_at IS NOT NULL))
);

CREATE INDEX erasures_by_time ON ledger.erasures (ledger_id, erased_at DESC, erasure_id);
CREATE INDEX erasures_unfinished ON ledger.erasures (ledger_id) WHERE state <> 'done';

CREATE TABLE ledger.erased_streams (
    ledger_id int NOT NULL,
    stream_id text COLLATE "C" NOT NULL,
    erasure_id uuid NOT NULL,
    is_gone boolean NOT NULL,
    CONSTRAINT erased_streams_pkey PRIMARY KEY (ledger_id, erasure_id, stream_id),
    CONSTRAINT erased_streams_of_erasure FOREIGN KEY (ledger_id, erasure_id)
        REFERENCES ledger.erasures (ledger_id, erasure_id)
);

CREATE INDEX erased_streams_by_stream ON ledger.erased_streams (ledger_id, stream_id);

CREATE TABLE ledger.erased_events (
    ledger_id int NOT NULL,
    position bigint NOT NULL,
    erasure_id uuid NOT NULL,
    CONSTRAINT erased_events_pkey PRIMARY KEY (ledger_id, erasure_id, position),
    CONSTRAINT erased_events_of_erasure FOREIGN KEY (ledger_id, erasure_id)
        REFERENCES ledger.erasures (ledger_id, erasure_id)
);

CREATE FUNCTION ledger.refuse_forgetting_erasures() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'erasures are kept, or who was erased could come back: % refused', lower(TG_OP)
        USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER erasures_stay
    BEFORE DELETE OR TRUNCATE ON ledger.erasures
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_forgetting_erasures();

CREATE TRIGGER erased_streams_stay
    BEFORE DELETE OR TRUNCATE ON ledger.erased_streams
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_forgetting_erasures();
