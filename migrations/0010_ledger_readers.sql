-- Readers of one ledger: PostgreSQL roles that see the rows of their own ledger and no others, whatever SQL they write
-- (`booking-ledger roles create --reader NAME --ledger LEDGER`).
--
-- access.readers  which ledger such a role sees; one row per role. A role of the group that has no row here sees nothing.
-- shown.*         the same tables as in `projections`, for those who come through the views in `public`: these lead on
--                 with the reader's own rights (security_invoker), those with the owner's, for the application.
--
-- The tables of a generation are put under row-level security when people are shown it: not before, since PostgreSQL
-- takes no COPY into such a table, and that is how a rebuild fills one. So PostgreSQL itself filters what a reader asks
-- for, by an index where there is one, and lets no function that could tell see a foreign row. Readers may not enter the
-- schemas of these tables: the views in `public` are their only way to them. A superuser could declare `@>` to be one that
-- does not tell, and metadata would be found by its index. But that index knows no ledgers, so EXPLAIN ANALYZE would say
-- how many foreign bookings have what somebody guessed.
--
-- The application does not come that way: under a policy that says `true`, too, PostgreSQL makes no use of what it knows
-- of values for operators that might tell, `@>` among them, and plans worse.
--
-- What holds things that no reader may see beside those that he may is read with the owner's rights, as few columns as
-- are needed: projections.ledger_names, projections.logged_bodies. public.projection_status says by itself who sees what.
--
-- All of that begins with `booking-ledger roles create`; a database without roles is as it was.

-- migrate:up

CREATE SCHEMA shown;

-- As in migration 0005, with `shown`.
CREATE OR REPLACE FUNCTION access.our_schemas() RETURNS TABLE (schema_id oid, name name)
LANGUAGE sql STABLE AS $$
    SELECT n.oid, n.nspname
    FROM pg_catalog.pg_namespace AS n
    WHERE
        n.nspname IN ('ledger', 'projections', 'shown', 'interop', 'access')
        OR EXISTS (
            SELECT FROM projections.generations AS g WHERE n.nspname ~ ('^' || g.projection || '_[0-9]+$')
        )
$$;

CREATE TABLE access.readers (
    role name NOT NULL,
    ledger_id int NOT NULL,
    CONSTRAINT readers_pkey PRIMARY KEY (role)
);

-- Whether it is a role that sees one ledger only.
CREATE FUNCTION access.is_bound(role name) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT
        FROM pg_catalog.pg_auth_members AS m
        JOIN pg_catalog.pg_roles AS bound ON bound.oid = m.roleid AND bound.rolname = 'booking_ledger_bound_reader'
        JOIN pg_catalog.pg_roles AS who ON who.oid = m.member AND who.rolname = role
    )
$$;

-- Whether `booking-ledger roles create` was run on this database.
CREATE FUNCTION access.has_roles() RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT
        c.relowner = pg_catalog.to_regrole('booking_ledger_owner')
        AND pg_catalog.to_regrole('booking_ledger_projector') IS NOT NULL
        AND pg_catalog.to_regrole('booking_ledger_bound_reader') IS NOT NULL
    FROM pg_catalog.pg_class AS c
    WHERE c.oid = 'ledger.events'::regclass
$$;

-- Whoever reads this table through a view sees what he may see of it: a bound reader his own ledger.
CREATE FUNCTION access.guard_table(place regclass) RETURNS void
LANGUAGE plpgsql AS $$
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

-- A view leads readers on with their own rights.
CREATE FUNCTION access.guard_view(place regclass) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('GRANT SELECT ON %s TO booking_ledger_reader, booking_ledger_bound_reader', place);
    EXECUTE format('ALTER VIEW %s SET (security_invoker = true)', place);
END
$$;

-- The tables that people are shown, with the views that lead there.
CREATE FUNCTION access.guard_shown() RETURNS void
LANGUAGE plpgsql AS $$
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

-- Everything that readers come through; once roles are there and have their rights.
CREATE FUNCTION access.guard_readers() RETURNS void
LANGUAGE plpgsql AS $$
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

-- From here on people see this generation. As in migration 0002, and for readers.
CREATE OR REPLACE FUNCTION projections.show(projection text, generation int) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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

SELECT projections.show(projection, generation)
FROM projections.generations
WHERE state = 'live';

-- Views that readers come through

CREATE VIEW projections.ledger_names AS
SELECT ledger_id, name FROM ledger.ledgers;

CREATE VIEW projections.logged_bodies AS
SELECT ledger_id, position, state FROM ledger.events;

CREATE VIEW shown.recorded_webhooks AS
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
FROM shown.webhook_logs AS w
LEFT JOIN projections.logged_bodies AS e ON e.ledger_id = w.ledger_id AND e.position = w.position AND w.in_log;

CREATE OR REPLACE VIEW public.webhook_logs AS
SELECT id, ledger, webhook_type, payload, status, error_message, cal_com_event_id, false AS duplicate, duration_ms,
    created_at
FROM shown.recorded_webhooks
UNION ALL
SELECT
    d.delivery_id,
    l.name,
    coalesce(first.webhook_type, 'refused'),
    first.payload,
    CASE d.outcome WHEN 'duplicate' THEN 'success' ELSE 'error' END,
    d.reason,
    first.cal_com_event_id,
    d.outcome = 'duplicate',
    d.duration_ms,
    d.received_at
FROM ledger.deliveries AS d
JOIN projections.ledger_names AS l USING (ledger_id)
LEFT JOIN shown.recorded_webhooks AS first ON first.ledger_id = d.ledger_id AND first.position = d.position;

-- The others say what they said, of what is shown.
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT place, name, regexp_replace(
            pg_get_viewdef(source),
            'projections\.(calendar_events|booking_attendees|booking_statistics|sync_lag|recorded_webhooks|clients)\M',
            'shown.\1',
            'g'
        ) AS definition
        FROM (
            VALUES
                (1, 'shown.clients', 'projections.clients'::regclass),
                (2, 'public.calendar_events', 'public.calendar_events'),
                (2, 'public.status_words', 'public.status_words'),
                (2, 'public.meetings', 'public.meetings'),
                (2, 'public.booking_attendees', 'public.booking_attendees'),
                (2, 'public.booking_statistics', 'public.booking_statistics'),
                (2, 'public.webhook_events', 'public.webhook_events'),
                (2, 'public.sync_lag', 'public.sync_lag'),
                (2, 'public.clients', 'public.clients')
        ) AS views (place, name, source)
        ORDER BY place, name
    LOOP
        EXECUTE format('CREATE OR REPLACE VIEW %s AS %s', one.name, one.definition);
    END LOOP;
END
$$;

CREATE OR REPLACE VIEW public.projection_status WITH (security_barrier) AS
SELECT
    g.projection,
    l.name AS ledger,
    g.generation,
    coalesce(c.position, 0) AS position,
    l.position AS head,
    l.position - coalesce(c.position, 0) AS lag_events,
    coalesce(
        extract(
            epoch FROM clock_timestamp() - (
                SELECT e.recorded_at
                FROM ledger.events AS e
                WHERE e.ledger_id = l.ledger_id AND e.position = coalesce(c.position, 0) + 1
            )
        ),
        0
    )::double precision AS lag_seconds,
    CASE WHEN g.paused THEN 'paused' ELSE coalesce(c.state, 'running') END AS state,
    c.error AS last_error,
    (
        SELECT count(*)
        FROM projections.parked_events AS p
        WHERE p.ledger_id = l.ledger_id
          AND p.projection = g.projection
          AND p.generation = g.generation
          AND p.skipped_at IS NULL
    ) AS parked
FROM projections.generations AS g
CROSS JOIN ledger.ledgers AS l
LEFT JOIN projections.checkpoints AS c
    ON c.ledger_id = l.ledger_id AND c.projection = g.projection AND c.generation = g.generation
WHERE g.state = 'live'
  AND (
      NOT access.is_bound(current_user)
      OR l.ledger_id = (SELECT r.ledger_id FROM access.readers AS r WHERE r.role = current_user)
  );
