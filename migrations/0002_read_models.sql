-- The read models of generation 1, what the runner remembers of its work, and the views that people query.
--
-- projections.checkpoints      how far each projection of each ledger has come; moved in the transaction of its rows.
-- projections.parked_events    events that a projection could not apply, with the error; everything else went on.
-- projections.<model>_<n>      the tables of generation n; the views in `public` show the current one.
--
-- Every row can be thrown away: the log is the truth, these are made of it.

-- migrate:up

CREATE SCHEMA projections;

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

CREATE TABLE projections.parked_events (
    ledger_id int NOT NULL,
    projection text NOT NULL,
    generation int NOT NULL,
    position bigint NOT NULL,
    stream_id text NOT NULL,
    error text NOT NULL,
    attempts int NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT parked_events_pkey PRIMARY KEY (ledger_id, projection, generation, position)
);

CREATE TABLE projections.calendar_events_1 (
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
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    position bigint NOT NULL,
    synced_at timestamptz NOT NULL,
    CONSTRAINT calendar_events_1_pkey PRIMARY KEY (ledger_id, cal_com_event_id),
    CONSTRAINT calendar_events_1_id_unique UNIQUE (ledger_id, id),
    CONSTRAINT calendar_events_1_status_known
        CHECK (status IN ('scheduled', 'confirmed', 'completed', 'no_show', 'cancelled', 'rescheduled')),
    CONSTRAINT calendar_events_1_booking_status_known
        CHECK (booking_status IN ('pending', 'accepted', 'cancelled', 'rejected', 'rescheduled'))
);

CREATE INDEX calendar_events_1_by_start ON projections.calendar_events_1 (ledger_id, start_time, cal_com_event_id);
CREATE INDEX calendar_events_1_by_created ON projections.calendar_events_1 (created_at DESC);
CREATE INDEX calendar_events_1_by_number ON projections.calendar_events_1 (ledger_id, booking_number);
CREATE INDEX calendar_events_1_by_ical_uid ON projections.calendar_events_1 (ledger_id, ical_uid);
CREATE INDEX calendar_events_1_by_root ON projections.calendar_events_1 (ledger_id, root_uid);
CREATE INDEX calendar_events_1_by_position ON projections.calendar_events_1 (ledger_id, position);
CREATE INDEX calendar_events_1_by_metadata ON projections.calendar_events_1 USING gin (metadata jsonb_path_ops);
CREATE INDEX calendar_events_1_by_attendee ON projections.calendar_events_1 (ledger_id, attendee_email);

CREATE TABLE projections.booking_attendees_1 (
    ledger_id int NOT NULL,
    uid text COLLATE "C" NOT NULL,
    email text COLLATE "C" NOT NULL,
    ledger text NOT NULL,
    name text,
    phone text,
    time_zone text,
    no_show boolean NOT NULL,
    removed boolean NOT NULL,
    CONSTRAINT booking_attendees_1_pkey PRIMARY KEY (ledger_id, uid, email)
);

CREATE INDEX booking_attendees_1_by_email ON projections.booking_attendees_1 (ledger_id, email);

CREATE TABLE projections.webhook_logs_1 (
    ledger_id int NOT NULL,
    position bigint NOT NULL,
    id uuid NOT NULL,
    ledger text NOT NULL,
    webhook_type text NOT NULL,
    payload jsonb,
    status text NOT NULL,
    error_message text,
    cal_com_event_id text,
    duration_ms real,
    created_at timestamptz NOT NULL,
    CONSTRAINT webhook_logs_1_pkey PRIMARY KEY (ledger_id, position),
    CONSTRAINT webhook_logs_1_status_known CHECK (status IN ('processing', 'success', 'error'))
);

CREATE INDEX webhook_logs_1_by_created ON projections.webhook_logs_1 (created_at DESC);

INSERT INTO projections.checkpoints (projection, ledger_id, generation)
SELECT projection, ledger_id, 1
FROM ledger.ledgers
CROSS JOIN (VALUES ('calendar_events'), ('booking_attendees'), ('webhook_logs')) AS catalogue (projection);

CREATE VIEW public.calendar_events AS
SELECT
    id, cal_com_event_id, ledger, salon_id, client_id, pet_id, title, description, start_time, end_time,
    duration_minutes, status, booking_status, attendee_email, attendee_name, attendee_phone, attendees, host_email,
    host_name, event_type, location, meeting_url, appointment_id, root_uid, rescheduled_from, rescheduled_to, paid,
    no_show, cancellation_reason, cancelled_by, rejection_reason, recording_url, metadata, doubts, booking_number,
    ical_uid, started, ended, marked, created_at, updated_at, synced_at
FROM projections.calendar_events_1;

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
FROM projections.calendar_events_1;

CREATE VIEW public.meetings AS
SELECT
    c.id,
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
FROM projections.calendar_events_1 AS c
JOIN public.status_words AS w USING (ledger, cal_com_event_id);

CREATE VIEW public.booking_attendees AS
SELECT ledger, uid, email, name, phone, time_zone, no_show, removed
FROM projections.booking_attendees_1;

CREATE VIEW public.webhook_logs AS
SELECT id, ledger, webhook_type, payload, status, error_message, cal_com_event_id, false AS duplicate, duration_ms,
    created_at
FROM projections.webhook_logs_1
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
LEFT JOIN projections.webhook_logs_1 AS first ON first.ledger_id = d.ledger_id AND first.position = d.position;

CREATE VIEW public.webhook_events AS
SELECT
    id,
    ledger,
    webhook_type AS event_type,
    cal_com_event_id AS cal_event_id,
    payload,
    created_at AS received_at,
    status = 'success' AS processed
FROM projections.webhook_logs_1;

CREATE VIEW public.projection_status AS
SELECT
    c.projection,
    l.name AS ledger,
    c.generation,
    c.position,
    l.position AS head,
    l.position - c.position AS lag_events,
    coalesce(
        extract(
            epoch FROM clock_timestamp() - (
                SELECT e.recorded_at
                FROM ledger.events AS e
                WHERE e.ledger_id = c.ledger_id AND e.position = c.position + 1
            )
        ),
        0
    )::double precision AS lag_seconds,
    c.state,
    c.error AS last_error,
    (
        SELECT count(*)
        FROM projections.parked_events AS p
        WHERE p.ledger_id = c.ledger_id AND p.projection = c.projection AND p.generation = c.generation
    ) AS parked
FROM projections.checkpoints AS c
JOIN ledger.ledgers AS l USING (ledger_id);

COMMENT ON VIEW public.calendar_events IS 'One row per booking uid: what is true of the booking now.';
COMMENT ON COLUMN public.calendar_events.cal_com_event_id IS 'Cal.com''s uid; its numeric id as text while no uid is known.';
COMMENT ON COLUMN public.calendar_events.status IS 'scheduled, confirmed, completed, no_show, cancelled or rescheduled.';
COMMENT ON COLUMN public.calendar_events.booking_status IS 'Cal.com''s own word: pending, accepted, cancelled, rejected or rescheduled.';
COMMENT ON COLUMN public.calendar_events.appointment_id IS 'Stays the same through every reschedule: the id of the chain''s first booking.';
COMMENT ON COLUMN public.calendar_events.doubts IS 'What webhooks alone could not decide; settled by asking Cal.com.';
COMMENT ON COLUMN public.calendar_events.created_at IS 'Cal.com''s time of the first thing we know of the booking.';
COMMENT ON COLUMN public.calendar_events.updated_at IS 'Cal.com''s time of the last thing we know of the booking.';
COMMENT ON COLUMN public.calendar_events.synced_at IS 'When this row last changed here.';
COMMENT ON VIEW public.booking_attendees IS 'One row per attendee of a booking, those who left included.';
COMMENT ON VIEW public.webhook_logs IS 'One row per delivery: recorded, repeated or refused. Refused ones without their body.';
COMMENT ON VIEW public.projection_status IS 'How far each read model is behind the log.';
COMMENT ON VIEW public.status_words IS 'How each of the older systems would call a booking''s status.';
COMMENT ON COLUMN public.status_words.candidate_status IS 'Candidate scheduling: pending, confirmed, cancelled, rescheduled.';
COMMENT ON COLUMN public.status_words.meeting_status IS 'Meetings: scheduled, completed, no_show, cancelled, rescheduled.';
COMMENT ON COLUMN public.status_words.visit_status IS 'Pet salon: scheduled, completed, cancelled, rescheduled.';
COMMENT ON VIEW public.meetings IS 'Bookings in the words of the meetings system.';
COMMENT ON VIEW public.webhook_events IS 'Recorded deliveries in the words of the meetings system.';
