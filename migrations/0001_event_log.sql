-- The event log: one immutable, hash-chained, contiguous log per ledger.
--
-- ledger.ledgers   one row per log: its head. Whoever appends holds this row's lock until commit, so positions are
--                  given in commit order and a reader that follows them passes over nothing (ledger/store.py).
-- ledger.events    the log. `state` holds the bytes as `encoding` says; `digest` chains every column to the row before.
-- ledger.deliveries  what reached us and is no event of its own: refusals and exact repeats; telemetry, may be trimmed.
--
-- `ledger_id` leads every key: a ledger can live on a shard of its own. No sequence, no key across ledgers.

-- migrate:up

CREATE SCHEMA IF NOT EXISTS ledger;

CREATE TABLE ledger.ledgers (
    ledger_id int NOT NULL,
    name text NOT NULL,
    position bigint NOT NULL DEFAULT 0,
    digest bytea NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT '2000-01-01 00:00:00+00',
    event_id_key bytea NOT NULL,
    CONSTRAINT ledgers_pkey PRIMARY KEY (ledger_id),
    CONSTRAINT ledgers_name_is_a_slug CHECK (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    CONSTRAINT ledgers_position_not_negative CHECK (position >= 0),
    CONSTRAINT ledgers_digest_is_sha256 CHECK (octet_length(digest) = 32),
    CONSTRAINT ledgers_event_id_key_length CHECK (octet_length(event_id_key) = 32)
);

-- Columns of a fixed width come first, the widest of them where they need no padding: 10 bytes an event less.
CREATE TABLE ledger.events (
    ledger_id int NOT NULL,
    stream_version int NOT NULL,
    position bigint NOT NULL,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    event_id uuid NOT NULL,
    encoding smallint NOT NULL,
    stream_id text NOT NULL,
    topic text NOT NULL,
    source text NOT NULL,
    metadata text NOT NULL,
    digest bytea NOT NULL,
    state bytea NOT NULL,
    CONSTRAINT events_pkey PRIMARY KEY (ledger_id, stream_id, stream_version) INCLUDE (position),
    CONSTRAINT events_position_unique UNIQUE (ledger_id, position),
    CONSTRAINT events_event_id_unique UNIQUE (ledger_id, event_id),
    CONSTRAINT events_position_from_one CHECK (position > 0),
    CONSTRAINT events_stream_version_from_one CHECK (stream_version > 0),
    CONSTRAINT events_source_known CHECK (source IN ('webhook', 'link', 'reconcile', 'command'))
);

-- Bodies stay in the row up to a page and are never compressed by PostgreSQL: pglz halves the write rate.
ALTER TABLE ledger.events ALTER COLUMN state SET STORAGE EXTERNAL;
ALTER TABLE ledger.events SET (toast_tuple_target = 8160);

-- Bookings of which the first that was heard named only a number: few, and asked for again and again.
CREATE INDEX events_numbered ON ledger.events (ledger_id, position)
WHERE stream_version = 1 AND stream_id LIKE 'booking-id-%';

CREATE TABLE ledger.deliveries (
    ledger_id int NOT NULL,
    delivery_id uuid NOT NULL,
    received_at timestamptz NOT NULL,
    outcome text NOT NULL,
    reason text,
    position bigint,
    duration_ms real NOT NULL,
    CONSTRAINT deliveries_pkey PRIMARY KEY (ledger_id, delivery_id),
    CONSTRAINT deliveries_outcome_known CHECK (outcome IN ('duplicate', 'refused')),
    CONSTRAINT deliveries_duplicate_has_position CHECK ((outcome = 'duplicate') = (position IS NOT NULL))
);

CREATE INDEX deliveries_received_at ON ledger.deliveries (ledger_id, received_at DESC);
CREATE INDEX deliveries_of_event ON ledger.deliveries (ledger_id, position) WHERE outcome = 'duplicate';

CREATE FUNCTION ledger.refuse_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the event log is append-only: % refused', lower(TG_OP)
        USING ERRCODE = 'restrict_violation', HINT = 'Append a correcting event instead.';
END
$$;

CREATE TRIGGER events_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.events
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

ALTER TABLE ledger.events ENABLE ALWAYS TRIGGER events_append_only;

-- Texts as they lie in the header of an event's digest: of each its length, then its bytes (`ledger/chain.py` says how
-- the chain is made, and computes the same in Python; tests hold the two together). In the client's encoding, since a
-- function that PostgreSQL sends arrays with is the quickest: whoever calls this sees to it that that is UTF8.
CREATE FUNCTION ledger.sized(VARIADIC texts text[]) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE
RETURN substring(array_send(texts) FROM 21);

-- Appends what is new of a batch and tells for every event where it stands.
--
-- Under the head's lock: event ids already in the log are left out (and answered with the place of the first), the
-- others get the next positions and stream versions, the chain goes on, one notification goes out. `expected_versions`
-- holds null for "any", else the stream's version right before the event, the batch's earlier ones counted; a stream
-- that is elsewhere raises BL001 (detail: expected, actual, stream) and nothing is appended. Planned once a session:
-- its plan does not depend on the values, and planning took longer than appending. By index whatever the planner
-- thinks: a session that began on an empty log would go on reading all of a log that has grown meanwhile.
CREATE FUNCTION ledger.append_events(
    into_ledger int,
    event_ids uuid[],
    stream_ids text[],
    topics text[],
    states bytea[],
    encodings smallint[],
    occurred_ats timestamptz[],
    sources text[],
    metadatas text[],
    expected_versions int[]
) RETURNS TABLE (ordinal int, event_position bigint, event_stream_version int, duplicate boolean)
LANGUAGE plpgsql
SET client_encoding = 'UTF8'
SET plan_cache_mode = 'force_generic_plan'
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_material = off
SET enable_bitmapscan = off
AS $$
DECLARE
    head record;
    moment timestamptz;
    wrong record;
    fresh int[];
    versions int[];
    links bytea[];
    running bytea;
    digests bytea[] := '{}';
    link bytea;
BEGIN
    SELECT ledgers.position, ledgers.digest, ledgers.recorded_at INTO STRICT head
    FROM ledger.ledgers WHERE ledgers.ledger_id = into_ledger FOR UPDATE;
    moment := greatest(clock_timestamp(), head.recorded_at);

    -- What is new, by its place in the batch: ids that are in the log, or came earlier in the batch, are left out.
    fresh := ARRAY(
        SELECT min(given.at)::int
        FROM unnest(event_ids) WITH ORDINALITY AS given (event_id, at)
        WHERE NOT EXISTS (
            SELECT FROM ledger.events AS known
            WHERE known.ledger_id = into_ledger AND known.event_id = given.event_id
        )
        GROUP BY given.event_id
        ORDER BY min(given.at)
    );

    -- The version each new event gets, aligned with `fresh`.
    versions := ARRAY(
        SELECT
            coalesce(
                (
                    SELECT e.stream_version FROM ledger.events AS e
                    WHERE e.ledger_id = into_ledger AND e.stream_id = placed.stream_id
                    ORDER BY e.stream_version DESC
                    LIMIT 1
                ),
                0
            ) + placed.step::int
        FROM (
            SELECT
                stream_ids[new.at] AS stream_id,
                new.place,
                row_number() OVER (PARTITION BY stream_ids[new.at] ORDER BY new.place) AS step
            FROM unnest(fresh) WITH ORDINALITY AS new (at, place)
        ) AS placed
        ORDER BY placed.place
    );

    IF expected_versions IS NOT NULL THEN
        SELECT stream_ids[new.at] AS stream_id, expected_versions[new.at] AS expected, new.version - 1 AS actual
        INTO wrong
        FROM unnest(fresh, versions) WITH ORDINALITY AS new (at, version, place)
        WHERE expected_versions[new.at] <> new.version - 1
        ORDER BY new.place
        LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'expected version % of %, found %', wrong.expected, wrong.stream_id, wrong.actual
                USING ERRCODE = 'BL001', DETAIL = concat_ws(' ', wrong.expected, wrong.actual, wrong.stream_id);
        END IF;
    END IF;

    IF cardinality(fresh) > 0 THEN
        IF cardinality(fresh) < cardinality(event_ids) THEN
            SELECT
                array_agg(given.stream_id ORDER BY given.at), array_agg(given.topic ORDER BY given.at),
                array_agg(given.state ORDER BY given.at), array_agg(given.encoding ORDER BY given.at),
                array_agg(given.occurred_at ORDER BY given.at), array_agg(given.source ORDER BY given.at),
                array_agg(given.metadata ORDER BY given.at)
            INTO stream_ids, topics, states, encodings, occurred_ats, sources, metadatas
            FROM unnest(stream_ids, topics, states, encodings, occurred_ats, sources, metadatas)
                WITH ORDINALITY AS given (stream_id, topic, state, encoding, occurred_at, source, metadata, at)
            WHERE given.at = ANY(fresh);
        END IF;

        links := ARRAY(
            SELECT
                '\x01'::bytea || int4send(into_ledger) || int8send(head.position + new.place)
                    || int4send(new.version) || int2send(new.encoding)
                    || timestamptz_send(new.occurred_at) || timestamptz_send(moment)
                    || uuid_send(event_ids[new.at]) || ledger.sized(new.stream_id, new.topic, new.source, new.metadata)
                    || sha256(new.state)
            FROM unnest(fresh, versions, stream_ids, topics, states, encodings, occurred_ats, sources, metadatas)
                WITH ORDINALITY
                AS new (at, version, stream_id, topic, state, encoding, occurred_at, source, metadata, place)
        );
        running := head.digest;
        FOREACH link IN ARRAY links LOOP
            running := sha256(running || link);
            digests := array_append(digests, running);
        END LOOP;

        INSERT INTO ledger.events (
            ledger_id, position, stream_id, stream_version, event_id, topic, state, encoding,
            occurred_at, recorded_at, source, metadata, digest
        )
        SELECT
            into_ledger, head.position + new.place, new.stream_id, new.version, event_ids[new.at], new.topic,
            new.state, new.encoding, new.occurred_at, moment, new.source, new.metadata, new.digest
        FROM unnest(
            fresh, versions, stream_ids, topics, states, encodings, occurred_ats, sources, metadatas, digests
        ) WITH ORDINALITY
            AS new (at, version, stream_id, topic, state, encoding, occurred_at, source, metadata, digest, place);

        UPDATE ledger.ledgers
        SET position = head.position + cardinality(fresh), recorded_at = moment, digest = running
        WHERE ledgers.ledger_id = into_ledger;
        PERFORM pg_notify('ledger_events', into_ledger::text);
    END IF;

    IF cardinality(fresh) = cardinality(event_ids) THEN
        RETURN QUERY
            SELECT new.at, head.position + new.place, new.version, false
            FROM unnest(fresh, versions) WITH ORDINALITY AS new (at, version, place)
            ORDER BY new.place;
    ELSE
        RETURN QUERY
            SELECT given.at::int, e.position, e.stream_version, given.at <> ALL (fresh)
            FROM unnest(event_ids) WITH ORDINALITY AS given (event_id, at)
            JOIN ledger.events AS e ON e.ledger_id = into_ledger AND e.event_id = given.event_id
            ORDER BY given.at;
    END IF;
END
$$;

COMMENT ON FUNCTION ledger.append_events IS 'Appends a batch under the head''s lock; see migrations/0001_event_log.sql.';

INSERT INTO ledger.ledgers (ledger_id, name, digest, event_id_key)
VALUES (
    1,
    'main',
    sha256('booking-ledger/1'),
    sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
);
