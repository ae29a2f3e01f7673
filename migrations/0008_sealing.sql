-- Sealing: bodies lie in the log encrypted, so that what is known of a person can be taken out of a log of which not
-- one row may change: by destroying the key (ledger/sealing.py).
--
-- ledger.root_keys   the keys that wrap all others. `secret` is null where the key itself is kept outside, in the
--                    setting SEALING_KEY; at most one has its secret here, for who has set none. A retired one wraps
--                    nothing new.
-- ledger.body_keys   the key of each booking's bodies, wrapped by a root key. Null: destroyed on purpose. The row stays
--                    and cannot be filled again, so that a body which nobody may open any more is told apart from one
--                    whose key was lost.
-- ledger.ledgers     `erasures` counts the times that keys were destroyed. Whoever keeps opened keys in memory compares
--                    it whenever events are read or appended, and forgets them all when it has moved.
--
-- With KEYS_DATABASE_URL the first two live in that database (migrations/keys/), and only the count here.
--
-- The read model webhook_logs, which showed bodies out of the log, has copies of those that are sealed: in `body`, as
-- they came, since making `jsonb` of all of them would cost more than appending them; it is made where somebody asks.
-- For the same reason PostgreSQL does not compress them: that would cost more than all the rest of a row.

-- migrate:up

CREATE TABLE ledger.root_keys (
    root_key text NOT NULL,
    secret bytea,
    made_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz,
    CONSTRAINT root_keys_pkey PRIMARY KEY (root_key),
    CONSTRAINT root_keys_is_an_id CHECK (root_key ~ '^[0-9a-f]{8}$'),
    CONSTRAINT root_keys_secret_length CHECK (octet_length(secret) = 32)
);

CREATE UNIQUE INDEX root_keys_one_secret ON ledger.root_keys ((true)) WHERE secret IS NOT NULL;

CREATE TABLE ledger.body_keys (
    ledger_id int NOT NULL,
    key_id uuid NOT NULL,
    wrapped bytea,
    root_key text,
    CONSTRAINT body_keys_pkey PRIMARY KEY (ledger_id, key_id),
    CONSTRAINT body_keys_wrapped_length CHECK (octet_length(wrapped) = 60),
    CONSTRAINT body_keys_wrapped_by_one CHECK (wrapped IS NULL OR root_key IS NOT NULL)
);

ALTER TABLE ledger.body_keys ALTER COLUMN wrapped SET STORAGE PLAIN;

-- Retires every root key but one. Takes all heads' locks: who appends looks whether its root key is retired under one of
-- them, so nothing is wrapped by these from here on, and what was wrapped before can be seen by who wraps it anew.
CREATE FUNCTION ledger.retire_root_keys(kept text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM FROM ledger.ledgers ORDER BY ledger_id FOR UPDATE;
    UPDATE ledger.root_keys SET retired_at = clock_timestamp() WHERE root_key <> kept AND retired_at IS NULL;
END
$$;

REVOKE ALL ON FUNCTION ledger.retire_root_keys FROM PUBLIC;

CREATE FUNCTION ledger.refuse_key_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'key % was destroyed and stays so', OLD.key_id
        USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER body_keys_destroyed_for_good
    BEFORE UPDATE ON ledger.body_keys
    FOR EACH ROW WHEN (OLD.wrapped IS NULL)
    EXECUTE FUNCTION ledger.refuse_key_change();

-- For keys that have moved to a database of their own, destroyed ones included.
CREATE FUNCTION ledger.forget_keys(of_ledger int, key_ids uuid[]) RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    DELETE FROM ledger.body_keys WHERE ledger_id = of_ledger AND key_id = ANY (key_ids);
END;

REVOKE ALL ON FUNCTION ledger.forget_keys FROM PUBLIC;

ALTER TABLE ledger.ledgers
    ADD COLUMN erasures bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT ledgers_erasures_not_negative CHECK (erasures >= 0);

-- Destroys keys and tells everybody who keeps some in memory. Takes the head's lock: no batch sealed under one of them
-- can slip in after this, since appending compares the count under the same lock. Without keys it only tells.
CREATE FUNCTION ledger.destroy_keys(of_ledger int, key_ids uuid[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    destroyed bigint;
BEGIN
    UPDATE ledger.ledgers SET erasures = erasures + 1 WHERE ledger_id = of_ledger;
    UPDATE ledger.body_keys SET wrapped = NULL, root_key = NULL
    WHERE ledger_id = of_ledger AND key_id = ANY (key_ids) AND wrapped IS NOT NULL;
    GET DIAGNOSTICS destroyed = ROW_COUNT;
    RETURN destroyed;
END
$$;

REVOKE ALL ON FUNCTION ledger.destroy_keys FROM PUBLIC;

COMMENT ON FUNCTION ledger.destroy_keys IS 'Bodies sealed under these keys cannot be opened any more; the chain still holds.';

-- ledger.append_events of migration 0001, which now keeps the batch's keys as well.
--
-- `key_ids` and `wrapped_keys` are those that the states are sealed under, wrapped by `wrapped_by`, or null where a key
-- was thrown away at once; both null where keys live in a database of their own. They are kept whether or not they are
-- new, so that no event is ever without its key. Only what an appended event uses is kept: a repeat, of which nothing is
-- appended, leaves no key behind.
--
-- `told` is what each event says, where whoever files it knows, without its place (`ledger/kept_facts.py`): it is kept
-- where the live facts were made by the same version of the decoder, `told_by`.
--
-- The answer is one row, with arrays of what each event got. With a `refusal` nothing is appended: `keys_destroyed` where
-- they were since the caller last looked, with the count there is now, and `root_key_retired` where it is, or is unknown,
-- so that nothing is ever sealed that could not be opened. Seal again, and call again, in the same transaction if need be.
--
-- `are_apart`: no two of the events share an id or a stream. Saying so where it is not true fails on a unique index.
--
-- Every statement costs, so there are few, and what only a batch with repeats needs is done for such a batch alone. An
-- array's elements are taken by their number, since `unnest` of ten arrays would put each of them into a table first.
DROP FUNCTION ledger.append_events(
    int, uuid[], text[], text[], bytea[], smallint[], timestamptz[], text[], text[], int[]
);

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
    expected_versions int[],
    key_ids uuid[],
    wrapped_keys bytea[],
    wrapped_by text,
    known_erasures bigint,
    told bytea[],
    told_by int,
    are_apart boolean,
    OUT refusal text,
    OUT erasures bigint,
    OUT positions bigint[],
    OUT versions int[],
    OUT duplicates boolean[]
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
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
    seen record;
    wrong record;
    moment timestamptz;
    given_ids uuid[];
    fresh int[];
    running bytea;
    digests bytea[] := '{}';
    micros bigint;
BEGIN
    SELECT ledgers.position, ledgers.digest, ledgers.recorded_at, ledgers.erasures INTO STRICT head
    FROM ledger.ledgers WHERE ledgers.ledger_id = into_ledger FOR UPDATE;
    positions := '{}';
    versions := '{}';
    erasures := head.erasures;
    IF erasures <> known_erasures THEN
        refusal := 'keys_destroyed';
        RETURN;
    END IF;

    -- In a statement of its own: what the one above sees, it may have seen before it had the lock.
    SELECT
        EXISTS (
            SELECT FROM ledger.root_keys AS live WHERE live.root_key = wrapped_by AND live.retired_at IS NULL
        ) AS has_root_key,
        EXISTS (
            SELECT FROM ledger.events AS known
            WHERE known.ledger_id = into_ledger AND known.event_id = ANY (event_ids)
        ) OR NOT are_apart AND cardinality(event_ids) > (
            SELECT count(DISTINCT given.event_id) FROM unnest(event_ids) AS given (event_id)
        ) AS has_repeats,
        told IS NOT NULL AND EXISTS (
            SELECT FROM projections.generations AS kept
            WHERE kept.projection = 'facts' AND kept.state = 'live' AND kept.version = told_by
        ) AS keeps_facts
    INTO seen;
    IF wrapped_by IS NOT NULL AND NOT seen.has_root_key THEN
        refusal := 'root_key_retired';
        RETURN;
    END IF;
    moment := greatest(clock_timestamp(), head.recorded_at);

    IF seen.has_repeats THEN
        given_ids := event_ids;
        -- What is new, by its place in the batch: ids that are in the log, or came earlier in the batch, are left out.
        fresh := ARRAY(
            SELECT min(given.at)::int
            FROM unnest(event_ids) WITH ORDINALITY AS given (event_id, at)
            WHERE NOT EXISTS (
                SELECT FROM ledger.events AS known
                WHERE known.ledger_id = into_ledger AND known.event_id = given.event_id
            )
            GROUP BY given.event_id
        );
        SELECT
            array_agg(event_ids[new.at] ORDER BY new.at), array_agg(stream_ids[new.at] ORDER BY new.at),
            array_agg(topics[new.at] ORDER BY new.at), array_agg(states[new.at] ORDER BY new.at),
            array_agg(encodings[new.at] ORDER BY new.at), array_agg(occurred_ats[new.at] ORDER BY new.at),
            array_agg(sources[new.at] ORDER BY new.at), array_agg(metadatas[new.at] ORDER BY new.at),
            array_agg(expected_versions[new.at] ORDER BY new.at), array_agg(told[new.at] ORDER BY new.at)
        INTO event_ids, stream_ids, topics, states, encodings, occurred_ats, sources, metadatas, expected_versions, told
        FROM unnest(fresh) AS new (at);
        SELECT array_agg(given.key_id), array_agg(given.wrapped_key)
        INTO key_ids, wrapped_keys
        FROM unnest(key_ids, wrapped_keys) AS given (key_id, wrapped_key)
        WHERE uuid_send(given.key_id) IN (
            SELECT substring(used.state FROM 1 FOR 16) FROM unnest(states) AS used (state)
        );
    END IF;

    IF cardinality(event_ids) > 0 THEN
        -- The version each event gets.
        IF are_apart THEN
            versions := ARRAY(
                SELECT 1 + coalesce(
                    (
                        SELECT e.stream_version FROM ledger.events AS e
                        WHERE e.ledger_id = into_ledger AND e.stream_id = stream_ids[new.at]
                        ORDER BY e.stream_version DESC
                        LIMIT 1
                    ),
                    0
                )
                FROM generate_series(1, cardinality(event_ids)) AS new (at)
            );
        ELSE
            versions := ARRAY(
                SELECT
                    coalesce(
                        (
                            SELECT e.stream_version FROM ledger.events AS e
                            WHERE e.ledger_id = into_ledger AND e.stream_id = stream_ids[new.at]
                            ORDER BY e.stream_version DESC
                            LIMIT 1
                        ),
                        0
                    ) + (row_number() OVER (PARTITION BY stream_ids[new.at] ORDER BY new.at))::int
                FROM generate_series(1, cardinality(event_ids)) AS new (at)
                ORDER BY new.at
            );
        END IF;

        IF expected_versions IS NOT NULL THEN
            SELECT
                stream_ids[new.at] AS stream_id, expected_versions[new.at] AS expected, versions[new.at] - 1 AS actual
            INTO wrong
            FROM generate_series(1, cardinality(event_ids)) AS new (at)
            WHERE expected_versions[new.at] <> versions[new.at] - 1
            ORDER BY new.at
            LIMIT 1;
            IF FOUND THEN
                RAISE EXCEPTION 'expected version % of %, found %', wrong.expected, wrong.stream_id, wrong.actual
                    USING ERRCODE = 'BL001', DETAIL = concat_ws(' ', wrong.expected, wrong.actual, wrong.stream_id);
            END IF;
        END IF;

        IF cardinality(key_ids) > 0 THEN
            INSERT INTO ledger.body_keys (ledger_id, key_id, wrapped, root_key)
            SELECT
                into_ledger, key_ids[used.at], wrapped_keys[used.at],
                CASE WHEN wrapped_keys[used.at] IS NOT NULL THEN wrapped_by END
            FROM generate_series(1, cardinality(key_ids)) AS used (at)
            WHERE NOT EXISTS (
                SELECT FROM ledger.body_keys AS known
                WHERE known.ledger_id = into_ledger AND known.key_id = key_ids[used.at]
            );
        END IF;

        -- The chain goes on, as ledger/chain.py words it.
        running := head.digest;
        FOR at IN 1..cardinality(event_ids) LOOP
            running := sha256(
                running || '\x01'::bytea || int4send(into_ledger) || int8send(head.position + at)
                    || int4send(versions[at]) || int2send(encodings[at])
                    || timestamptz_send(occurred_ats[at]) || timestamptz_send(moment) || uuid_send(event_ids[at])
                    || ledger.sized(stream_ids[at], topics[at], sources[at], metadatas[at]) || sha256(states[at])
            );
            digests := array_append(digests, running);
            positions := array_append(positions, head.position + at);
        END LOOP;

        INSERT INTO ledger.events (
            ledger_id, position, stream_id, stream_version, event_id, topic, state, encoding,
            occurred_at, recorded_at, source, metadata, digest
        )
        SELECT
            into_ledger, head.position + new.at, stream_ids[new.at], versions[new.at], event_ids[new.at],
            topics[new.at], states[new.at], encodings[new.at], occurred_ats[new.at], moment, sources[new.at],
            metadatas[new.at], digests[new.at]
        FROM generate_series(1, cardinality(event_ids)) AS new (at);

        IF seen.keeps_facts THEN
            micros := extract(epoch FROM moment) * 1000000;
            INSERT INTO projections.facts (ledger_id, position, stream_id, stream_version, alone, told)
            SELECT
                into_ledger, head.position + new.at, stream_ids[new.at], versions[new.at], true,
                '\x9197cf'::bytea || int8send(head.position + new.at)
                    || '\xd7ff'::bytea || int8send((micros % 1000000 * 1000) << 34 | (micros / 1000000)) || told[new.at]
            FROM generate_series(1, cardinality(event_ids)) AS new (at)
            WHERE told[new.at] IS NOT NULL
            ON CONFLICT DO NOTHING;
        END IF;

        UPDATE ledger.ledgers
        SET position = head.position + cardinality(event_ids), recorded_at = moment, digest = running
        WHERE ledgers.ledger_id = into_ledger;
        PERFORM pg_notify('ledger_events', into_ledger::text);
    END IF;

    IF seen.has_repeats THEN
        SELECT
            array_agg(e.position ORDER BY given.at), array_agg(e.stream_version ORDER BY given.at),
            array_agg(given.at <> ALL (fresh) ORDER BY given.at)
        INTO positions, versions, duplicates
        FROM unnest(given_ids) WITH ORDINALITY AS given (event_id, at)
        JOIN ledger.events AS e ON e.ledger_id = into_ledger AND e.event_id = given.event_id;
    ELSE
        duplicates := array_fill(false, ARRAY[cardinality(event_ids)]);
    END IF;
END
$$;

REVOKE ALL ON FUNCTION ledger.append_events FROM PUBLIC;

COMMENT ON FUNCTION ledger.append_events IS 'Appends a batch under the head''s lock; see migrations/0001 and 0008.';

DO $$
DECLARE
    place regclass;
BEGIN
    FOR place IN
        SELECT c.oid
        FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname ~ '^webhook_logs_[0-9]+$' AND c.relname = 'webhook_logs' AND c.relkind = 'r'
    LOOP
        EXECUTE format('ALTER TABLE %s ADD COLUMN body text', place);
        EXECUTE format('ALTER TABLE %s ALTER COLUMN body SET STORAGE EXTERNAL', place);
        EXECUTE format('ALTER TABLE %s SET (toast_tuple_target = 8160)', place);
    END LOOP;
END
$$;

SELECT projections.show(projection, generation)
FROM projections.generations
WHERE projection = 'webhook_logs' AND state = 'live';

CREATE OR REPLACE VIEW projections.recorded_webhooks AS
SELECT
    w.ledger_id,
    w.position,
    w.id,
    w.ledger,
    w.webhook_type,
    CASE
        WHEN w.in_log THEN convert_from(e.state, 'UTF8')::jsonb
        WHEN w.body IS NOT NULL THEN w.body::jsonb
        ELSE w.payload
    END AS payload,
    w.status,
    w.error_message,
    w.cal_com_event_id,
    w.duration_ms,
    w.created_at
FROM projections.webhook_logs AS w
LEFT JOIN ledger.events AS e ON e.ledger_id = w.ledger_id AND e.position = w.position AND w.in_log;
