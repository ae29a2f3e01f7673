-- The schema of a migrated database as pg_dump tells it, for reading and for comparing; nothing runs this file.
-- A migration changed it on purpose: REFRESH_SCHEMA=1 .venv/bin/pytest tests/test_sql.py

CREATE SCHEMA interop;

CREATE SCHEMA ledger;

CREATE SCHEMA projections;

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

CREATE FUNCTION ledger.append_events(into_ledger integer, event_ids uuid[], stream_ids text[], topics text[], states bytea[], encodings smallint[], occurred_ats timestamp with time zone[], sources text[], metadatas text[], expected_versions integer[]) RETURNS TABLE(ordinal integer, event_position bigint, event_stream_version integer, duplicate boolean)
    LANGUAGE plpgsql
    SET plan_cache_mode TO 'force_generic_plan'
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
                    || uuid_send(event_ids[new.at]) || ledger.sized(new.stream_id) || ledger.sized(new.topic)
                    || ledger.sized(new.source) || ledger.sized(new.metadata) || sha256(new.state)
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

COMMENT ON FUNCTION ledger.append_events(into_ledger integer, event_ids uuid[], stream_ids text[], topics text[], states bytea[], encodings smallint[], occurred_ats timestamp with time zone[], sources text[], metadatas text[], expected_versions integer[]) IS 'Appends a batch under the head''s lock; see migrations/0001_event_log.sql.';

CREATE FUNCTION ledger.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'the event log is append-only: % refused', lower(TG_OP)
        USING ERRCODE = 'restrict_violation', HINT = 'Append a correcting event instead.';
END
$$;

CREATE FUNCTION ledger.sized(value text) RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (int4send(octet_length(convert_to(value, 'UTF8'::name))) || convert_to(value, 'UTF8'::name));

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
    "position" bigint NOT NULL,
    stream_id text NOT NULL,
    stream_version integer NOT NULL,
    event_id uuid NOT NULL,
    topic text NOT NULL,
    state bytea NOT NULL,
    encoding smallint NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    source text NOT NULL,
    metadata text NOT NULL,
    digest bytea NOT NULL,
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
    CONSTRAINT ledgers_digest_is_sha256 CHECK ((octet_length(digest) = 32)),
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

CREATE TABLE ledger.schema_migrations (
    version integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT schema_migrations_checksum_is_sha256 CHECK ((checksum ~ '^[0-9a-f]{64}$'::text))
);

CREATE TABLE projections.booking_attendees_1 (
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

CREATE TABLE projections.calendar_events_1 (
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
    root_uid text NOT NULL,
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
    CONSTRAINT calendar_events_1_booking_status_known CHECK ((booking_status = ANY (ARRAY['pending'::text, 'accepted'::text, 'cancelled'::text, 'rejected'::text, 'rescheduled'::text]))),
    CONSTRAINT calendar_events_1_status_known CHECK ((status = ANY (ARRAY['scheduled'::text, 'confirmed'::text, 'completed'::text, 'no_show'::text, 'cancelled'::text, 'rescheduled'::text])))
);

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

CREATE TABLE projections.parked_events (
    ledger_id integer NOT NULL,
    projection text NOT NULL,
    generation integer NOT NULL,
    "position" bigint NOT NULL,
    stream_id text NOT NULL,
    error text NOT NULL,
    attempts integer NOT NULL,
    parked_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE projections.webhook_logs_1 (
    ledger_id integer NOT NULL,
    "position" bigint NOT NULL,
    id uuid NOT NULL,
    ledger text NOT NULL,
    webhook_type text NOT NULL,
    payload jsonb,
    status text NOT NULL,
    error_message text,
    cal_com_event_id text,
    duration_ms real,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT webhook_logs_1_status_known CHECK ((status = ANY (ARRAY['processing'::text, 'success'::text, 'error'::text])))
);

CREATE VIEW public.booking_attendees AS
 SELECT ledger,
    uid,
    email,
    name,
    phone,
    time_zone,
    no_show,
    removed
   FROM projections.booking_attendees_1;

COMMENT ON VIEW public.booking_attendees IS 'One row per attendee of a booking, those who left included.';

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
   FROM projections.calendar_events_1;

COMMENT ON VIEW public.calendar_events IS 'One row per booking uid: what is true of the booking now.';

COMMENT ON COLUMN public.calendar_events.cal_com_event_id IS 'Cal.com''s uid; its numeric id as text while no uid is known.';

COMMENT ON COLUMN public.calendar_events.status IS 'scheduled, confirmed, completed, no_show, cancelled or rescheduled.';

COMMENT ON COLUMN public.calendar_events.booking_status IS 'Cal.com''s own word: pending, accepted, cancelled, rejected or rescheduled.';

COMMENT ON COLUMN public.calendar_events.appointment_id IS 'Stays the same through every reschedule: the id of the chain''s first booking.';

COMMENT ON COLUMN public.calendar_events.doubts IS 'What webhooks alone could not decide; settled by asking Cal.com.';

COMMENT ON COLUMN public.calendar_events.created_at IS 'Cal.com''s time of the first thing we know of the booking.';

COMMENT ON COLUMN public.calendar_events.updated_at IS 'Cal.com''s time of the last thing we know of the booking.';

COMMENT ON COLUMN public.calendar_events.synced_at IS 'When this row last changed here.';

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
   FROM projections.calendar_events_1;

COMMENT ON VIEW public.status_words IS 'How each of the older systems would call a booking''s status.';

COMMENT ON COLUMN public.status_words.candidate_status IS 'Candidate scheduling: pending, confirmed, cancelled, rescheduled.';

COMMENT ON COLUMN public.status_words.meeting_status IS 'Meetings: scheduled, completed, no_show, cancelled, rescheduled.';

COMMENT ON COLUMN public.status_words.visit_status IS 'Pet salon: scheduled, completed, cancelled, rescheduled.';

CREATE VIEW public.meetings AS
 SELECT c.id,
    c.ledger,
    c.cal_com_event_id AS cal_event_id,
    w.meeting_status AS status,
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
   FROM (projections.calendar_events_1 c
     JOIN public.status_words w USING (ledger, cal_com_event_id));

COMMENT ON VIEW public.meetings IS 'Bookings in the words of the meetings system.';

CREATE VIEW public.projection_status AS
 SELECT c.projection,
    l.name AS ledger,
    c.generation,
    c."position",
    l."position" AS head,
    (l."position" - c."position") AS lag_events,
    (COALESCE(EXTRACT(epoch FROM (clock_timestamp() - ( SELECT e.recorded_at
           FROM ledger.events e
          WHERE ((e.ledger_id = c.ledger_id) AND (e."position" = (c."position" + 1)))))), (0)::numeric))::double precision AS lag_seconds,
    c.state,
    c.error AS last_error,
    ( SELECT count(*) AS count
           FROM projections.parked_events p
          WHERE ((p.ledger_id = c.ledger_id) AND (p.projection = c.projection) AND (p.generation = c.generation))) AS parked
   FROM (projections.checkpoints c
     JOIN ledger.ledgers l USING (ledger_id));

COMMENT ON VIEW public.projection_status IS 'How far each read model is behind the log.';

CREATE VIEW public.webhook_events AS
 SELECT id,
    ledger,
    webhook_type AS event_type,
    cal_com_event_id AS cal_event_id,
    payload,
    created_at AS received_at,
    (status = 'success'::text) AS processed
   FROM projections.webhook_logs_1;

COMMENT ON VIEW public.webhook_events IS 'Recorded deliveries in the words of the meetings system.';

CREATE VIEW public.webhook_logs AS
 SELECT webhook_logs_1.id,
    webhook_logs_1.ledger,
    webhook_logs_1.webhook_type,
    webhook_logs_1.payload,
    webhook_logs_1.status,
    webhook_logs_1.error_message,
    webhook_logs_1.cal_com_event_id,
    false AS duplicate,
    webhook_logs_1.duration_ms,
    webhook_logs_1.created_at
   FROM projections.webhook_logs_1
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
     JOIN ledger.ledgers l USING (ledger_id))
     LEFT JOIN projections.webhook_logs_1 first ON (((first.ledger_id = d.ledger_id) AND (first."position" = d."position"))));

COMMENT ON VIEW public.webhook_logs IS 'One row per delivery: recorded, repeated or refused. Refused ones without their body.';

ALTER TABLE ONLY interop.snapshots
    ADD CONSTRAINT snapshots_pkey PRIMARY KEY (ledger_id, recorder, originator_id, originator_version);

ALTER TABLE ONLY interop.tracking
    ADD CONSTRAINT tracking_pkey PRIMARY KEY (ledger_id, recorder, application_name);

ALTER TABLE ONLY ledger.deliveries
    ADD CONSTRAINT deliveries_pkey PRIMARY KEY (ledger_id, delivery_id);

ALTER TABLE ONLY ledger.events
    ADD CONSTRAINT events_event_id_unique UNIQUE (ledger_id, event_id);

ALTER TABLE ONLY ledger.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (ledger_id, stream_id, stream_version);

ALTER TABLE ONLY ledger.events
    ADD CONSTRAINT events_position_unique UNIQUE (ledger_id, "position");

ALTER TABLE ONLY ledger.ledgers
    ADD CONSTRAINT ledgers_pkey PRIMARY KEY (ledger_id);

ALTER TABLE ONLY ledger.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (version);

ALTER TABLE ONLY projections.booking_attendees_1
    ADD CONSTRAINT booking_attendees_1_pkey PRIMARY KEY (ledger_id, uid, email);

ALTER TABLE ONLY projections.calendar_events_1
    ADD CONSTRAINT calendar_events_1_id_unique UNIQUE (ledger_id, id);

ALTER TABLE ONLY projections.calendar_events_1
    ADD CONSTRAINT calendar_events_1_pkey PRIMARY KEY (ledger_id, cal_com_event_id);

ALTER TABLE ONLY projections.checkpoints
    ADD CONSTRAINT checkpoints_pkey PRIMARY KEY (ledger_id, projection, generation);

ALTER TABLE ONLY projections.parked_events
    ADD CONSTRAINT parked_events_pkey PRIMARY KEY (ledger_id, projection, generation, "position");

ALTER TABLE ONLY projections.webhook_logs_1
    ADD CONSTRAINT webhook_logs_1_pkey PRIMARY KEY (ledger_id, "position");

CREATE INDEX deliveries_received_at ON ledger.deliveries USING btree (ledger_id, received_at DESC);

CREATE INDEX booking_attendees_1_by_email ON projections.booking_attendees_1 USING btree (ledger_id, email);

CREATE INDEX calendar_events_1_by_attendee ON projections.calendar_events_1 USING btree (ledger_id, attendee_email);

CREATE INDEX calendar_events_1_by_created ON projections.calendar_events_1 USING btree (created_at DESC);

CREATE INDEX calendar_events_1_by_ical_uid ON projections.calendar_events_1 USING btree (ledger_id, ical_uid);

CREATE INDEX calendar_events_1_by_metadata ON projections.calendar_events_1 USING gin (metadata jsonb_path_ops);

CREATE INDEX calendar_events_1_by_number ON projections.calendar_events_1 USING btree (ledger_id, booking_number);

CREATE INDEX calendar_events_1_by_position ON projections.calendar_events_1 USING btree (ledger_id, "position");

CREATE INDEX calendar_events_1_by_root ON projections.calendar_events_1 USING btree (ledger_id, root_uid);

CREATE INDEX calendar_events_1_by_start ON projections.calendar_events_1 USING btree (ledger_id, start_time, cal_com_event_id);

CREATE INDEX webhook_logs_1_by_created ON projections.webhook_logs_1 USING btree (created_at DESC);

CREATE TRIGGER stored_events_read_only INSTEAD OF INSERT OR DELETE OR UPDATE ON interop.stored_events FOR EACH ROW EXECUTE FUNCTION interop.refuse_write();

CREATE TRIGGER events_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON ledger.events FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

ALTER TABLE ledger.events ENABLE ALWAYS TRIGGER events_append_only;
