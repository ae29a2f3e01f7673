-- The read models, what the runner remembers of its work, and the views that people query.
--
-- <projection>_<generation>      a schema: the tables of one build of a projection's read models. Generation 0 is the
--                                pattern of which the others are copies; it stays empty.
-- projections.<table>            a view of the table of the generation that is live; moving it to the next one is all
--                                that a rebuild changes for those who read.
-- public.*                       what people query; made of these views alone.
-- projections.generations        every build, which one is live, and how far the one being built has come.
-- projections.rebuild_ranges     the stretches of the log out of which a new generation is filled.
-- projections.checkpoints        how far each generation of each ledger has come; moved in the transaction of its rows.
-- projections.leases             which worker keeps a projection of a ledger current; `fence` rises with every change of
--                                hands, so that one who slept through the change is refused.
-- projections.parked_events      events that a projection could not apply, with the error; everything else went on.
-- projections.visible_pages      when each stretch of the log became visible in `calendar_events`; a rebuild, which
--                                makes nothing newly visible, takes `synced_at` from here.
--
-- Every row can be thrown away: the log is the truth, these are made of it.

-- migrate:up

CREATE SCHEMA projections;

CREATE TABLE projections.generations (
    projection text NOT NULL,
    generation int NOT NULL,
    version int NOT NULL,
    state text NOT NULL,
    phase text,
    paused boolean NOT NULL DEFAULT false,
    error text,
    driver text,
    driver_fence bigint NOT NULL DEFAULT 0,
    driver_until timestamptz NOT NULL DEFAULT '-infinity',
    requested_at timestamptz NOT NULL DEFAULT now(),
    filling_since timestamptz,
    live_at timestamptz,
    swap_ms real,
    CONSTRAINT generations_pkey PRIMARY KEY (projection, generation),
    CONSTRAINT generations_from_one CHECK (generation > 0),
    CONSTRAINT generations_state_known CHECK (state IN ('building', 'live', 'retired', 'cancelled', 'dropped')),
    CONSTRAINT generations_phase_known CHECK (phase IN ('planning', 'filling', 'indexing', 'catching_up')),
    CONSTRAINT generations_phase_while_building CHECK ((phase IS NOT NULL) = (state = 'building'))
);

CREATE UNIQUE INDEX generations_one_live ON projections.generations (projection) WHERE state = 'live';
CREATE UNIQUE INDEX generations_one_building ON projections.generations (projection) WHERE state = 'building';

CREATE TABLE projections.rebuild_ranges (
    projection text NOT NULL,
    generation int NOT NULL,
    ledger_id int NOT NULL,
    after_position bigint NOT NULL,
    last_position bigint NOT NULL,
    done_at timestamptz,
    CONSTRAINT rebuild_ranges_pkey PRIMARY KEY (projection, generation, ledger_id, after_position),
    CONSTRAINT rebuild_ranges_not_empty CHECK (after_position < last_position)
);

CREATE TABLE projections.checkpoints (
    projection text NOT NULL,
    ledger_id int NOT NULL,
    generation int NOT NULL,
    position bigint NOT NULL DEFAULT 0,
    moved_at timestamptz NOT NULL DEFAULT now(),
    state text NOT NULL DEFAULT 'running',
    error text,
    CONSTRAINT checkpoints_pkey PRIMARY KEY (ledger_id, projection, generation),
    CONSTRAINT checkpoints_position_not_negative CHECK (position >= 0),
    CONSTRAINT checkpoints_state_known CHECK (state IN ('running', 'failing'))
);

CREATE TABLE projections.leases (
    ledger_id int NOT NULL,
    projection text NOT NULL,
    holder uuid NOT NULL,
    fence bigint NOT NULL DEFAULT 1,
    expires_at timestamptz NOT NULL,
    session_pid int,
    session_start timestamptz,
    CONSTRAINT leases_pkey PRIMARY KEY (ledger_id, projection)
);

CREATE TABLE projections.parked_events (
    ledger_id int NOT NULL,
    projection text NOT NULL,
    generation int NOT NULL,
    position bigint NOT NULL,
    stream_id text NOT NULL,
    error text NOT NULL,
    attempts int NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now(),
    skipped_at timestamptz,
    CONSTRAINT parked_events_pkey PRIMARY KEY (ledger_id, projection, generation, position)
);

CREATE TABLE projections.visible_pages (
    ledger_id int NOT NULL,
    position bigint NOT NULL,
    synced_at timestamptz NOT NULL,
    CONSTRAINT visible_pages_pkey PRIMARY KEY (ledger_id, position)
);

-- The patterns

CREATE SCHEMA calendar_events_0;

CREATE TABLE calendar_events_0.calendar_events (
    ledger_id int NOT NULL,
    id uuid NOT NULL,
    cal_com_event_id text COLLATE "C" NOT NULL,
    ledger text NOT NULL,
    salon_id text,
    client_id text,
    pet_id text,
    title text,
    description text,
    start_time timestamptz,
    end_time timestamptz,
    duration_minutes int,
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
    root_uid text COLLATE "C" NOT NULL,
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
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    position bigint NOT NULL,
    synced_at timestamptz NOT NULL,
    CONSTRAINT calendar_events_pkey PRIMARY KEY (ledger_id, cal_com_event_id),
    CONSTRAINT calendar_events_status_known
        CHECK (status IN ('scheduled', 'confirmed', 'completed', 'no_show', 'cancelled', 'rescheduled')),
    CONSTRAINT calendar_events_booking_status_known
        CHECK (booking_status IN ('pending', 'accepted', 'cancelled', 'rejected', 'rescheduled'))
);

-- Rows change often and seldom in an indexed column: room in every page lets the new version stay in it, and then no
-- index is touched.
ALTER TABLE calendar_events_0.calendar_events SET (fillfactor = 80);

-- What a person names comes first in an index, so that SQL which says nothing of a ledger finds its way too. No index
-- holds `status`, which changes most (booking_statistics tells on which days there is any of one), and none the text of
-- titles and notes: trigrams would halve the rate at which bookings can be written.
CREATE INDEX calendar_events_by_start ON calendar_events_0.calendar_events (ledger_id, start_time, cal_com_event_id);
CREATE INDEX calendar_events_by_created ON calendar_events_0.calendar_events (created_at DESC);
CREATE INDEX calendar_events_by_number ON calendar_events_0.calendar_events (ledger_id, booking_number);
CREATE INDEX calendar_events_by_ical_uid ON calendar_events_0.calendar_events (ledger_id, ical_uid);
CREATE INDEX calendar_events_by_root ON calendar_events_0.calendar_events (root_uid, ledger_id)
    WHERE root_uid <> cal_com_event_id;
CREATE INDEX calendar_events_by_host ON calendar_events_0.calendar_events (host_email, ledger_id, start_time);
CREATE INDEX calendar_events_by_event_type ON calendar_events_0.calendar_events (event_type, ledger_id, start_time);
CREATE INDEX calendar_events_by_client ON calendar_events_0.calendar_events (client_id, ledger_id, start_time)
    WHERE client_id IS NOT NULL;
CREATE INDEX calendar_events_by_pet ON calendar_events_0.calendar_events (pet_id, ledger_id, start_time)
    WHERE pet_id IS NOT NULL;
CREATE INDEX calendar_events_by_salon ON calendar_events_0.calendar_events (salon_id, ledger_id, start_time)
    WHERE salon_id IS NOT NULL;

-- What waits to be put in its place in this index is read by everybody who looks there, and put in place by whoever
-- finds the list full: at PostgreSQL's own limit of 4 MB a look-up takes twenty times as long, and that delivery 90 ms.
CREATE INDEX calendar_events_by_metadata ON calendar_events_0.calendar_events USING gin (metadata)
    WITH (gin_pending_list_limit = 128);

CREATE TABLE calendar_events_0.booking_statistics (
    ledger_id int NOT NULL,
    day date NOT NULL,
    event_type text NOT NULL,
    host_email text NOT NULL,
    ledger text NOT NULL,
    bookings int NOT NULL,
    scheduled int NOT NULL,
    confirmed int NOT NULL,
    completed int NOT NULL,
    no_show int NOT NULL,
    cancelled int NOT NULL,
    rescheduled int NOT NULL,
    minutes_booked bigint NOT NULL,
    lead_minutes bigint NOT NULL,
    led_bookings int NOT NULL,
    ahead boolean NOT NULL,
    CONSTRAINT booking_statistics_pkey PRIMARY KEY (ledger_id, day, event_type, host_email),
    CONSTRAINT booking_statistics_ahead_counted CHECK (ahead = (scheduled > 0 OR confirmed > 0))
);

-- The days on which something is still to come: a list of what is scheduled begins there. By a column of its own, since
-- no index may name figures: they change with every delivery, and with them every index of the row would.
CREATE INDEX booking_statistics_ahead ON calendar_events_0.booking_statistics (ledger_id, day) WHERE ahead;

-- The same by month, named by its first day, so that figures of years are sums of few rows.
CREATE TABLE calendar_events_0.booking_statistics_by_month (
    ledger_id int NOT NULL,
    month date NOT NULL,
    event_type text NOT NULL,
    host_email text NOT NULL,
    ledger text NOT NULL,
    bookings int NOT NULL,
    scheduled int NOT NULL,
    confirmed int NOT NULL,
    completed int NOT NULL,
    no_show int NOT NULL,
    cancelled int NOT NULL,
    rescheduled int NOT NULL,
    minutes_booked bigint NOT NULL,
    lead_minutes bigint NOT NULL,
    led_bookings int NOT NULL,
    CONSTRAINT booking_statistics_by_month_pkey PRIMARY KEY (ledger_id, month, event_type, host_email)
);

-- The same of all event types and hosts together, by day and by month: years day by day are sums of few rows, too.
CREATE TABLE calendar_events_0.booking_statistics_in_all (
    ledger_id int NOT NULL,
    unit text COLLATE "C" NOT NULL,
    first_day date NOT NULL,
    bookings int NOT NULL,
    scheduled int NOT NULL,
    confirmed int NOT NULL,
    completed int NOT NULL,
    no_show int NOT NULL,
    cancelled int NOT NULL,
    rescheduled int NOT NULL,
    minutes_booked bigint NOT NULL,
    lead_minutes bigint NOT NULL,
    led_bookings int NOT NULL,
    CONSTRAINT booking_statistics_in_all_pkey PRIMARY KEY (ledger_id, unit, first_day),
    CONSTRAINT booking_statistics_in_all_unit_known CHECK (unit IN ('day', 'month'))
);

ALTER TABLE calendar_events_0.booking_statistics SET (fillfactor = 80);
ALTER TABLE calendar_events_0.booking_statistics_by_month SET (fillfactor = 80);
ALTER TABLE calendar_events_0.booking_statistics_in_all SET (fillfactor = 80);

CREATE SCHEMA booking_attendees_0;

CREATE TABLE booking_attendees_0.booking_attendees (
    ledger_id int NOT NULL,
    uid text COLLATE "C" NOT NULL,
    email text COLLATE "C" NOT NULL,
    ledger text NOT NULL,
    name text,
    phone text,
    time_zone text,
    no_show boolean NOT NULL,
    removed boolean NOT NULL,
    CONSTRAINT booking_attendees_pkey PRIMARY KEY (ledger_id, uid, email)
);

CREATE INDEX booking_attendees_by_email ON booking_attendees_0.booking_attendees (ledger_id, email);

CREATE SCHEMA webhook_logs_0;

-- `payload`: null where the event's own bytes are JSON that SQL can read (`in_log`), else a copy that it can.
CREATE TABLE webhook_logs_0.webhook_logs (
    ledger_id int NOT NULL,
    position bigint NOT NULL,
    id uuid NOT NULL,
    ledger text NOT NULL,
    webhook_type text NOT NULL,
    payload jsonb,
    in_log boolean NOT NULL,
    status text NOT NULL,
    error_message text,
    cal_com_event_id text,
    duration_ms real,
    created_at timestamptz NOT NULL,
    CONSTRAINT webhook_logs_pkey PRIMARY KEY (ledger_id, position),
    CONSTRAINT webhook_logs_status_known CHECK (status IN ('processing', 'success', 'error'))
);

CREATE INDEX webhook_logs_by_created ON webhook_logs_0.webhook_logs (created_at DESC);
CREATE INDEX webhook_logs_by_error ON webhook_logs_0.webhook_logs (created_at DESC) WHERE status = 'error';

-- What every booking sends is found soon by going back in time, and takes no part in this index: it costs next to nothing.
CREATE INDEX webhook_logs_by_seldom_type ON webhook_logs_0.webhook_logs (webhook_type, ledger_id)
    WHERE webhook_type NOT IN ('BOOKING_CREATED', 'MEETING_STARTED', 'MEETING_ENDED');

CREATE SCHEMA sync_lag_0;

-- One row a minute of recording. Lags are kept as counts by bucket, so that minutes can be added to: bucket b holds lags
-- around 1.02^b milliseconds, which makes a percentile right to a hundredth.
CREATE TABLE sync_lag_0.sync_lag (
    ledger_id int NOT NULL,
    minute timestamptz NOT NULL,
    ledger text NOT NULL,
    deliveries int NOT NULL,
    recording_buckets int[] NOT NULL,
    recording_counts int[] NOT NULL,
    recording_ms_max double precision NOT NULL,
    projecting_buckets int[] NOT NULL,
    projecting_counts int[] NOT NULL,
    projecting_ms_max double precision NOT NULL,
    CONSTRAINT sync_lag_pkey PRIMARY KEY (ledger_id, minute)
);

CREATE SCHEMA facts_0;

-- What bodies were found to mean, kept so that nobody need decode them again: no truth, but quick to read. `told` is
-- MessagePack (projections/facts.py); `alone`: it bears on no booking but the one on whose stream the event lies. What
-- is in one stream is found by the log's own key: another index here would cost every delivery more than the row.
CREATE TABLE facts_0.facts (
    ledger_id int NOT NULL,
    position bigint NOT NULL,
    stream_id text NOT NULL,
    stream_version int NOT NULL,
    alone boolean NOT NULL,
    told bytea NOT NULL,
    CONSTRAINT facts_pkey PRIMARY KEY (ledger_id, position)
);

ALTER TABLE facts_0.facts ALTER COLUMN told SET STORAGE EXTERNAL;

-- What a rebuild does to the schema. Owned by whoever migrates, so that a worker needs no right to make tables.

CREATE FUNCTION projections.schema_of(projection text, generation int) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN projection || '_' || generation;

-- The tables of a new generation, without their indexes.
CREATE FUNCTION projections.create_tables(projection text, generation int) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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

-- The indexes that a generation still lacks, largest table first.
CREATE FUNCTION projections.missing_indexes(projection text, generation int) RETURNS TABLE (name text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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

-- Whoever rebuilds builds several at once, each by one process: for tables of this size, to start more takes longer than
-- what they would save, and people are at work meanwhile.
CREATE FUNCTION projections.add_index(projection text, generation int, name text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET max_parallel_maintenance_workers = 0
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

-- Of the columns that an index or a rule names: what they are looked up by. All of them take longer than all indexes of the
-- wide tables together; PostgreSQL looks at the others by itself, a minute later, since this does not count as having
-- looked at the table. With a smaller sample it would guess at metadata, and guess wrong.
CREATE FUNCTION projections.analyze_tables(projection text, generation int) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
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

-- From here on people see this generation.
CREATE FUNCTION projections.show(projection text, generation int) RETURNS void
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
    END LOOP;
END
$$;

-- The tables of a generation that nobody is shown any more are gone; refused while a view still shows them.
CREATE FUNCTION projections.drop_tables(projection text, generation int) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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

-- A generation of a projection's own, empty and live: what a new database begins with.
CREATE FUNCTION projections.begin_live(projection text, version int) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM projections.create_tables(projection, 1);
    PERFORM projections.add_index(projection, 1, missing.name) FROM projections.missing_indexes(projection, 1) AS missing;
    PERFORM projections.show(projection, 1);
    INSERT INTO projections.generations (projection, generation, version, state, live_at)
    VALUES (projection, 1, version, 'live', now());
END
$$;

SELECT projections.begin_live(name, 1)
FROM (VALUES ('calendar_events'), ('booking_attendees'), ('webhook_logs'), ('sync_lag'), ('facts')) AS first (name);

-- What people query

CREATE VIEW public.calendar_events AS
SELECT
    id, cal_com_event_id, ledger, salon_id, client_id, pet_id, title, description, start_time, end_time,
    duration_minutes, status, booking_status, attendee_email, attendee_name, attendee_phone, attendees, host_email,
    host_name, event_type, location, meeting_url, appointment_id, root_uid, rescheduled_from, rescheduled_to, paid,
    no_show, cancellation_reason, cancelled_by, rejection_reason, recording_url, metadata, doubts, booking_number,
    ical_uid, started, ended, marked, created_at, updated_at, synced_at
FROM projections.calendar_events;

CREATE VIEW public.status_words AS
SELECT
    ledger,
    cal_com_event_id,
    status,
    booking_status,
    CASE booking_status
        WHEN 'accepted' THEN 'confirmed'
        WHEN 'rejected' THEN 'cancelled'
        ELSE booking_status
    END AS candidate_status,
    CASE
        WHEN booking_status = 'rescheduled' THEN 'rescheduled'
        WHEN booking_status IN ('cancelled', 'rejected') THEN 'cancelled'
        WHEN booking_status = 'pending' THEN 'scheduled'
        WHEN no_show THEN 'no_show'
        WHEN ended OR marked THEN 'completed'
        ELSE 'scheduled'
    END AS meeting_status,
    CASE
        WHEN booking_status = 'rescheduled' THEN 'rescheduled'
        WHEN booking_status IN ('cancelled', 'rejected') THEN 'cancelled'
        WHEN booking_status = 'accepted' AND ended THEN 'completed'
        ELSE 'scheduled'
    END AS visit_status
FROM projections.calendar_events;

CREATE VIEW public.meetings AS
SELECT
    c.id,
    c.ledger,
    c.cal_com_event_id AS cal_event_id,
    CASE
        WHEN c.booking_status = 'rescheduled' THEN 'rescheduled'
        WHEN c.booking_status IN ('cancelled', 'rejected') THEN 'cancelled'
        WHEN c.booking_status = 'pending' THEN 'scheduled'
        WHEN c.no_show THEN 'no_show'
        WHEN c.ended OR c.marked THEN 'completed'
        ELSE 'scheduled'
    END AS status,
    c.title,
    c.start_time AS start,
    c.end_time AS "end",
    c.duration_minutes,
    c.attendee_email,
    c.attendee_name,
    c.host_email,
    c.location,
    c.meeting_url,
    c.paid,
    c.rescheduled_to,
    c.created_at,
    c.updated_at
FROM projections.calendar_events AS c;

CREATE VIEW public.booking_attendees AS
SELECT ledger, uid, email, name, phone, time_zone, no_show, removed
FROM projections.booking_attendees;

CREATE VIEW public.booking_statistics AS
SELECT
    ledger,
    day,
    nullif(event_type, '') AS event_type,
    nullif(host_email, '') AS host_email,
    bookings,
    scheduled,
    confirmed,
    completed,
    no_show,
    cancelled,
    rescheduled,
    minutes_booked,
    round(lead_minutes::numeric / nullif(led_bookings, 0)) AS lead_minutes,
    round(cancelled::numeric / nullif(bookings - rescheduled, 0), 4) AS cancellation_rate,
    round(no_show::numeric / nullif(completed + no_show, 0), 4) AS no_show_rate
FROM projections.booking_statistics
WHERE bookings > 0;

CREATE VIEW projections.recorded_webhooks AS
SELECT
    w.ledger_id,
    w.position,
    w.id,
    w.ledger,
    w.webhook_type,
    CASE WHEN w.in_log THEN convert_from(e.state, 'UTF8')::jsonb ELSE w.payload END AS payload,
    w.status,
    w.error_message,
    w.cal_com_event_id,
    w.duration_ms,
    w.created_at
FROM projections.webhook_logs AS w
LEFT JOIN ledger.events AS e ON e.ledger_id = w.ledger_id AND e.position = w.position;

CREATE VIEW public.webhook_logs AS
SELECT id, ledger, webhook_type, payload, status, error_message, cal_com_event_id, false AS duplicate, duration_ms,
    created_at
FROM projections.recorded_webhooks
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
JOIN ledger.ledgers AS l USING (ledger_id)
LEFT JOIN projections.recorded_webhooks AS first ON first.ledger_id = d.ledger_id AND first.position = d.position;

CREATE VIEW public.webhook_events AS
SELECT
    id,
    ledger,
    webhook_type AS event_type,
    cal_com_event_id AS cal_event_id,
    payload,
    created_at AS received_at,
    status = 'success' AS processed
FROM projections.recorded_webhooks;

-- The lag below which a share of the counted ones lies, in milliseconds; null where none was counted.
CREATE FUNCTION projections.percentile_ms(buckets int[], counts int[], share double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT round(power(1.02, bucket)::numeric, 3)::double precision
    FROM (
        SELECT bucket, sum(count) OVER (ORDER BY bucket) AS up_to, sum(count) OVER () AS total
        FROM unnest(buckets, counts) AS counted (bucket, count)
    ) AS summed
    WHERE up_to >= share * total
    ORDER BY bucket
    LIMIT 1
$$;

CREATE VIEW public.sync_lag AS
SELECT
    ledger,
    minute,
    deliveries AS count,
    projections.percentile_ms(recording_buckets, recording_counts, 0.5) AS recorded_p50_ms,
    projections.percentile_ms(recording_buckets, recording_counts, 0.95) AS recorded_p95_ms,
    recording_ms_max AS recorded_max_ms,
    projections.percentile_ms(projecting_buckets, projecting_counts, 0.5) AS projected_p50_ms,
    projections.percentile_ms(projecting_buckets, projecting_counts, 0.95) AS projected_p95_ms,
    projecting_ms_max AS projected_max_ms
FROM projections.sync_lag;

CREATE VIEW public.projection_status AS
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
WHERE g.state = 'live';

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
COMMENT ON VIEW public.booking_attendees IS 'One row per attendee of a booking, those who left included.';
COMMENT ON COLUMN public.booking_attendees.ledger IS 'The log that the booking is in.';
COMMENT ON COLUMN public.booking_attendees.uid IS 'calendar_events.cal_com_event_id.';
COMMENT ON COLUMN public.booking_attendees.email IS 'In lower case; how attendees are told apart.';
COMMENT ON COLUMN public.booking_attendees.name IS 'As the attendee typed it.';
COMMENT ON COLUMN public.booking_attendees.phone IS 'As the attendee typed it.';
COMMENT ON COLUMN public.booking_attendees.time_zone IS 'The attendee''s time zone, an IANA name.';
COMMENT ON COLUMN public.booking_attendees.no_show IS 'Whether the attendee is marked absent.';
COMMENT ON COLUMN public.booking_attendees.removed IS 'Whether the attendee has given up the seat.';
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
COMMENT ON VIEW public.webhook_events IS 'Recorded deliveries in the words of the meetings system.';
COMMENT ON COLUMN public.webhook_events.id IS 'The event''s id in the log.';
COMMENT ON COLUMN public.webhook_events.ledger IS 'The log that it is in.';
COMMENT ON COLUMN public.webhook_events.event_type IS 'The trigger.';
COMMENT ON COLUMN public.webhook_events.cal_event_id IS 'The booking that it is about, as the body names it.';
COMMENT ON COLUMN public.webhook_events.payload IS 'The whole body, where it is JSON.';
COMMENT ON COLUMN public.webhook_events.received_at IS 'When it was received.';
COMMENT ON COLUMN public.webhook_events.processed IS 'Whether it could be read.';
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
COMMENT ON VIEW public.projection_status IS 'How far each read model is behind the log.';
COMMENT ON COLUMN public.projection_status.projection IS 'The projection: the code that fills the read model.';
COMMENT ON COLUMN public.projection_status.ledger IS 'The log.';
COMMENT ON COLUMN public.projection_status.generation IS 'Which build of the read model is shown.';
COMMENT ON COLUMN public.projection_status.position IS 'The read model has everything up to here.';
COMMENT ON COLUMN public.projection_status.head IS 'The log''s last position.';
COMMENT ON COLUMN public.projection_status.lag_events IS 'How many events the read model is behind.';
COMMENT ON COLUMN public.projection_status.lag_seconds IS 'For how long the first of them has been waiting.';
COMMENT ON COLUMN public.projection_status.state IS 'running, failing (see last_error; it is being tried again) or paused.';
COMMENT ON COLUMN public.projection_status.last_error IS 'Why it is failing.';
COMMENT ON COLUMN public.projection_status.parked IS 'Events set aside because they could not be applied.';
COMMENT ON VIEW public.status_words IS 'How each of the older systems would call a booking''s status.';
COMMENT ON COLUMN public.status_words.ledger IS 'The log that the booking is in.';
COMMENT ON COLUMN public.status_words.cal_com_event_id IS 'The booking.';
COMMENT ON COLUMN public.status_words.status IS 'calendar_events.status.';
COMMENT ON COLUMN public.status_words.booking_status IS 'calendar_events.booking_status.';
COMMENT ON COLUMN public.status_words.candidate_status IS 'Candidate scheduling: pending, confirmed, cancelled, rescheduled.';
COMMENT ON COLUMN public.status_words.meeting_status IS 'Meetings: scheduled, completed, no_show, cancelled, rescheduled.';
COMMENT ON COLUMN public.status_words.visit_status IS 'Pet salon: scheduled, completed, cancelled, rescheduled.';
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
