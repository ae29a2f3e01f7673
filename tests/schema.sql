-- The schema of a migrated database as pg_dump tells it, for reading and for comparing; nothing runs this file.
-- A migration changed it on purpose: REFRESH_SCHEMA=1 .venv/bin/pytest tests/test_sql.py

CREATE SCHEMA access;

CREATE SCHEMA booking_attendees_0;

CREATE SCHEMA booking_attendees_1;

CREATE SCHEMA calendar_events_0;

CREATE SCHEMA calendar_events_1;

CREATE SCHEMA facts_0;

CREATE SCHEMA facts_1;

CREATE SCHEMA interop;

CREATE SCHEMA ledger;

CREATE SCHEMA projections;

CREATE SCHEMA shown;

CREATE SCHEMA sync_lag_0;

CREATE SCHEMA sync_lag_1;

CREATE SCHEMA webhook_logs_0;

CREATE SCHEMA webhook_logs_1;

CREATE FUNCTION access.guard_readers() RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    one record;
BEGIN
    PERFORM access.guard_shown();
    PERFORM access.guard_table('ledger.deliveries');
    FOR one IN SELECT view_id, name FROM access.our_views() LOOP
        IF one.name = 'projection_status' THEN
            GRANT SELECT ON public.projection_status TO booking_ledger_bound_reader;
        ELSE
            PERFORM access.guard_view(one.view_id::regclass);
        END IF;
    END LOOP;
    GRANT SELECT ON projections.ledger_names, projections.logged_bodies
        TO booking_ledger_reader, booking_ledger_bound_reader;
    GRANT SELECT ON access.readers TO booking_ledger_bound_reader;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_policy WHERE polrelid = 'access.readers'::regclass) THEN
        ALTER TABLE access.readers ENABLE ROW LEVEL SECURITY;
        CREATE POLICY everything ON access.readers FOR SELECT TO booking_ledger_auditor USING (true);
        CREATE POLICY oneself ON access.readers FOR SELECT TO booking_ledger_bound_reader USING (role = current_user);
    END IF;
END
$$;

CREATE FUNCTION access.guard_shown() RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    place regclass;
BEGIN
    FOR place IN
        SELECT c.oid FROM pg_catalog.pg_class AS c WHERE c.relnamespace = 'shown'::regnamespace AND c.relkind = 'v'
    LOOP
        PERFORM access.guard_view(place);
    END LOOP;
    FOR place IN
        SELECT DISTINCT part.oid
        FROM pg_catalog.pg_class AS v
        JOIN pg_catalog.pg_rewrite AS r ON r.ev_class = v.oid
        JOIN pg_catalog.pg_depend AS d
            ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
        JOIN pg_catalog.pg_class AS part ON part.oid = d.refobjid AND part.relkind = 'r'
        WHERE v.relnamespace = 'shown'::regnamespace
    LOOP
        PERFORM access.guard_table(place);
    END LOOP;
END
$$;

CREATE FUNCTION access.guard_table(place regclass) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    EXECUTE format('GRANT SELECT ON %s TO booking_ledger_reader, booking_ledger_bound_reader', place);
    IF EXISTS (SELECT FROM pg_catalog.pg_policy WHERE polrelid = place) THEN
        RETURN;
    END IF;
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', place);
    EXECUTE format(
        'CREATE POLICY application ON %s TO booking_ledger_application, booking_ledger_projector USING (true)', place
    );
    EXECUTE format(
        'CREATE POLICY everything ON %s FOR SELECT TO booking_ledger_reader, booking_ledger_auditor USING (true)', place
    );
    EXECUTE format(
        'CREATE POLICY own_ledger ON %s FOR SELECT TO booking_ledger_bound_reader USING '
            '(ledger_id = (SELECT r.ledger_id FROM access.readers AS r WHERE r.role = current_user))',
        place
    );
END
$$;

CREATE FUNCTION access.guard_view(place regclass) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    EXECUTE format('GRANT SELECT ON %s TO booking_ledger_reader, booking_ledger_bound_reader', place);
    EXECUTE format('ALTER VIEW %s SET (security_invoker = true)', place);
END
$$;

CREATE FUNCTION access.has_roles() RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
    SELECT
        c.relowner = pg_catalog.to_regrole('booking_ledger_owner')
        AND pg_catalog.to_regrole('booking_ledger_projector') IS NOT NULL
        AND pg_catalog.to_regrole('booking_ledger_bound_reader') IS NOT NULL
    FROM pg_catalog.pg_class AS c
    WHERE c.oid = 'ledger.events'::regclass
$$;

CREATE FUNCTION access.is_bound(role name) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
    SELECT EXISTS (
        SELECT
        FROM pg_catalog.pg_auth_members AS m
        JOIN pg_catalog.pg_roles AS bound ON bound.oid = m.roleid AND bound.rolname = 'booking_ledger_bound_reader'
        JOIN pg_catalog.pg_roles AS who ON who.oid = m.member AND who.rolname = role
    )
$$;

CREATE FUNCTION access.our_schemas() RETURNS TABLE(schema_id oid, name name)
    LANGUAGE sql STABLE
    AS $_$
    SELECT n.oid, n.nspname
    FROM pg_catalog.pg_namespace AS n
    WHERE
        n.nspname IN ('ledger', 'projections', 'shown', 'interop', 'access')
        OR EXISTS (
            SELECT FROM projections.generations AS g WHERE n.nspname ~ ('^' || g.projection || '_[0-9]+$')
        )
$_$;

CREATE FUNCTION access.our_views() RETURNS TABLE(view_id oid, name name)
    LANGUAGE sql STABLE
    AS $$
    WITH RECURSIVE made_of AS (
        SELECT DISTINCT v.oid AS view_id, v.relname, v.relowner, d.refobjid AS part_id
        FROM pg_catalog.pg_class AS v
        JOIN pg_catalog.pg_rewrite AS r ON r.ev_class = v.oid
        JOIN pg_catalog.pg_depend AS d
            ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
        WHERE v.relkind = 'v' AND v.relnamespace = 'public'::regnamespace AND d.refobjid <> v.oid
    ), ours AS (
        SELECT m.view_id, m.relname, m.relowner
        FROM made_of AS m
        JOIN pg_catalog.pg_class AS part ON part.oid = m.part_id
        WHERE part.relnamespace IN (SELECT schema_id FROM access.our_schemas())
        UNION
        SELECT m.view_id, m.relname, m.relowner
        FROM made_of AS m
        JOIN ours AS part ON part.view_id = m.part_id
    )
    SELECT DISTINCT view_id, relname
    FROM ours
    WHERE relowner = (SELECT relowner FROM pg_catalog.pg_class WHERE oid = 'ledger.events'::regclass)
$$;

CREATE FUNCTION interop.refuse_encoding(encoding smallint) RETURNS bytea
    LANGUAGE plpgsql STABLE
    AS $$
BEGIN
    RAISE EXCEPTION 'a body is stored in encoding %, which SQL cannot read', encoding
        USING ERRCODE = 'feature_not_supported', HINT = 'Read through PERSISTENCE_MODULE=ledger.interop.';
END
$$;

CREATE FUNCTION interop.refuse_write() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'interop.stored_events is for reading: % refused', lower(TG_OP)
        USING ERRCODE = 'feature_not_supported', HINT = 'Write through PERSISTENCE_MODULE=ledger.interop.';
END
$$;

CREATE FUNCTION ledger.append_events(into_ledger integer, event_ids uuid[], stream_ids text[], topics text[], states bytea[], encodings smallint[], occurred_ats timestamp with time zone[], sources text[], metadatas text[], expected_versions integer[], key_ids uuid[], wrapped_keys bytea[], wrapped_by text, known_erasures bigint, told bytea[], told_by integer, are_apart boolean, OUT refusal text, OUT erasures bigint, OUT positions bigint[], OUT versions integer[], OUT duplicates boolean[]) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_encoding TO 'UTF8'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_material TO 'off'
    SET enable_bitmapscan TO 'off'
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

COMMENT ON FUNCTION ledger.append_events(into_ledger integer, event_ids uuid[], stream_ids text[], topics text[], states bytea[], encodings smallint[], occurred_ats timestamp with time zone[], sources text[], metadatas text[], expected_versions integer[], key_ids uuid[], wrapped_keys bytea[], wrapped_by text, known_erasures bigint, told bytea[], told_by integer, are_apart boolean, OUT refusal text, OUT erasures bigint, OUT positions bigint[], OUT versions integer[], OUT duplicates boolean[]) IS 'Appends a batch under the head''s lock; see migrations/0001 and 0008.';

CREATE FUNCTION ledger.destroy_keys(of_ledger integer, key_ids uuid[]) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
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

COMMENT ON FUNCTION ledger.destroy_keys(of_ledger integer, key_ids uuid[]) IS 'Bodies sealed under these keys cannot be opened any more; the chain still holds.';

CREATE TABLE ledger.body_keys (
    ledger_id integer NOT NULL,
    key_id uuid NOT NULL,
    wrapped bytea,
    root_key text,
    CONSTRAINT body_keys_wrapped_by_one CHECK (((wrapped IS NULL) OR (root_key IS NOT NULL))),
    CONSTRAINT body_keys_wrapped_length CHECK ((octet_length(wrapped) = 60))
);
ALTER TABLE ONLY ledger.body_keys ALTER COLUMN wrapped SET STORAGE PLAIN;

CREATE FUNCTION ledger.forget_keys(of_ledger integer, key_ids uuid[]) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 DELETE FROM ledger.body_keys
   WHERE ((body_keys.ledger_id = forget_keys.of_ledger) AND (body_keys.key_id = ANY (forget_keys.key_ids)));
END;

CREATE FUNCTION ledger.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'the event log is append-only: % refused', lower(TG_OP)
        USING ERRCODE = 'restrict_violation', HINT = 'Append a correcting event instead.';
END
$$;

CREATE FUNCTION ledger.refuse_forgetting_erasures() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'erasures are kept, or who was erased could come back: % refused', lower(TG_OP)
        USING ERRCODE = 'restrict_violation';
END
$$;

CREATE FUNCTION ledger.refuse_key_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'key % was destroyed and stays so', OLD.key_id
        USING ERRCODE = 'restrict_violation';
END
$$;

CREATE FUNCTION ledger.retire_root_keys(kept text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    PERFORM FROM ledger.ledgers ORDER BY ledger_id FOR UPDATE;
    UPDATE ledger.root_keys SET retired_at = clock_timestamp() WHERE root_key <> kept AND retired_at IS NULL;
END
$$;

CREATE FUNCTION ledger.sized(VARIADIC texts text[]) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN SUBSTRING(array_send(texts) FROM 21);

CREATE FUNCTION projections.add_index(projection text, generation integer, name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET max_parallel_maintenance_workers TO '0'
    AS $$
DECLARE
    pattern text := projections.schema_of(projection, 0);
BEGIN
    EXECUTE replace(
        pg_get_indexdef(format('%I.%I', pattern, name)::regclass),
        format(' ON %I.', pattern),
        format(' ON %I.', projections.schema_of(projection, generation))
    );
END
$$;

CREATE FUNCTION projections.analyze_tables(projection text, generation integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    place regclass;
    named text;
BEGIN
    FOR place, named IN
        SELECT c.oid, string_agg(quote_ident(a.attname), ', ')
        FROM pg_class AS c
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
        WHERE c.relnamespace = projections.schema_of(projection, generation)::regnamespace
          AND c.relkind = 'r'
          AND (
              EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND a.attnum = ANY(i.indkey))
              OR EXISTS (
                  SELECT FROM pg_constraint AS r
                  WHERE r.conrelid = c.oid AND r.contype = 'c' AND a.attnum = ANY(r.conkey)
              )
          )
        GROUP BY c.oid
    LOOP
        EXECUTE format('ANALYZE %s (%s)', place, named);
    END LOOP;
END
$$;

CREATE FUNCTION projections.begin_live(projection text, version integer) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM projections.create_tables(projection, 1);
    PERFORM projections.add_index(projection, 1, missing.name) FROM projections.missing_indexes(projection, 1) AS missing;
    PERFORM projections.show(projection, 1);
    INSERT INTO projections.generations (projection, generation, version, state, live_at)
    VALUES (projection, 1, version, 'live', now());
END
$$;

CREATE FUNCTION projections.create_tables(projection text, generation integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    pattern record;
    own text := projections.schema_of(projection, generation);
BEGIN
    EXECUTE format('CREATE SCHEMA %I', own);
    FOR pattern IN
        SELECT c.oid::regclass AS place, c.relname, array_to_string(c.reloptions, ', ') AS options
        FROM pg_class AS c
        WHERE c.relnamespace = projections.schema_of(projection, 0)::regnamespace AND c.relkind = 'r'
        ORDER BY c.relname
    LOOP
        EXECUTE format(
            'CREATE TABLE %I.%I (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)',
            own, pattern.relname, pattern.place
        );
        IF pattern.options IS NOT NULL THEN
            EXECUTE format('ALTER TABLE %I.%I SET (%s)', own, pattern.relname, pattern.options);
        END IF;
    END LOOP;
END
$$;

CREATE FUNCTION projections.drop_tables(projection text, generation integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    own text := projections.schema_of(projection, generation);
    place regclass;
BEGIN
    IF generation = 0 OR to_regnamespace(quote_ident(own)) IS NULL THEN
        RETURN;
    END IF;
    FOR place IN SELECT c.oid FROM pg_class AS c WHERE c.relnamespace = own::regnamespace AND c.relkind = 'r' LOOP
        EXECUTE format('DROP TABLE %s', place);
    END LOOP;
    EXECUTE format('DROP SCHEMA %I', own);
END
$$;

CREATE FUNCTION projections.missing_indexes(projection text, generation integer) RETURNS TABLE(name text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT pattern.relname::text
    FROM pg_index AS i
    JOIN pg_class AS pattern ON pattern.oid = i.indexrelid
    WHERE pattern.relnamespace = projections.schema_of(projection, 0)::regnamespace
      AND NOT EXISTS (
          SELECT FROM pg_class AS made
          WHERE made.relnamespace = projections.schema_of(projection, generation)::regnamespace
            AND made.relname = pattern.relname
      )
    ORDER BY i.indnatts DESC, pattern.relname
$$;

CREATE FUNCTION projections.percentile_ms(buckets integer[], counts integer[], share double precision) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT round(power(1.02, bucket)::numeric, 3)::double precision
    FROM (
        SELECT bucket, sum(count) OVER (ORDER BY bucket) AS up_to, sum(count) OVER () AS total
        FROM unnest(buckets, counts) AS counted (bucket, count)
    ) AS summed
    WHERE up_to >= share * total
    ORDER BY bucket
    LIMIT 1
$$;

CREATE FUNCTION projections.schema_of(projection text, generation integer) RETURNS text
    LANGUAGE sql IMMUTABLE
    RETURN ((projection || '_'::text) || generation);

CREATE FUNCTION projections.show(projection text, generation integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    shown record;
BEGIN
    FOR shown IN
        SELECT
            c.relname,
            (
                SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
                FROM pg_attribute AS a
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            ) AS columns
        FROM pg_class AS c
        WHERE c.relnamespace = projections.schema_of(projection, generation)::regnamespace AND c.relkind = 'r'
        ORDER BY c.relname
    LOOP
        EXECUTE format(
            'CREATE OR REPLACE VIEW projections.%I AS SELECT %s FROM %I.%I',
            shown.relname, shown.columns, projections.schema_of(projection, generation), shown.relname
        );
        CONTINUE WHEN projection = 'facts'; -- which the application alone reads
        EXECUTE format(
            'CREATE OR REPLACE VIEW shown.%I AS SELECT %s FROM %I.%I',
            shown.relname, shown.columns, projections.schema_of(projection, generation), shown.relname
        );
    END LOOP;
    IF access.has_roles() THEN
        PERFORM access.guard_shown();
    END IF;
END
$$;

CREATE TABLE access.api_keys (
    key_id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL,
    role text NOT NULL,
    ledger_id integer,
    digest bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone,
    last_used_at timestamp with time zone,
    revoked_at timestamp with time zone,
    CONSTRAINT api_keys_digest_is_sha256 CHECK ((octet_length(digest) = 32)),
    CONSTRAINT api_keys_role_known CHECK ((role = ANY (ARRAY['viewer'::text, 'operator'::text, 'admin'::text])))
);

CREATE TABLE access.readers (
    role name NOT NULL,
    ledger_id integer NOT NULL
);

CREATE TABLE access.sessions (
    digest bytea NOT NULL,
    user_id uuid NOT NULL,
    opened_at timestamp with time zone DEFAULT now() NOT NULL,
    seen_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT sessions_digest_is_sha256 CHECK ((octet_length(digest) = 32))
);

CREATE TABLE access.users (
    user_id uuid NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    role text NOT NULL,
    ledger_id integer,
    password_hash text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    password_changed_at timestamp with time zone DEFAULT now() NOT NULL,
    last_signed_in_at timestamp with time zone,
    disabled_at timestamp with time zone,
    CONSTRAINT users_name_is_plain CHECK ((name ~ '^[a-z0-9][a-z0-9._@+-]{0,99}$'::text)),
    CONSTRAINT users_password_hash_is_argon2id CHECK ((password_hash ~~ '$argon2id$%'::text)),
    CONSTRAINT users_role_known CHECK ((role = ANY (ARRAY['viewer'::text, 'operator'::text, 'admin'::text])))
);

CREATE TABLE access.webhook_secrets (
    fingerprint text NOT NULL,
    last_used_at timestamp with time zone NOT NULL,
    CONSTRAINT webhook_secrets_fingerprint_is_short CHECK ((fingerprint ~ '^[0-9a-f]{4}$'::text))
);

CREATE TABLE booking_attendees_0.booking_attendees (
    ledger_id integer NOT NULL,
    uid text NOT NULL COLLATE pg_catalog."C",
    email text NOT NULL COLLATE pg_catalog."C",
    ledger text NOT NULL,
    name text,
    phone text,
    time_zone text,
    no_show boolean NOT NULL,
    removed boolean NOT NULL
);

CREATE TABLE booking_attendees_1.booking_attendees (
    ledger_id integer NOT NULL,
    uid text NOT NULL COLLATE pg_catalog."C",
    email text NOT NULL COLLATE pg_catalog."C",
    ledger text NOT NULL,
    name text,
    phone text,
    time_zone text,
    no_show boolean NOT NULL,
    removed boolean NOT NULL
);

CREATE TABLE calendar_events_0.booking_statistics (
    ledger_id integer NOT NULL,
    day date NOT NULL,
    event_type text NOT NULL,
    host_email text NOT NULL,
    ledger text NOT NULL,
    bookings integer NOT NULL,
    scheduled integer NOT NULL,
    confirmed integer NOT NULL,
    completed integer NOT NULL,
    no_show integer NOT NULL,
    cancelled integer NOT NULL,
    rescheduled integer NOT NULL,
    minutes_booked bigint NOT NULL,
    lead_minutes bigint NOT NULL,
    led_bookings integer NOT NULL,
    ahead boolean NOT NULL,
    CONSTRAINT booking_statistics_ahead_counted CHECK ((ahead = ((scheduled > 0) OR (confirmed > 0))))
)
WITH (fillfactor='80');

CREATE TABLE calendar_events_0.booking_statistics_by_month (
    ledger_id integer NOT NULL,
    month date NOT NULL,
    event_type text NOT NULL,
    host_email text NOT NULL,
    ledger text NOT NULL,
    bookings integer NOT NULL,
    scheduled integer NOT NULL,
    confirmed integer NOT NULL,
    completed integer NOT NULL,
    no_show integer NOT NULL,
    cancelled integer NOT NULL,
    rescheduled integer NOT NULL,
    minutes_booked bigint NOT NULL,
    lead_minutes bigint NOT NULL,
    led_bookings integer NOT NULL
)
WITH (fillfactor='80');

CREATE TABLE calendar_events_0.booking_statistics_in_all (
    ledger_id integer NOT NULL,
    unit text NOT NULL COLLATE pg_catalog."C",
    first_day date NOT NULL,
    bookings integer NOT NULL,
    scheduled integer NOT NULL,
    confirmed integer NOT NULL,
    completed integer NOT NULL,
    no_show integer NOT NULL,
    cancelled integer NOT NULL,
    rescheduled integer NOT NULL,
    minutes_booked bigint NOT NULL,
    lead_minutes bigint NOT NULL,
    led_bookings integer NOT NULL,
    CONSTRAINT booking_statistics_in_all_unit_known CHECK ((unit = ANY (ARRAY['day'::text, 'month'::text])))
)
WITH (fillfactor='80');

CREATE TABLE calendar_events_0.calendar_events (
    ledger_id integer NOT NULL,
    id uuid NOT NULL,
    cal_com_event_id text NOT NULL COLLATE pg_catalog."C",
    ledger text NOT NULL,
    salon_id text,
    client_id text,
    pet_id text,
    title text,
    description text,
    start_time timestamp with time zone,
    end_time timestamp with time zone,
    duration_minutes integer,
    status text NOT NULL,
    booking_status text NOT NULL,
    attendee_email text,
    attendee_name text,
    attendee_phone text,
    attendees jsonb NOT NULL,
    host_email text,
    host_name text,
    event_type text,
    location text,
    meeting_url text,
    appointment_id uuid NOT NULL,
    root_uid text NOT NULL COLLATE pg_catalog."C",
    rescheduled_from text,
    rescheduled_to text,
    paid boolean NOT NULL,
    no_show boolean NOT NULL,
    cancellation_reason text,
    cancelled_by text,
    rejection_reason text,
    recording_url text,
    metadata jsonb NOT NULL,
    doubts text[] NOT NULL,
    booking_number bigint,
    ical_uid text,
    started boolean NOT NULL,
    ended boolean NOT NULL,
    marked boolean NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    "position" bigint NOT NULL,
    synced_at timestamp with time zone NOT NULL,
    CONSTRAINT calendar_events_booking_status_known CHECK ((booking_status = ANY (ARRAY['pending'::text, 'accepted'::text, 'cancelled'::text, 'rejected'::text, 'rescheduled'::text]))),
    CONSTRAINT calendar_events_status_known CHECK ((status = ANY (ARRAY['scheduled'::text, 'confirmed'::text, 'completed'::text, 'no_show'::text, 'cancelled'::text, 'rescheduled'::text])))
)
WITH (fillfactor='80');

CREATE TABLE calendar_events_1.booking_statistics (
    ledger_id integer NOT NULL,
    day date NOT NULL,
    event_type text NOT NULL,
    host_email text NOT NULL,
    ledger text NOT NULL,
    bookings integer NOT NULL,
    scheduled integer NOT NULL,
    confirmed integer NOT NULL,
    completed integer NOT NULL,
    no_show integer NOT NULL,
    cancelled integer NOT NULL,
    rescheduled integer NOT NULL,
    minutes_booked bigint NOT NULL,
    lead_minutes bigint NOT NULL,
    led_bookings integer NOT NULL,
    ahead boolean NOT NULL,
    CONSTRAINT booking_statistics_ahead_counted CHECK ((ahead = ((scheduled > 0) OR (confirmed > 0))))
)
WITH (fillfactor='80');

CREATE TABLE calendar_events_1.booking_statistics_by_month (
    ledger_id integer NOT NULL,
    month date NOT NULL,
    event_type text NOT NULL,
    host_email text NOT NULL,
    ledger text NOT NULL,
    bookings integer NOT NULL,
    scheduled integer NOT NULL,
    confirmed integer NOT NULL,
    completed integer NOT NULL,
    no_show integer NOT NULL,
    cancelled integer NOT NULL,
    rescheduled integer NOT NULL,
    minutes_booked bigint NOT NULL,
    lead_minutes bigint NOT NULL,
    led_bookings integer NOT NULL
)
WITH (fillfactor='80');

CREATE TABLE calendar_events_1.booking_statistics_in_all (
    ledger_id integer NOT NULL,
    unit text NOT NULL COLLATE pg_catalog."C",
    first_day date NOT NULL,
    bookings integer NOT NULL,
    scheduled integer NOT NULL,
    confirmed integer NOT NULL,
    completed integer NOT NULL,
    no_show integer NOT NULL,
    cancelled integer NOT NULL,
    rescheduled integer NOT NULL,
    minutes_booked bigint NOT NULL,
    lead_minutes bigint NOT NULL,
    led_bookings integer NOT NULL,
    CONSTRAINT booking_statistics_in_all_unit_known CHECK ((unit = ANY (ARRAY['day'::text, 'month'::text])))
)
WITH (fillfactor='80');

CREATE TABLE calendar_events_1.calendar_events (
    ledger_id integer NOT NULL,
    id uuid NOT NULL,
    cal_com_event_id text NOT NULL COLLATE pg_catalog."C",
    ledger text NOT NULL,
    salon_id text,
    client_id text,
    pet_id text,
    title text,
    description text,
    start_time timestamp with time zone,
    end_time timestamp with time zone,
    duration_minutes integer,
    status text NOT NULL,
    booking_status text NOT NULL,
    attendee_email text,
    attendee_name text,
    attendee_phone text,
    attendees jsonb NOT NULL,
    host_email text,
    host_name text,
    event_type text,
    location text,
    meeting_url text,
    appointment_id uuid NOT NULL,
    root_uid text NOT NULL COLLATE pg_catalog."C",
    rescheduled_from text,
    rescheduled_to text,
    paid boolean NOT NULL,
    no_show boolean NOT NULL,
    cancellation_reason text,
    cancelled_by text,
    rejection_reason text,
    recording_url text,
    metadata jsonb NOT NULL,
    doubts text[] NOT NULL,
    booking_number bigint,
    ical_uid text,
    started boolean NOT NULL,
    ended boolean NOT NULL,
    marked boolean NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    "position" bigint NOT NULL,
    synced_at timestamp with time zone NOT NULL,
    CONSTRAINT calendar_events_booking_status_known CHECK ((booking_status = ANY (ARRAY['pending'::text, 'accepted'::text, 'cancelled'::text, 'rejected'::text, 'rescheduled'::text]))),
    CONSTRAINT calendar_events_status_known CHECK ((status = ANY (ARRAY['scheduled'::text, 'confirmed'::text, 'completed'::text, 'no_show'::text, 'cancelled'::text, 'rescheduled'::text])))
)
WITH (fillfactor='80');

CREATE TABLE facts_0.facts (
    ledger_id integer NOT NULL,
    "position" bigint NOT NULL,
    stream_id text NOT NULL,
    stream_version integer NOT NULL,
    alone boolean NOT NULL,
    told bytea NOT NULL
);
ALTER TABLE ONLY facts_0.facts ALTER COLUMN told SET STORAGE EXTERNAL;

CREATE TABLE facts_1.facts (
    ledger_id integer NOT NULL,
    "position" bigint NOT NULL,
    stream_id text NOT NULL,
    stream_version integer NOT NULL,
    alone boolean NOT NULL,
    told bytea NOT NULL
);
ALTER TABLE ONLY facts_1.facts ALTER COLUMN told SET STORAGE EXTERNAL;

CREATE TABLE interop.snapshots (
    ledger_id integer NOT NULL,
    recorder text NOT NULL,
    originator_id text NOT NULL,
    originator_version bigint NOT NULL,
    topic text NOT NULL,
    state bytea NOT NULL
);

CREATE TABLE ledger.events (
    ledger_id integer NOT NULL,
    stream_version integer NOT NULL,
    "position" bigint NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    event_id uuid NOT NULL,
    encoding smallint NOT NULL,
    stream_id text NOT NULL,
    topic text NOT NULL,
    source text NOT NULL,
    metadata text NOT NULL,
    digest bytea NOT NULL,
    state bytea NOT NULL,
    CONSTRAINT events_position_from_one CHECK (("position" > 0)),
    CONSTRAINT events_source_known CHECK ((source = ANY (ARRAY['webhook'::text, 'link'::text, 'reconcile'::text, 'command'::text]))),
    CONSTRAINT events_stream_version_from_one CHECK ((stream_version > 0))
)
WITH (toast_tuple_target='8160');
ALTER TABLE ONLY ledger.events ALTER COLUMN state SET STORAGE EXTERNAL;

CREATE TABLE ledger.ledgers (
    ledger_id integer NOT NULL,
    name text NOT NULL,
    "position" bigint DEFAULT 0 NOT NULL,
    digest bytea NOT NULL,
    recorded_at timestamp with time zone DEFAULT '2000-01-01 00:00:00+00'::timestamp with time zone NOT NULL,
    event_id_key bytea NOT NULL,
    erasures bigint DEFAULT 0 NOT NULL,
    CONSTRAINT ledgers_digest_is_sha256 CHECK ((octet_length(digest) = 32)),
    CONSTRAINT ledgers_erasures_not_negative CHECK ((erasures >= 0)),
    CONSTRAINT ledgers_event_id_key_length CHECK ((octet_length(event_id_key) = 32)),
    CONSTRAINT ledgers_name_is_a_slug CHECK ((name ~ '^[a-z0-9][a-z0-9-]{0,62}$'::text)),
    CONSTRAINT ledgers_position_not_negative CHECK (("position" >= 0))
);

CREATE VIEW interop.stored_events AS
 SELECT stream_id AS originator_id,
    stream_version AS originator_version,
    topic,
        CASE encoding
            WHEN 0 THEN state
            ELSE interop.refuse_encoding(encoding)
        END AS state,
    "position" AS notification_id
   FROM ledger.events e
  WHERE (ledger_id = ( SELECT l.ledger_id
           FROM ledger.ledgers l
          WHERE (l.name = COALESCE(NULLIF(current_setting('booking_ledger.ledger'::text, true), ''::text), 'main'::text))));

COMMENT ON VIEW interop.stored_events IS 'The log of one ledger in the column names of the eventsourcing library; read-only.';

CREATE TABLE interop.tracking (
    ledger_id integer NOT NULL,
    recorder text NOT NULL,
    application_name text NOT NULL,
    notification_id bigint NOT NULL
);

CREATE TABLE ledger.deliveries (
    ledger_id integer NOT NULL,
    delivery_id uuid NOT NULL,
    received_at timestamp with time zone NOT NULL,
    outcome text NOT NULL,
    reason text,
    "position" bigint,
    duration_ms real NOT NULL,
    CONSTRAINT deliveries_duplicate_has_position CHECK (((outcome = 'duplicate'::text) = ("position" IS NOT NULL))),
    CONSTRAINT deliveries_outcome_known CHECK ((outcome = ANY (ARRAY['duplicate'::text, 'refused'::text])))
);

CREATE TABLE ledger.drift (
    ledger_id integer NOT NULL,
    stream_id text NOT NULL COLLATE pg_catalog."C",
    field text NOT NULL,
    found_at timestamp with time zone NOT NULL,
    kind text NOT NULL,
    ours text,
    theirs text,
    differed_since timestamp with time zone,
    sweep_id uuid,
    is_import boolean DEFAULT false NOT NULL,
    event_id uuid,
    healed_at timestamp with time zone,
    CONSTRAINT drift_healed_after_found CHECK ((healed_at >= found_at)),
    CONSTRAINT drift_kind_known CHECK ((kind = ANY (ARRAY['missing'::text, 'stale'::text, 'extra'::text])))
);

CREATE TABLE ledger.erased_events (
    ledger_id integer NOT NULL,
    "position" bigint NOT NULL,
    erasure_id uuid NOT NULL
);

CREATE TABLE ledger.erased_streams (
    ledger_id integer NOT NULL,
    stream_id text NOT NULL COLLATE pg_catalog."C",
    erasure_id uuid NOT NULL,
    is_gone boolean NOT NULL
);

CREATE TABLE ledger.erasures (
    ledger_id integer NOT NULL,
    erasure_id uuid NOT NULL,
    person_tag bytea,
    cause text NOT NULL,
    state text DEFAULT 'begun'::text NOT NULL,
    erased_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone,
    receipt jsonb,
    CONSTRAINT erasures_cause_known CHECK ((cause = ANY (ARRAY['request'::text, 'retention'::text]))),
    CONSTRAINT erasures_finished_when_done CHECK (((state = 'done'::text) = (finished_at IS NOT NULL))),
    CONSTRAINT erasures_of_a_person_or_of_age CHECK (((person_tag IS NULL) = (cause = 'retention'::text))),
    CONSTRAINT erasures_person_tag_is_sha256 CHECK ((octet_length(person_tag) = 32)),
    CONSTRAINT erasures_state_known CHECK ((state = ANY (ARRAY['begun'::text, 'redacted'::text, 'done'::text])))
);

CREATE TABLE ledger.questions (
    ledger_id integer NOT NULL,
    uid text NOT NULL COLLATE pg_catalog."C",
    reason text NOT NULL,
    since timestamp with time zone NOT NULL,
    times_asked integer DEFAULT 0 NOT NULL,
    asked_at timestamp with time zone,
    ask_at timestamp with time zone NOT NULL,
    CONSTRAINT questions_reason_known CHECK ((reason = ANY (ARRAY['doubt'::text, 'young'::text, 'unlisted'::text])))
);

CREATE TABLE ledger.root_keys (
    root_key text NOT NULL,
    secret bytea,
    made_at timestamp with time zone DEFAULT now() NOT NULL,
    retired_at timestamp with time zone,
    CONSTRAINT root_keys_is_an_id CHECK ((root_key ~ '^[0-9a-f]{8}$'::text)),
    CONSTRAINT root_keys_secret_length CHECK ((octet_length(secret) = 32))
);

CREATE TABLE ledger.schedule (
    ledger_id integer NOT NULL,
    job text NOT NULL,
    started_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone,
    error text
);

CREATE TABLE ledger.schema_migrations (
    version integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT schema_migrations_checksum_is_sha256 CHECK ((checksum ~ '^[0-9a-f]{64}$'::text))
);

CREATE TABLE ledger.sweeps (
    ledger_id integer NOT NULL,
    sweep_id uuid NOT NULL,
    kind text NOT NULL,
    cause text NOT NULL,
    state text NOT NULL,
    asked_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    after_updated_at timestamp with time zone,
    place text,
    is_listed boolean DEFAULT false NOT NULL,
    is_import boolean DEFAULT false NOT NULL,
    pages integer DEFAULT 0 NOT NULL,
    total integer,
    seen integer DEFAULT 0 NOT NULL,
    missing integer DEFAULT 0 NOT NULL,
    stale integer DEFAULT 0 NOT NULL,
    extra integer DEFAULT 0 NOT NULL,
    settled integer DEFAULT 0 NOT NULL,
    young integer DEFAULT 0 NOT NULL,
    unreadable integer DEFAULT 0 NOT NULL,
    observed integer DEFAULT 0 NOT NULL,
    error text,
    driver uuid,
    driver_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    driver_pid integer,
    driver_start timestamp with time zone,
    CONSTRAINT sweeps_cause_known CHECK ((cause = ANY (ARRAY['schedule'::text, 'request'::text, 'command'::text]))),
    CONSTRAINT sweeps_finished_when_done CHECK (((state = 'done'::text) = (finished_at IS NOT NULL))),
    CONSTRAINT sweeps_kind_known CHECK ((kind = ANY (ARRAY['incremental'::text, 'upcoming'::text, 'full'::text]))),
    CONSTRAINT sweeps_started_unless_waiting CHECK (((state = 'waiting'::text) = (started_at IS NULL))),
    CONSTRAINT sweeps_state_known CHECK ((state = ANY (ARRAY['waiting'::text, 'running'::text, 'done'::text])))
);

CREATE TABLE ledger.swept_bookings (
    ledger_id integer NOT NULL,
    sweep_id uuid NOT NULL,
    uid text NOT NULL COLLATE pg_catalog."C"
);

CREATE VIEW projections.booking_attendees AS
 SELECT ledger_id,
    uid,
    email,
    ledger,
    name,
    phone,
    time_zone,
    no_show,
    removed
   FROM booking_attendees_1.booking_attendees;

CREATE VIEW projections.booking_statistics AS
 SELECT ledger_id,
    day,
    event_type,
    host_email,
    ledger,
    bookings,
    scheduled,
    confirmed,
    completed,
    no_show,
    cancelled,
    rescheduled,
    minutes_booked,
    lead_minutes,
    led_bookings,
    ahead
   FROM calendar_events_1.booking_statistics;

CREATE VIEW projections.booking_statistics_by_month AS
 SELECT ledger_id,
    month,
    event_type,
    host_email,
    ledger,
    bookings,
    scheduled,
    confirmed,
    completed,
    no_show,
    cancelled,
    rescheduled,
    minutes_booked,
    lead_minutes,
    led_bookings
   FROM calendar_events_1.booking_statistics_by_month;

CREATE VIEW projections.booking_statistics_in_all AS
 SELECT ledger_id,
    unit,
    first_day,
    bookings,
    scheduled,
    confirmed,
    completed,
    no_show,
    cancelled,
    rescheduled,
    minutes_booked,
    lead_minutes,
    led_bookings
   FROM calendar_events_1.booking_statistics_in_all;

CREATE VIEW projections.calendar_events AS
 SELECT ledger_id,
    id,
    cal_com_event_id,
    ledger,
    salon_id,
    client_id,
    pet_id,
    title,
    description,
    start_time,
    end_time,
    duration_minutes,
    status,
    booking_status,
    attendee_email,
    attendee_name,
    attendee_phone,
    attendees,
    host_email,
    host_name,
    event_type,
    location,
    meeting_url,
    appointment_id,
    root_uid,
    rescheduled_from,
    rescheduled_to,
    paid,
    no_show,
    cancellation_reason,
    cancelled_by,
    rejection_reason,
    recording_url,
    metadata,
    doubts,
    booking_number,
    ical_uid,
    started,
    ended,
    marked,
    created_at,
    updated_at,
    "position",
    synced_at
   FROM calendar_events_1.calendar_events;

CREATE TABLE projections.checkpoints (
    projection text NOT NULL,
    ledger_id integer NOT NULL,
    generation integer NOT NULL,
    "position" bigint DEFAULT 0 NOT NULL,
    moved_at timestamp with time zone DEFAULT now() NOT NULL,
    state text DEFAULT 'running'::text NOT NULL,
    error text,
    CONSTRAINT checkpoints_position_not_negative CHECK (("position" >= 0)),
    CONSTRAINT checkpoints_state_known CHECK ((state = ANY (ARRAY['running'::text, 'failing'::text])))
);

CREATE VIEW projections.clients AS
 SELECT own.ledger_id,
    own.ledger,
    own.client_id,
    latest.attendee_name,
    latest.attendee_email,
    latest.attendee_phone,
    own.first_visit,
    own.last_visit,
    own.next_appointment,
    own.bookings,
    own.completed,
    own.no_show,
    own.cancelled,
    own.rescheduled,
    round(((own.no_show)::numeric / (NULLIF((own.completed + own.no_show), 0))::numeric), 4) AS no_show_rate
   FROM (( SELECT calendar_events.ledger_id,
            calendar_events.ledger,
            calendar_events.client_id,
            min(calendar_events.start_time) FILTER (WHERE (calendar_events.status = 'completed'::text)) AS first_visit,
            max(calendar_events.start_time) FILTER (WHERE (calendar_events.status = 'completed'::text)) AS last_visit,
            min(calendar_events.start_time) FILTER (WHERE ((calendar_events.status = ANY (ARRAY['scheduled'::text, 'confirmed'::text])) AND (calendar_events.start_time >= now()))) AS next_appointment,
            (count(*))::integer AS bookings,
            (count(*) FILTER (WHERE (calendar_events.status = 'completed'::text)))::integer AS completed,
            (count(*) FILTER (WHERE (calendar_events.status = 'no_show'::text)))::integer AS no_show,
            (count(*) FILTER (WHERE (calendar_events.status = 'cancelled'::text)))::integer AS cancelled,
            (count(*) FILTER (WHERE (calendar_events.status = 'rescheduled'::text)))::integer AS rescheduled
           FROM projections.calendar_events
          WHERE (calendar_events.client_id IS NOT NULL)
          GROUP BY calendar_events.ledger_id, calendar_events.ledger, calendar_events.client_id) own
     LEFT JOIN LATERAL ( SELECT c.attendee_name,
            c.attendee_email,
            c.attendee_phone
           FROM projections.calendar_events c
          WHERE ((c.client_id = own.client_id) AND (c.ledger_id = own.ledger_id) AND (c.start_time IS NOT NULL))
          ORDER BY c.start_time DESC
         LIMIT 1) latest ON (true));

CREATE VIEW projections.facts AS
 SELECT ledger_id,
    "position",
    stream_id,
    stream_version,
    alone,
    told
   FROM facts_1.facts;

CREATE TABLE projections.generations (
    projection text NOT NULL,
    generation integer NOT NULL,
    version integer NOT NULL,
    state text NOT NULL,
    phase text,
    paused boolean DEFAULT false NOT NULL,
    error text,
    driver text,
    driver_fence bigint DEFAULT 0 NOT NULL,
    driver_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    requested_at timestamp with time zone DEFAULT now() NOT NULL,
    filling_since timestamp with time zone,
    live_at timestamp with time zone,
    swap_ms real,
    CONSTRAINT generations_from_one CHECK ((generation > 0)),
    CONSTRAINT generations_phase_known CHECK ((phase = ANY (ARRAY['planning'::text, 'filling'::text, 'indexing'::text, 'catching_up'::text]))),
    CONSTRAINT generations_phase_while_building CHECK (((phase IS NOT NULL) = (state = 'building'::text))),
    CONSTRAINT generations_state_known CHECK ((state = ANY (ARRAY['building'::text, 'live'::text, 'retired'::text, 'cancelled'::text, 'dropped'::text])))
);

CREATE TABLE projections.leases (
    ledger_id integer NOT NULL,
    projection text NOT NULL,
    holder uuid NOT NULL,
    fence bigint DEFAULT 1 NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    session_pid integer,
    session_start timestamp with time zone
);

CREATE VIEW projections.ledger_names AS
 SELECT ledger_id,
    name
   FROM ledger.ledgers;

CREATE VIEW projections.logged_bodies AS
 SELECT ledger_id,
    "position",
    state
   FROM ledger.events;

CREATE TABLE projections.parked_events (
    ledger_id integer NOT NULL,
    projection text NOT NULL,
    generation integer NOT NULL,
    "position" bigint NOT NULL,
    stream_id text NOT NULL,
    error text NOT NULL,
    attempts integer NOT NULL,
    parked_at timestamp with time zone DEFAULT now() NOT NULL,
    skipped_at timestamp with time zone
);

CREATE TABLE projections.rebuild_ranges (
    projection text NOT NULL,
    generation integer NOT NULL,
    ledger_id integer NOT NULL,
    after_position bigint NOT NULL,
    last_position bigint NOT NULL,
    done_at timestamp with time zone,
    CONSTRAINT rebuild_ranges_not_empty CHECK ((after_position < last_position))
);

CREATE TABLE webhook_logs_1.webhook_logs (
    ledger_id integer NOT NULL,
    "position" bigint NOT NULL,
    id uuid NOT NULL,
    ledger text NOT NULL,
    webhook_type text NOT NULL,
    payload jsonb,
    in_log boolean NOT NULL,
    status text NOT NULL,
    error_message text,
    cal_com_event_id text,
    duration_ms real,
    created_at timestamp with time zone NOT NULL,
    body text,
    CONSTRAINT webhook_logs_status_known CHECK ((status = ANY (ARRAY['processing'::text, 'success'::text, 'error'::text])))
)
WITH (toast_tuple_target='8160');
ALTER TABLE ONLY webhook_logs_1.webhook_logs ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE VIEW projections.webhook_logs AS
 SELECT ledger_id,
    "position",
    id,
    ledger,
    webhook_type,
    payload,
    in_log,
    status,
    error_message,
    cal_com_event_id,
    duration_ms,
    created_at,
    body
   FROM webhook_logs_1.webhook_logs;

CREATE VIEW projections.recorded_webhooks AS
 SELECT w.ledger_id,
    w."position",
    w.id,
    w.ledger,
    w.webhook_type,
        CASE
            WHEN w.in_log THEN (convert_from(e.state, 'UTF8'::name))::jsonb
            WHEN (w.body IS NOT NULL) THEN (w.body)::jsonb
            ELSE w.payload
        END AS payload,
    w.status,
    w.error_message,
    w.cal_com_event_id,
    w.duration_ms,
    w.created_at
   FROM (projections.webhook_logs w
     LEFT JOIN ledger.events e ON (((e.ledger_id = w.ledger_id) AND (e."position" = w."position") AND w.in_log)));

CREATE TABLE sync_lag_1.sync_lag (
    ledger_id integer NOT NULL,
    minute timestamp with time zone NOT NULL,
    ledger text NOT NULL,
    deliveries integer NOT NULL,
    recording_buckets integer[] NOT NULL,
    recording_counts integer[] NOT NULL,
    recording_ms_max double precision NOT NULL,
    projecting_buckets integer[] NOT NULL,
    projecting_counts integer[] NOT NULL,
    projecting_ms_max double precision NOT NULL
);

CREATE VIEW projections.sync_lag AS
 SELECT ledger_id,
    minute,
    ledger,
    deliveries,
    recording_buckets,
    recording_counts,
    recording_ms_max,
    projecting_buckets,
    projecting_counts,
    projecting_ms_max
   FROM sync_lag_1.sync_lag;

CREATE TABLE projections.visible_pages (
    ledger_id integer NOT NULL,
    "position" bigint NOT NULL,
    synced_at timestamp with time zone NOT NULL
);

CREATE VIEW shown.booking_attendees AS
 SELECT ledger_id,
    uid,
    email,
    ledger,
    name,
    phone,
    time_zone,
    no_show,
    removed
   FROM booking_attendees_1.booking_attendees;

CREATE VIEW public.booking_attendees AS
 SELECT ledger,
    uid,
    email,
    name,
    phone,
    time_zone,
    no_show,
    removed
   FROM shown.booking_attendees;

COMMENT ON VIEW public.booking_attendees IS 'One row per attendee of a booking, those who left included.';

COMMENT ON COLUMN public.booking_attendees.ledger IS 'The log that the booking is in.';

COMMENT ON COLUMN public.booking_attendees.uid IS 'calendar_events.cal_com_event_id.';

COMMENT ON COLUMN public.booking_attendees.email IS 'In lower case; how attendees are told apart.';

COMMENT ON COLUMN public.booking_attendees.name IS 'As the attendee typed it.';

COMMENT ON COLUMN public.booking_attendees.phone IS 'As the attendee typed it.';

COMMENT ON COLUMN public.booking_attendees.time_zone IS 'The attendee''s time zone, an IANA name.';

COMMENT ON COLUMN public.booking_attendees.no_show IS 'Whether the attendee is marked absent.';

COMMENT ON COLUMN public.booking_attendees.removed IS 'Whether the attendee has given up the seat.';

CREATE VIEW shown.booking_statistics AS
 SELECT ledger_id,
    day,
    event_type,
    host_email,
    ledger,
    bookings,
    scheduled,
    confirmed,
    completed,
    no_show,
    cancelled,
    rescheduled,
    minutes_booked,
    lead_minutes,
    led_bookings,
    ahead
   FROM calendar_events_1.booking_statistics;

CREATE VIEW public.booking_statistics AS
 SELECT ledger,
    day,
    NULLIF(event_type, ''::text) AS event_type,
    NULLIF(host_email, ''::text) AS host_email,
    bookings,
    scheduled,
    confirmed,
    completed,
    no_show,
    cancelled,
    rescheduled,
    minutes_booked,
    round(((lead_minutes)::numeric / (NULLIF(led_bookings, 0))::numeric)) AS lead_minutes,
    round(((cancelled)::numeric / (NULLIF((bookings - rescheduled), 0))::numeric), 4) AS cancellation_rate,
    round(((no_show)::numeric / (NULLIF((completed + no_show), 0))::numeric), 4) AS no_show_rate
   FROM shown.booking_statistics
  WHERE (bookings > 0);

COMMENT ON VIEW public.booking_statistics IS 'Bookings by day of start (UTC), event type and host.';

COMMENT ON COLUMN public.booking_statistics.ledger IS 'The log that the bookings are in.';

COMMENT ON COLUMN public.booking_statistics.day IS 'The day of the start, in UTC; of the first news of the booking where no start is known.';

COMMENT ON COLUMN public.booking_statistics.event_type IS 'The slug of Cal.com''s event type; null where none is known.';

COMMENT ON COLUMN public.booking_statistics.host_email IS 'The organiser; null where none is known.';

COMMENT ON COLUMN public.booking_statistics.bookings IS 'All of them, those that were rescheduled away included.';

COMMENT ON COLUMN public.booking_statistics.scheduled IS 'How many of them are scheduled.';

COMMENT ON COLUMN public.booking_statistics.confirmed IS 'How many of them are confirmed.';

COMMENT ON COLUMN public.booking_statistics.completed IS 'How many of them are completed.';

COMMENT ON COLUMN public.booking_statistics.no_show IS 'How many of them are no_show.';

COMMENT ON COLUMN public.booking_statistics.cancelled IS 'How many of them are cancelled.';

COMMENT ON COLUMN public.booking_statistics.rescheduled IS 'How many of them were moved to another uid.';

COMMENT ON COLUMN public.booking_statistics.minutes_booked IS 'Minutes of those neither cancelled nor rescheduled.';

COMMENT ON COLUMN public.booking_statistics.lead_minutes IS 'From the first news of a booking to its start, on average.';

COMMENT ON COLUMN public.booking_statistics.cancellation_rate IS 'cancelled / (bookings - rescheduled).';

COMMENT ON COLUMN public.booking_statistics.no_show_rate IS 'no_show / (completed + no_show).';

CREATE VIEW shown.calendar_events AS
 SELECT ledger_id,
    id,
    cal_com_event_id,
    ledger,
    salon_id,
    client_id,
    pet_id,
    title,
    description,
    start_time,
    end_time,
    duration_minutes,
    status,
    booking_status,
    attendee_email,
    attendee_name,
    attendee_phone,
    attendees,
    host_email,
    host_name,
    event_type,
    location,
    meeting_url,
    appointment_id,
    root_uid,
    rescheduled_from,
    rescheduled_to,
    paid,
    no_show,
    cancellation_reason,
    cancelled_by,
    rejection_reason,
    recording_url,
    metadata,
    doubts,
    booking_number,
    ical_uid,
    started,
    ended,
    marked,
    created_at,
    updated_at,
    "position",
    synced_at
   FROM calendar_events_1.calendar_events;

CREATE VIEW public.calendar_events AS
 SELECT id,
    cal_com_event_id,
    ledger,
    salon_id,
    client_id,
    pet_id,
    title,
    description,
    start_time,
    end_time,
    duration_minutes,
    status,
    booking_status,
    attendee_email,
    attendee_name,
    attendee_phone,
    attendees,
    host_email,
    host_name,
    event_type,
    location,
    meeting_url,
    appointment_id,
    root_uid,
    rescheduled_from,
    rescheduled_to,
    paid,
    no_show,
    cancellation_reason,
    cancelled_by,
    rejection_reason,
    recording_url,
    metadata,
    doubts,
    booking_number,
    ical_uid,
    started,
    ended,
    marked,
    created_at,
    updated_at,
    synced_at
   FROM shown.calendar_events;

COMMENT ON VIEW public.calendar_events IS 'One row per booking uid: what is true of the booking now.';

COMMENT ON COLUMN public.calendar_events.id IS 'Ours, made of ledger and uid: the same in every rebuild.';

COMMENT ON COLUMN public.calendar_events.cal_com_event_id IS 'Cal.com''s uid; its numeric id as text while no uid is known.';

COMMENT ON COLUMN public.calendar_events.ledger IS 'The log that the booking is in; `main` where there is one.';

COMMENT ON COLUMN public.calendar_events.salon_id IS 'From the booking''s metadata: barkbookSalonId, salonId or salon_id.';

COMMENT ON COLUMN public.calendar_events.client_id IS 'From the booking''s metadata: barkbookClientId, clientId or client_id.';

COMMENT ON COLUMN public.calendar_events.pet_id IS 'From the booking''s metadata: barkbookPetId, petId or pet_id.';

COMMENT ON COLUMN public.calendar_events.title IS 'As Cal.com rendered it.';

COMMENT ON COLUMN public.calendar_events.description IS 'The booker''s notes, else the event type''s description.';

COMMENT ON COLUMN public.calendar_events.start_time IS 'Start, as an instant; null while no webhook said it.';

COMMENT ON COLUMN public.calendar_events.end_time IS 'End, as an instant.';

COMMENT ON COLUMN public.calendar_events.duration_minutes IS 'Whole minutes from start to end.';

COMMENT ON COLUMN public.calendar_events.status IS 'scheduled, confirmed, completed, no_show, cancelled or rescheduled.';

COMMENT ON COLUMN public.calendar_events.booking_status IS 'Cal.com''s own word: pending, accepted, cancelled, rejected or rescheduled.';

COMMENT ON COLUMN public.calendar_events.attendee_email IS 'The first attendee''s e-mail address, in lower case.';

COMMENT ON COLUMN public.calendar_events.attendee_name IS 'The first attendee''s name.';

COMMENT ON COLUMN public.calendar_events.attendee_phone IS 'The first attendee''s telephone number, as it was typed.';

COMMENT ON COLUMN public.calendar_events.attendees IS 'All who come: email, name, phone, time_zone, no_show.';

COMMENT ON COLUMN public.calendar_events.host_email IS 'The organiser''s e-mail address.';

COMMENT ON COLUMN public.calendar_events.host_name IS 'The organiser''s name.';

COMMENT ON COLUMN public.calendar_events.event_type IS 'The slug of Cal.com''s event type.';

COMMENT ON COLUMN public.calendar_events.location IS 'Where: an address, a number, a link, or Cal.com''s name of an integration.';

COMMENT ON COLUMN public.calendar_events.meeting_url IS 'The link of the video call.';

COMMENT ON COLUMN public.calendar_events.appointment_id IS 'Stays the same through every reschedule: the id of the chain''s first booking.';

COMMENT ON COLUMN public.calendar_events.root_uid IS 'The uid of the chain''s first booking.';

COMMENT ON COLUMN public.calendar_events.rescheduled_from IS 'The uid whose place this booking took.';

COMMENT ON COLUMN public.calendar_events.rescheduled_to IS 'The uid that took this booking''s place.';

COMMENT ON COLUMN public.calendar_events.paid IS 'Whether a payment went through.';

COMMENT ON COLUMN public.calendar_events.no_show IS 'Whether an attendee or the host is marked absent.';

COMMENT ON COLUMN public.calendar_events.cancellation_reason IS 'As the one who cancelled wrote it.';

COMMENT ON COLUMN public.calendar_events.cancelled_by IS 'Who cancelled: an e-mail address.';

COMMENT ON COLUMN public.calendar_events.rejection_reason IS 'As the host wrote it.';

COMMENT ON COLUMN public.calendar_events.recording_url IS 'Where the recording can be had, as long as Cal.com keeps it.';

COMMENT ON COLUMN public.calendar_events.metadata IS 'What the booker''s page sent along; carried forward through reschedules. `@>` finds values by an index, but not for a reader bound to one ledger: client_id, pet_id and salon_id do for everybody.';

COMMENT ON COLUMN public.calendar_events.doubts IS 'What webhooks alone could not decide; settled by asking Cal.com.';

COMMENT ON COLUMN public.calendar_events.booking_number IS 'Cal.com''s numeric id of the booking.';

COMMENT ON COLUMN public.calendar_events.ical_uid IS 'The calendar id; kept by Cal.com through a reschedule.';

COMMENT ON COLUMN public.calendar_events.started IS 'Whether the scheduled start was reported.';

COMMENT ON COLUMN public.calendar_events.ended IS 'Whether the scheduled end was reported.';

COMMENT ON COLUMN public.calendar_events.marked IS 'Whether attendance was ever marked, absent or not.';

COMMENT ON COLUMN public.calendar_events.created_at IS 'Cal.com''s time of the first thing we know of the booking.';

COMMENT ON COLUMN public.calendar_events.updated_at IS 'Cal.com''s time of the last thing we know of the booking.';

COMMENT ON COLUMN public.calendar_events.synced_at IS 'When the last thing we know of the booking became visible here.';

CREATE VIEW shown.clients AS
 SELECT own.ledger_id,
    own.ledger,
    own.client_id,
    latest.attendee_name,
    latest.attendee_email,
    latest.attendee_phone,
    own.first_visit,
    own.last_visit,
    own.next_appointment,
    own.bookings,
    own.completed,
    own.no_show,
    own.cancelled,
    own.rescheduled,
    round(((own.no_show)::numeric / (NULLIF((own.completed + own.no_show), 0))::numeric), 4) AS no_show_rate
   FROM (( SELECT calendar_events.ledger_id,
            calendar_events.ledger,
            calendar_events.client_id,
            min(calendar_events.start_time) FILTER (WHERE (calendar_events.status = 'completed'::text)) AS first_visit,
            max(calendar_events.start_time) FILTER (WHERE (calendar_events.status = 'completed'::text)) AS last_visit,
            min(calendar_events.start_time) FILTER (WHERE ((calendar_events.status = ANY (ARRAY['scheduled'::text, 'confirmed'::text])) AND (calendar_events.start_time >= now()))) AS next_appointment,
            (count(*))::integer AS bookings,
            (count(*) FILTER (WHERE (calendar_events.status = 'completed'::text)))::integer AS completed,
            (count(*) FILTER (WHERE (calendar_events.status = 'no_show'::text)))::integer AS no_show,
            (count(*) FILTER (WHERE (calendar_events.status = 'cancelled'::text)))::integer AS cancelled,
            (count(*) FILTER (WHERE (calendar_events.status = 'rescheduled'::text)))::integer AS rescheduled
           FROM shown.calendar_events
          WHERE (calendar_events.client_id IS NOT NULL)
          GROUP BY calendar_events.ledger_id, calendar_events.ledger, calendar_events.client_id) own
     LEFT JOIN LATERAL ( SELECT c.attendee_name,
            c.attendee_email,
            c.attendee_phone
           FROM shown.calendar_events c
          WHERE ((c.client_id = own.client_id) AND (c.ledger_id = own.ledger_id) AND (c.start_time IS NOT NULL))
          ORDER BY c.start_time DESC
         LIMIT 1) latest ON (true));

CREATE VIEW public.clients AS
 SELECT ledger,
    client_id,
    attendee_name,
    attendee_email,
    attendee_phone,
    first_visit,
    last_visit,
    next_appointment,
    bookings,
    completed,
    no_show,
    cancelled,
    rescheduled,
    no_show_rate
   FROM shown.clients;

COMMENT ON VIEW public.clients IS 'One row per client that bookings name: first and last visit, the next appointment, how many.';

COMMENT ON COLUMN public.clients.ledger IS 'The log that the client''s bookings are in.';

COMMENT ON COLUMN public.clients.client_id IS 'calendar_events.client_id.';

COMMENT ON COLUMN public.clients.attendee_name IS 'The first attendee''s name, of the booking with the latest start.';

COMMENT ON COLUMN public.clients.attendee_email IS 'The first attendee''s e-mail address, of the same booking.';

COMMENT ON COLUMN public.clients.attendee_phone IS 'The first attendee''s telephone number, of the same booking.';

COMMENT ON COLUMN public.clients.first_visit IS 'Start of the first completed booking.';

COMMENT ON COLUMN public.clients.last_visit IS 'Start of the last completed booking.';

COMMENT ON COLUMN public.clients.next_appointment IS 'Start of the next booking that is scheduled or confirmed.';

COMMENT ON COLUMN public.clients.bookings IS 'All of them, those that were rescheduled away included.';

COMMENT ON COLUMN public.clients.completed IS 'How many of them are completed.';

COMMENT ON COLUMN public.clients.no_show IS 'How many of them are no_show.';

COMMENT ON COLUMN public.clients.cancelled IS 'How many of them are cancelled.';

COMMENT ON COLUMN public.clients.rescheduled IS 'How many of them were moved to another uid.';

COMMENT ON COLUMN public.clients.no_show_rate IS 'no_show / (completed + no_show).';

CREATE VIEW public.meetings AS
 SELECT id,
    ledger,
    cal_com_event_id AS cal_event_id,
        CASE
            WHEN (booking_status = 'rescheduled'::text) THEN 'rescheduled'::text
            WHEN (booking_status = ANY (ARRAY['cancelled'::text, 'rejected'::text])) THEN 'cancelled'::text
            WHEN (booking_status = 'pending'::text) THEN 'scheduled'::text
            WHEN no_show THEN 'no_show'::text
            WHEN (ended OR marked) THEN 'completed'::text
            ELSE 'scheduled'::text
        END AS status,
    title,
    start_time AS start,
    end_time AS "end",
    duration_minutes,
    attendee_email,
    attendee_name,
    host_email,
    location,
    meeting_url,
    paid,
    rescheduled_to,
    created_at,
    updated_at
   FROM shown.calendar_events c;

COMMENT ON VIEW public.meetings IS 'Bookings in the words of the meetings system.';

COMMENT ON COLUMN public.meetings.id IS 'calendar_events.id.';

COMMENT ON COLUMN public.meetings.ledger IS 'The log that the booking is in.';

COMMENT ON COLUMN public.meetings.cal_event_id IS 'Cal.com''s uid.';

COMMENT ON COLUMN public.meetings.status IS 'scheduled, completed, no_show, cancelled or rescheduled.';

COMMENT ON COLUMN public.meetings.title IS 'As Cal.com rendered it.';

COMMENT ON COLUMN public.meetings.start IS 'Start, as an instant.';

COMMENT ON COLUMN public.meetings."end" IS 'End, as an instant.';

COMMENT ON COLUMN public.meetings.duration_minutes IS 'Whole minutes from start to end.';

COMMENT ON COLUMN public.meetings.attendee_email IS 'The first attendee''s e-mail address.';

COMMENT ON COLUMN public.meetings.attendee_name IS 'The first attendee''s name.';

COMMENT ON COLUMN public.meetings.host_email IS 'The organiser''s e-mail address.';

COMMENT ON COLUMN public.meetings.location IS 'Where.';

COMMENT ON COLUMN public.meetings.meeting_url IS 'The link of the video call.';

COMMENT ON COLUMN public.meetings.paid IS 'Whether a payment went through.';

COMMENT ON COLUMN public.meetings.rescheduled_to IS 'The uid that took its place.';

COMMENT ON COLUMN public.meetings.created_at IS 'Cal.com''s time of the first thing we know of it.';

COMMENT ON COLUMN public.meetings.updated_at IS 'Cal.com''s time of the last thing we know of it.';

CREATE VIEW public.projection_status WITH (security_barrier='true') AS
 SELECT g.projection,
    l.name AS ledger,
    g.generation,
    COALESCE(c."position", (0)::bigint) AS "position",
    l."position" AS head,
    (l."position" - COALESCE(c."position", (0)::bigint)) AS lag_events,
    (COALESCE(EXTRACT(epoch FROM (clock_timestamp() - ( SELECT e.recorded_at
           FROM ledger.events e
          WHERE ((e.ledger_id = l.ledger_id) AND (e."position" = (COALESCE(c."position", (0)::bigint) + 1)))))), (0)::numeric))::double precision AS lag_seconds,
        CASE
            WHEN g.paused THEN 'paused'::text
            ELSE COALESCE(c.state, 'running'::text)
        END AS state,
    c.error AS last_error,
    ( SELECT count(*) AS count
           FROM projections.parked_events p
          WHERE ((p.ledger_id = l.ledger_id) AND (p.projection = g.projection) AND (p.generation = g.generation) AND (p.skipped_at IS NULL))) AS parked
   FROM ((projections.generations g
     CROSS JOIN ledger.ledgers l)
     LEFT JOIN projections.checkpoints c ON (((c.ledger_id = l.ledger_id) AND (c.projection = g.projection) AND (c.generation = g.generation))))
  WHERE ((g.state = 'live'::text) AND ((NOT access.is_bound(CURRENT_USER)) OR (l.ledger_id = ( SELECT r.ledger_id
           FROM access.readers r
          WHERE (r.role = CURRENT_USER)))));

COMMENT ON VIEW public.projection_status IS 'How far each read model is behind the log.';

COMMENT ON COLUMN public.projection_status.projection IS 'The projection: the code that fills the read model.';

COMMENT ON COLUMN public.projection_status.ledger IS 'The log.';

COMMENT ON COLUMN public.projection_status.generation IS 'Which build of the read model is shown.';

COMMENT ON COLUMN public.projection_status."position" IS 'The read model has everything up to here.';

COMMENT ON COLUMN public.projection_status.head IS 'The log''s last position.';

COMMENT ON COLUMN public.projection_status.lag_events IS 'How many events the read model is behind.';

COMMENT ON COLUMN public.projection_status.lag_seconds IS 'For how long the first of them has been waiting.';

COMMENT ON COLUMN public.projection_status.state IS 'running, failing (see last_error; it is being tried again) or paused.';

COMMENT ON COLUMN public.projection_status.last_error IS 'Why it is failing.';

COMMENT ON COLUMN public.projection_status.parked IS 'Events set aside because they could not be applied.';

CREATE VIEW public.status_words AS
 SELECT ledger,
    cal_com_event_id,
    status,
    booking_status,
        CASE booking_status
            WHEN 'accepted'::text THEN 'confirmed'::text
            WHEN 'rejected'::text THEN 'cancelled'::text
            ELSE booking_status
        END AS candidate_status,
        CASE
            WHEN (booking_status = 'rescheduled'::text) THEN 'rescheduled'::text
            WHEN (booking_status = ANY (ARRAY['cancelled'::text, 'rejected'::text])) THEN 'cancelled'::text
            WHEN (booking_status = 'pending'::text) THEN 'scheduled'::text
            WHEN no_show THEN 'no_show'::text
            WHEN (ended OR marked) THEN 'completed'::text
            ELSE 'scheduled'::text
        END AS meeting_status,
        CASE
            WHEN (booking_status = 'rescheduled'::text) THEN 'rescheduled'::text
            WHEN (booking_status = ANY (ARRAY['cancelled'::text, 'rejected'::text])) THEN 'cancelled'::text
            WHEN ((booking_status = 'accepted'::text) AND ended) THEN 'completed'::text
            ELSE 'scheduled'::text
        END AS visit_status
   FROM shown.calendar_events;

COMMENT ON VIEW public.status_words IS 'How each of the older systems would call a booking''s status.';

COMMENT ON COLUMN public.status_words.ledger IS 'The log that the booking is in.';

COMMENT ON COLUMN public.status_words.cal_com_event_id IS 'The booking.';

COMMENT ON COLUMN public.status_words.status IS 'calendar_events.status.';

COMMENT ON COLUMN public.status_words.booking_status IS 'calendar_events.booking_status.';

COMMENT ON COLUMN public.status_words.candidate_status IS 'Candidate scheduling: pending, confirmed, cancelled, rescheduled.';

COMMENT ON COLUMN public.status_words.meeting_status IS 'Meetings: scheduled, completed, no_show, cancelled, rescheduled.';

COMMENT ON COLUMN public.status_words.visit_status IS 'Pet salon: scheduled, completed, cancelled, rescheduled.';

CREATE VIEW shown.sync_lag AS
 SELECT ledger_id,
    minute,
    ledger,
    deliveries,
    recording_buckets,
    recording_counts,
    recording_ms_max,
    projecting_buckets,
    projecting_counts,
    projecting_ms_max
   FROM sync_lag_1.sync_lag;

CREATE VIEW public.sync_lag AS
 SELECT ledger,
    minute,
    deliveries AS count,
    projections.percentile_ms(recording_buckets, recording_counts, (0.5)::double precision) AS recorded_p50_ms,
    projections.percentile_ms(recording_buckets, recording_counts, (0.95)::double precision) AS recorded_p95_ms,
    recording_ms_max AS recorded_max_ms,
    projections.percentile_ms(projecting_buckets, projecting_counts, (0.5)::double precision) AS projected_p50_ms,
    projections.percentile_ms(projecting_buckets, projecting_counts, (0.95)::double precision) AS projected_p95_ms,
    projecting_ms_max AS projected_max_ms
   FROM shown.sync_lag;

COMMENT ON VIEW public.sync_lag IS 'How long deliveries took, by minute of recording: from Cal.com to the log, from the log to the tables.';

COMMENT ON COLUMN public.sync_lag.ledger IS 'The log.';

COMMENT ON COLUMN public.sync_lag.minute IS 'The minute in which they were recorded.';

COMMENT ON COLUMN public.sync_lag.count IS 'How many deliveries.';

COMMENT ON COLUMN public.sync_lag.recorded_p50_ms IS 'Half of them were recorded within so many milliseconds of happening (a hundredth exact).';

COMMENT ON COLUMN public.sync_lag.recorded_p95_ms IS 'Nineteen of twenty were.';

COMMENT ON COLUMN public.sync_lag.recorded_max_ms IS 'All of them were.';

COMMENT ON COLUMN public.sync_lag.projected_p50_ms IS 'Half of them were visible in calendar_events within so many milliseconds of being recorded.';

COMMENT ON COLUMN public.sync_lag.projected_p95_ms IS 'Nineteen of twenty were.';

COMMENT ON COLUMN public.sync_lag.projected_max_ms IS 'All of them were.';

CREATE VIEW shown.webhook_logs AS
 SELECT ledger_id,
    "position",
    id,
    ledger,
    webhook_type,
    payload,
    in_log,
    status,
    error_message,
    cal_com_event_id,
    duration_ms,
    created_at,
    body
   FROM webhook_logs_1.webhook_logs;

CREATE VIEW shown.recorded_webhooks AS
 SELECT w.ledger_id,
    w."position",
    w.id,
    w.ledger,
    w.webhook_type,
        CASE
            WHEN w.in_log THEN (convert_from(e.state, 'UTF8'::name))::jsonb
            WHEN (w.body IS NOT NULL) THEN (w.body)::jsonb
            ELSE w.payload
        END AS payload,
    w.status,
    w.error_message,
    w.cal_com_event_id,
    w.duration_ms,
    w.created_at
   FROM (shown.webhook_logs w
     LEFT JOIN projections.logged_bodies e ON (((e.ledger_id = w.ledger_id) AND (e."position" = w."position") AND w.in_log)));

CREATE VIEW public.webhook_events AS
 SELECT id,
    ledger,
    webhook_type AS event_type,
    cal_com_event_id AS cal_event_id,
    payload,
    created_at AS received_at,
    (status = 'success'::text) AS processed
   FROM shown.recorded_webhooks;

COMMENT ON VIEW public.webhook_events IS 'Recorded deliveries in the words of the meetings system.';

COMMENT ON COLUMN public.webhook_events.id IS 'The event''s id in the log.';

COMMENT ON COLUMN public.webhook_events.ledger IS 'The log that it is in.';

COMMENT ON COLUMN public.webhook_events.event_type IS 'The trigger.';

COMMENT ON COLUMN public.webhook_events.cal_event_id IS 'The booking that it is about, as the body names it.';

COMMENT ON COLUMN public.webhook_events.payload IS 'The whole body, where it is JSON.';

COMMENT ON COLUMN public.webhook_events.received_at IS 'When it was received.';

COMMENT ON COLUMN public.webhook_events.processed IS 'Whether it could be read.';

CREATE VIEW public.webhook_logs AS
 SELECT recorded_webhooks.id,
    recorded_webhooks.ledger,
    recorded_webhooks.webhook_type,
    recorded_webhooks.payload,
    recorded_webhooks.status,
    recorded_webhooks.error_message,
    recorded_webhooks.cal_com_event_id,
    false AS duplicate,
    recorded_webhooks.duration_ms,
    recorded_webhooks.created_at
   FROM shown.recorded_webhooks
UNION ALL
 SELECT d.delivery_id AS id,
    l.name AS ledger,
    COALESCE(first.webhook_type, 'refused'::text) AS webhook_type,
    first.payload,
        CASE d.outcome
            WHEN 'duplicate'::text THEN 'success'::text
            ELSE 'error'::text
        END AS status,
    d.reason AS error_message,
    first.cal_com_event_id,
    (d.outcome = 'duplicate'::text) AS duplicate,
    d.duration_ms,
    d.received_at AS created_at
   FROM ((ledger.deliveries d
     JOIN projections.ledger_names l USING (ledger_id))
     LEFT JOIN shown.recorded_webhooks first ON (((first.ledger_id = d.ledger_id) AND (first."position" = d."position"))));

COMMENT ON VIEW public.webhook_logs IS 'One row per delivery: recorded, repeated or refused. Refused ones without their body.';

COMMENT ON COLUMN public.webhook_logs.id IS 'The event''s id in the log, or the delivery''s own.';

COMMENT ON COLUMN public.webhook_logs.ledger IS 'The log that it went to.';

COMMENT ON COLUMN public.webhook_logs.webhook_type IS 'The trigger; unrecognised where none could be read; refused.';

COMMENT ON COLUMN public.webhook_logs.payload IS 'The whole body, where it is JSON.';

COMMENT ON COLUMN public.webhook_logs.status IS 'success, or error where it was refused or could not be read.';

COMMENT ON COLUMN public.webhook_logs.error_message IS 'Why.';

COMMENT ON COLUMN public.webhook_logs.cal_com_event_id IS 'The booking that it is about, as the body names it.';

COMMENT ON COLUMN public.webhook_logs.duplicate IS 'Whether it repeated a delivery that was recorded before.';

COMMENT ON COLUMN public.webhook_logs.duration_ms IS 'From receipt to the commit, in milliseconds.';

COMMENT ON COLUMN public.webhook_logs.created_at IS 'When it was received.';

CREATE VIEW shown.booking_statistics_by_month AS
 SELECT ledger_id,
    month,
    event_type,
    host_email,
    ledger,
    bookings,
    scheduled,
    confirmed,
    completed,
    no_show,
    cancelled,
    rescheduled,
    minutes_booked,
    lead_minutes,
    led_bookings
   FROM calendar_events_1.booking_statistics_by_month;

CREATE VIEW shown.booking_statistics_in_all AS
 SELECT ledger_id,
    unit,
    first_day,
    bookings,
    scheduled,
    confirmed,
    completed,
    no_show,
    cancelled,
    rescheduled,
    minutes_booked,
    lead_minutes,
    led_bookings
   FROM calendar_events_1.booking_statistics_in_all;

CREATE TABLE sync_lag_0.sync_lag (
    ledger_id integer NOT NULL,
    minute timestamp with time zone NOT NULL,
    ledger text NOT NULL,
    deliveries integer NOT NULL,
    recording_buckets integer[] NOT NULL,
    recording_counts integer[] NOT NULL,
    recording_ms_max double precision NOT NULL,
    projecting_buckets integer[] NOT NULL,
    projecting_counts integer[] NOT NULL,
    projecting_ms_max double precision NOT NULL
);

CREATE TABLE webhook_logs_0.webhook_logs (
    ledger_id integer NOT NULL,
    "position" bigint NOT NULL,
    id uuid NOT NULL,
    ledger text NOT NULL,
    webhook_type text NOT NULL,
    payload jsonb,
    in_log boolean NOT NULL,
    status text NOT NULL,
    error_message text,
    cal_com_event_id text,
    duration_ms real,
    created_at timestamp with time zone NOT NULL,
    body text,
    CONSTRAINT webhook_logs_status_known CHECK ((status = ANY (ARRAY['processing'::text, 'success'::text, 'error'::text])))
)
WITH (toast_tuple_target='8160');
ALTER TABLE ONLY webhook_logs_0.webhook_logs ALTER COLUMN body SET STORAGE EXTERNAL;

ALTER TABLE ONLY access.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (key_id);

ALTER TABLE ONLY access.readers
    ADD CONSTRAINT readers_pkey PRIMARY KEY (role);

ALTER TABLE ONLY access.sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (digest);

ALTER TABLE ONLY access.users
    ADD CONSTRAINT users_name_unique UNIQUE (name);

ALTER TABLE ONLY access.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY access.webhook_secrets
    ADD CONSTRAINT webhook_secrets_pkey PRIMARY KEY (fingerprint);

ALTER TABLE ONLY booking_attendees_0.booking_attendees
    ADD CONSTRAINT booking_attendees_pkey PRIMARY KEY (ledger_id, uid, email);

ALTER TABLE ONLY calendar_events_0.booking_statistics_by_month
    ADD CONSTRAINT booking_statistics_by_month_pkey PRIMARY KEY (ledger_id, month, event_type, host_email);

ALTER TABLE ONLY calendar_events_0.booking_statistics_in_all
    ADD CONSTRAINT booking_statistics_in_all_pkey PRIMARY KEY (ledger_id, unit, first_day);

ALTER TABLE ONLY calendar_events_0.booking_statistics
    ADD CONSTRAINT booking_statistics_pkey PRIMARY KEY (ledger_id, day, event_type, host_email);

ALTER TABLE ONLY calendar_events_0.calendar_events
    ADD CONSTRAINT calendar_events_pkey PRIMARY KEY (ledger_id, cal_com_event_id);

ALTER TABLE ONLY facts_0.facts
    ADD CONSTRAINT facts_pkey PRIMARY KEY (ledger_id, "position");

ALTER TABLE ONLY interop.snapshots
    ADD CONSTRAINT snapshots_pkey PRIMARY KEY (ledger_id, recorder, originator_id, originator_version);

ALTER TABLE ONLY interop.tracking
    ADD CONSTRAINT tracking_pkey PRIMARY KEY (ledger_id, recorder, application_name);

ALTER TABLE ONLY ledger.body_keys
    ADD CONSTRAINT body_keys_pkey PRIMARY KEY (ledger_id, key_id);

ALTER TABLE ONLY ledger.deliveries
    ADD CONSTRAINT deliveries_pkey PRIMARY KEY (ledger_id, delivery_id);

ALTER TABLE ONLY ledger.drift
    ADD CONSTRAINT drift_pkey PRIMARY KEY (ledger_id, stream_id, field, found_at);

ALTER TABLE ONLY ledger.erased_events
    ADD CONSTRAINT erased_events_pkey PRIMARY KEY (ledger_id, erasure_id, "position");

ALTER TABLE ONLY ledger.erased_streams
    ADD CONSTRAINT erased_streams_pkey PRIMARY KEY (ledger_id, erasure_id, stream_id);

ALTER TABLE ONLY ledger.erasures
    ADD CONSTRAINT erasures_pkey PRIMARY KEY (ledger_id, erasure_id);

ALTER TABLE ONLY ledger.events
    ADD CONSTRAINT events_event_id_unique UNIQUE (ledger_id, event_id);

ALTER TABLE ONLY ledger.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (ledger_id, stream_id, stream_version) INCLUDE ("position");

ALTER TABLE ONLY ledger.events
    ADD CONSTRAINT events_position_unique UNIQUE (ledger_id, "position");

ALTER TABLE ONLY ledger.ledgers
    ADD CONSTRAINT ledgers_pkey PRIMARY KEY (ledger_id);

ALTER TABLE ONLY ledger.questions
    ADD CONSTRAINT questions_pkey PRIMARY KEY (ledger_id, uid);

ALTER TABLE ONLY ledger.root_keys
    ADD CONSTRAINT root_keys_pkey PRIMARY KEY (root_key);

ALTER TABLE ONLY ledger.schedule
    ADD CONSTRAINT schedule_pkey PRIMARY KEY (ledger_id, job);

ALTER TABLE ONLY ledger.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (version);

ALTER TABLE ONLY ledger.sweeps
    ADD CONSTRAINT sweeps_pkey PRIMARY KEY (ledger_id, sweep_id);

ALTER TABLE ONLY ledger.swept_bookings
    ADD CONSTRAINT swept_bookings_pkey PRIMARY KEY (ledger_id, sweep_id, uid);

ALTER TABLE ONLY projections.checkpoints
    ADD CONSTRAINT checkpoints_pkey PRIMARY KEY (ledger_id, projection, generation);

ALTER TABLE ONLY projections.generations
    ADD CONSTRAINT generations_pkey PRIMARY KEY (projection, generation);

ALTER TABLE ONLY projections.leases
    ADD CONSTRAINT leases_pkey PRIMARY KEY (ledger_id, projection);

ALTER TABLE ONLY projections.parked_events
    ADD CONSTRAINT parked_events_pkey PRIMARY KEY (ledger_id, projection, generation, "position");

ALTER TABLE ONLY projections.rebuild_ranges
    ADD CONSTRAINT rebuild_ranges_pkey PRIMARY KEY (projection, generation, ledger_id, after_position);

ALTER TABLE ONLY projections.visible_pages
    ADD CONSTRAINT visible_pages_pkey PRIMARY KEY (ledger_id, "position");

ALTER TABLE ONLY sync_lag_0.sync_lag
    ADD CONSTRAINT sync_lag_pkey PRIMARY KEY (ledger_id, minute);

ALTER TABLE ONLY webhook_logs_0.webhook_logs
    ADD CONSTRAINT webhook_logs_pkey PRIMARY KEY (ledger_id, "position");

CREATE INDEX sessions_by_user ON access.sessions USING btree (user_id);

CREATE INDEX booking_attendees_by_email ON booking_attendees_0.booking_attendees USING btree (ledger_id, email);

CREATE INDEX booking_attendees_by_email ON booking_attendees_1.booking_attendees USING btree (ledger_id, email);

CREATE UNIQUE INDEX booking_attendees_pkey ON booking_attendees_1.booking_attendees USING btree (ledger_id, uid, email);

CREATE INDEX booking_statistics_ahead ON calendar_events_0.booking_statistics USING btree (ledger_id, day) WHERE ahead;

CREATE INDEX calendar_events_by_client ON calendar_events_0.calendar_events USING btree (client_id, ledger_id, start_time) WHERE (client_id IS NOT NULL);

CREATE INDEX calendar_events_by_created ON calendar_events_0.calendar_events USING btree (created_at DESC);

CREATE INDEX calendar_events_by_event_type ON calendar_events_0.calendar_events USING btree (event_type, ledger_id, start_time);

CREATE INDEX calendar_events_by_host ON calendar_events_0.calendar_events USING btree (host_email, ledger_id, start_time);

CREATE INDEX calendar_events_by_ical_uid ON calendar_events_0.calendar_events USING btree (ledger_id, ical_uid);

CREATE INDEX calendar_events_by_metadata ON calendar_events_0.calendar_events USING gin (metadata) WITH (gin_pending_list_limit='128');

CREATE INDEX calendar_events_by_number ON calendar_events_0.calendar_events USING btree (ledger_id, booking_number);

CREATE INDEX calendar_events_by_pet ON calendar_events_0.calendar_events USING btree (pet_id, ledger_id, start_time) WHERE (pet_id IS NOT NULL);

CREATE INDEX calendar_events_by_root ON calendar_events_0.calendar_events USING btree (root_uid, ledger_id) WHERE (root_uid <> cal_com_event_id);

CREATE INDEX calendar_events_by_salon ON calendar_events_0.calendar_events USING btree (salon_id, ledger_id, start_time) WHERE (salon_id IS NOT NULL);

CREATE INDEX calendar_events_by_start ON calendar_events_0.calendar_events USING btree (ledger_id, start_time, cal_com_event_id);

CREATE INDEX calendar_events_doubted ON calendar_events_0.calendar_events USING btree (ledger_id, cal_com_event_id) WHERE (doubts <> '{}'::text[]);

CREATE INDEX booking_statistics_ahead ON calendar_events_1.booking_statistics USING btree (ledger_id, day) WHERE ahead;

CREATE UNIQUE INDEX booking_statistics_by_month_pkey ON calendar_events_1.booking_statistics_by_month USING btree (ledger_id, month, event_type, host_email);

CREATE UNIQUE INDEX booking_statistics_in_all_pkey ON calendar_events_1.booking_statistics_in_all USING btree (ledger_id, unit, first_day);

CREATE UNIQUE INDEX booking_statistics_pkey ON calendar_events_1.booking_statistics USING btree (ledger_id, day, event_type, host_email);

CREATE INDEX calendar_events_by_client ON calendar_events_1.calendar_events USING btree (client_id, ledger_id, start_time) WHERE (client_id IS NOT NULL);

CREATE INDEX calendar_events_by_created ON calendar_events_1.calendar_events USING btree (created_at DESC);

CREATE INDEX calendar_events_by_event_type ON calendar_events_1.calendar_events USING btree (event_type, ledger_id, start_time);

CREATE INDEX calendar_events_by_host ON calendar_events_1.calendar_events USING btree (host_email, ledger_id, start_time);

CREATE INDEX calendar_events_by_ical_uid ON calendar_events_1.calendar_events USING btree (ledger_id, ical_uid);

CREATE INDEX calendar_events_by_metadata ON calendar_events_1.calendar_events USING gin (metadata) WITH (gin_pending_list_limit='128');

CREATE INDEX calendar_events_by_number ON calendar_events_1.calendar_events USING btree (ledger_id, booking_number);

CREATE INDEX calendar_events_by_pet ON calendar_events_1.calendar_events USING btree (pet_id, ledger_id, start_time) WHERE (pet_id IS NOT NULL);

CREATE INDEX calendar_events_by_root ON calendar_events_1.calendar_events USING btree (root_uid, ledger_id) WHERE (root_uid <> cal_com_event_id);

CREATE INDEX calendar_events_by_salon ON calendar_events_1.calendar_events USING btree (salon_id, ledger_id, start_time) WHERE (salon_id IS NOT NULL);

CREATE INDEX calendar_events_by_start ON calendar_events_1.calendar_events USING btree (ledger_id, start_time, cal_com_event_id);

CREATE INDEX calendar_events_doubted ON calendar_events_1.calendar_events USING btree (ledger_id, cal_com_event_id) WHERE (doubts <> '{}'::text[]);

CREATE UNIQUE INDEX calendar_events_pkey ON calendar_events_1.calendar_events USING btree (ledger_id, cal_com_event_id);

CREATE UNIQUE INDEX facts_pkey ON facts_1.facts USING btree (ledger_id, "position");

CREATE INDEX deliveries_of_event ON ledger.deliveries USING btree (ledger_id, "position") WHERE (outcome = 'duplicate'::text);

CREATE INDEX deliveries_received_at ON ledger.deliveries USING btree (ledger_id, received_at DESC);

CREATE INDEX drift_by_found ON ledger.drift USING btree (ledger_id, found_at DESC, stream_id, field);

CREATE UNIQUE INDEX drift_open ON ledger.drift USING btree (ledger_id, stream_id, field) WHERE (healed_at IS NULL);

CREATE INDEX erased_streams_by_stream ON ledger.erased_streams USING btree (ledger_id, stream_id);

CREATE INDEX erasures_by_time ON ledger.erasures USING btree (ledger_id, erased_at DESC, erasure_id);

CREATE INDEX erasures_unfinished ON ledger.erasures USING btree (ledger_id) WHERE (state <> 'done'::text);

CREATE INDEX events_numbered ON ledger.events USING btree (ledger_id, "position") WHERE ((stream_version = 1) AND (stream_id ~~ 'booking-id-%'::text));

CREATE INDEX events_unattributed ON ledger.events USING btree (ledger_id, "position") WHERE (stream_id ~~ 'unattributed-%'::text);

CREATE INDEX questions_by_time ON ledger.questions USING btree (ledger_id, ask_at);

CREATE UNIQUE INDEX root_keys_one_secret ON ledger.root_keys USING btree ((true)) WHERE (secret IS NOT NULL);

CREATE INDEX sweeps_by_asked ON ledger.sweeps USING btree (ledger_id, asked_at DESC);

CREATE UNIQUE INDEX sweeps_one_unfinished ON ledger.sweeps USING btree (ledger_id, kind) WHERE (state <> 'done'::text);

CREATE UNIQUE INDEX generations_one_building ON projections.generations USING btree (projection) WHERE (state = 'building'::text);

CREATE UNIQUE INDEX generations_one_live ON projections.generations USING btree (projection) WHERE (state = 'live'::text);

CREATE UNIQUE INDEX sync_lag_pkey ON sync_lag_1.sync_lag USING btree (ledger_id, minute);

CREATE INDEX webhook_logs_by_created ON webhook_logs_0.webhook_logs USING btree (created_at DESC);

CREATE INDEX webhook_logs_by_error ON webhook_logs_0.webhook_logs USING btree (created_at DESC) WHERE (status = 'error'::text);

CREATE INDEX webhook_logs_by_seldom_type ON webhook_logs_0.webhook_logs USING btree (webhook_type, ledger_id) WHERE (webhook_type <> ALL (ARRAY['BOOKING_CREATED'::text, 'MEETING_STARTED'::text, 'MEETING_ENDED'::text]));

CREATE INDEX webhook_logs_by_created ON webhook_logs_1.webhook_logs USING btree (created_at DESC);

CREATE INDEX webhook_logs_by_error ON webhook_logs_1.webhook_logs USING btree (created_at DESC) WHERE (status = 'error'::text);

CREATE INDEX webhook_logs_by_seldom_type ON webhook_logs_1.webhook_logs USING btree (webhook_type, ledger_id) WHERE (webhook_type <> ALL (ARRAY['BOOKING_CREATED'::text, 'MEETING_STARTED'::text, 'MEETING_ENDED'::text]));

CREATE UNIQUE INDEX webhook_logs_pkey ON webhook_logs_1.webhook_logs USING btree (ledger_id, "position");

CREATE TRIGGER stored_events_read_only INSTEAD OF INSERT OR DELETE OR UPDATE ON interop.stored_events FOR EACH ROW EXECUTE FUNCTION interop.refuse_write();

CREATE TRIGGER body_keys_destroyed_for_good BEFORE UPDATE ON ledger.body_keys FOR EACH ROW WHEN ((old.wrapped IS NULL)) EXECUTE FUNCTION ledger.refuse_key_change();

CREATE TRIGGER erased_streams_stay BEFORE DELETE OR TRUNCATE ON ledger.erased_streams FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_forgetting_erasures();

CREATE TRIGGER erasures_stay BEFORE DELETE OR TRUNCATE ON ledger.erasures FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_forgetting_erasures();

CREATE TRIGGER events_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON ledger.events FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

ALTER TABLE ledger.events ENABLE ALWAYS TRIGGER events_append_only;

ALTER TABLE ONLY access.sessions
    ADD CONSTRAINT sessions_user_fkey FOREIGN KEY (user_id) REFERENCES access.users(user_id);

ALTER TABLE ONLY ledger.erased_events
    ADD CONSTRAINT erased_events_of_erasure FOREIGN KEY (ledger_id, erasure_id) REFERENCES ledger.erasures(ledger_id, erasure_id);

ALTER TABLE ONLY ledger.erased_streams
    ADD CONSTRAINT erased_streams_of_erasure FOREIGN KEY (ledger_id, erasure_id) REFERENCES ledger.erasures(ledger_id, erasure_id);

ALTER TABLE ONLY ledger.swept_bookings
    ADD CONSTRAINT swept_bookings_of_sweep FOREIGN KEY (ledger_id, sweep_id) REFERENCES ledger.sweeps(ledger_id, sweep_id) ON DELETE CASCADE;

REVOKE ALL ON FUNCTION ledger.append_events(into_ledger integer, event_ids uuid[], stream_ids text[], topics text[], states bytea[], encodings smallint[], occurred_ats timestamp with time zone[], sources text[], metadatas text[], expected_versions integer[], key_ids uuid[], wrapped_keys bytea[], wrapped_by text, known_erasures bigint, told bytea[], told_by integer, are_apart boolean, OUT refusal text, OUT erasures bigint, OUT positions bigint[], OUT versions integer[], OUT duplicates boolean[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION ledger.destroy_keys(of_ledger integer, key_ids uuid[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION ledger.forget_keys(of_ledger integer, key_ids uuid[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION ledger.retire_root_keys(kept text) FROM PUBLIC;
