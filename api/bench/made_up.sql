-- Made-up bookings for measuring queries, and for looking at their plans: a generation of its own of calendar_events and
-- booking_attendees, filled before it has indexes, and one event for each booking in ledger.events, told of in webhook_logs.
--
-- Booking n of so many starts $3 to a day, the last ones three weeks ahead of now; one in ten was moved to the next.

-- name: create_tables
-- $1 projection, $2 generation
SELECT projections.create_tables($1, $2);

-- name: show_tables
-- $1 projection, $2 generation
SELECT projections.show($1, $2);

-- name: add_indexes
-- $1 projection, $2 generation
SELECT projections.add_index($1, $2, missing.name)
FROM projections.missing_indexes($1, $2) AS missing;

-- name: analyze_tables
-- $1 projection, $2 generation
SELECT projections.analyze_tables($1, $2);

-- name: fill_bookings
-- $1 how many, $2 now, $3 how many a day
INSERT INTO projections.calendar_events (
    ledger_id, id, cal_com_event_id, ledger, salon_id, client_id, pet_id, title, description, start_time, end_time,
    duration_minutes, status, booking_status, attendee_email, attendee_name, attendee_phone, attendees, host_email,
    host_name, event_type, location, meeting_url, appointment_id, root_uid, rescheduled_from, rescheduled_to, paid,
    no_show, metadata, doubts, booking_number, ical_uid, started, ended, marked, created_at, updated_at, position,
    synced_at
)
SELECT
    1, md5('id' || n)::uuid, uid, 'main', salon, client, pet, 'Bath with ' || host,
    CASE WHEN n % 4 = 0 THEN 'Please mind the stairs and ring twice, number ' || n END, start, start + interval '45 min',
    45, status,
    CASE WHEN status IN ('cancelled', 'rescheduled') THEN status ELSE 'accepted' END,
    person || '@example.com', initcap(person), '+48' || (600000000 + n % 1000000),
    jsonb_build_array(
        jsonb_build_object(
            'email', person || '@example.com', 'name', initcap(person), 'phone', NULL, 'time_zone', 'Europe/Warsaw',
            'no_show', status = 'no_show'
        )
    ),
    host, initcap(split_part(host, '@', 1)), CASE WHEN n % 97 = 0 THEN 'type-rare' ELSE 'type-' || n % 8 END,
    'integrations:daily', 'https://app.cal.com/video/' || uid,
    md5('id' || n)::uuid,
    CASE WHEN n % 10 = 1 THEN before ELSE uid END,
    CASE WHEN n % 10 = 1 THEN before END,
    CASE WHEN n % 10 = 0 THEN after END,
    n % 5 = 0, status = 'no_show',
    jsonb_build_object(
        'barkbookClientId', client, 'barkbookPetId', pet, 'salonId', salon,
        'source', CASE WHEN n % 3 = 0 THEN 'phone' ELSE 'website' END
    ),
    '{}', n, uid || '@Cal.com', start <= $2, start <= $2, false, start - interval '5 days',
    start, n, start
FROM (
    SELECT
        n,
        substr(md5('uid' || n), 1, 22) AS uid,
        substr(md5('uid' || n - 1), 1, 22) AS before,
        substr(md5('uid' || n + 1), 1, 22) AS after,
        'client-' || (n::bigint * 7919) % greatest($1::int / 10, 1) AS client,
        'person-' || (n::bigint * 7919) % greatest($1 / 10, 1) AS person,
        'pet-' || (n::bigint * 7919) % greatest($1 / 8, 1) AS pet,
        'salon-' || n % 20 AS salon,
        'host-' || n % 12 || '@studio.example.com' AS host,
        start,
        CASE
            WHEN n % 10 = 0 THEN 'rescheduled'
            WHEN n % 13 = 0 THEN 'cancelled'
            WHEN start > $2::timestamptz THEN CASE WHEN n % 2 = 0 THEN 'confirmed' ELSE 'scheduled' END
            WHEN n % 31 = 0 THEN 'no_show'
            ELSE 'completed'
        END AS status
    FROM generate_series(1, $1) AS n
    CROSS JOIN LATERAL (
        SELECT
            date_trunc('day', $2::timestamptz) + interval '21 days' - ($1 - n) / $3::int * interval '1 day'
                + (480 + n % $3 * 600 / $3) * interval '1 minute' AS start
    ) AS timed
) AS made;

-- name: fill_attendees
INSERT INTO projections.booking_attendees (ledger_id, uid, email, ledger, name, phone, time_zone, no_show, removed)
SELECT ledger_id, cal_com_event_id, attendee_email, ledger, attendee_name, NULL, 'Europe/Warsaw', no_show, false
FROM projections.calendar_events;

-- name: fill_statistics
INSERT INTO projections.booking_statistics (
    ledger_id, day, event_type, host_email, ledger, bookings, scheduled, confirmed, completed, no_show, cancelled,
    rescheduled, minutes_booked, lead_minutes, led_bookings, ahead
)
SELECT
    ledger_id, (start_time AT TIME ZONE 'UTC')::date, event_type, host_email, ledger, count(*),
    count(*) FILTER (WHERE status = 'scheduled'), count(*) FILTER (WHERE status = 'confirmed'),
    count(*) FILTER (WHERE status = 'completed'), count(*) FILTER (WHERE status = 'no_show'),
    count(*) FILTER (WHERE status = 'cancelled'), count(*) FILTER (WHERE status = 'rescheduled'),
    coalesce(sum(duration_minutes) FILTER (WHERE status NOT IN ('cancelled', 'rescheduled')), 0), 7200 * count(*),
    count(*), bool_or(status IN ('scheduled', 'confirmed'))
FROM projections.calendar_events
GROUP BY ledger_id, (start_time AT TIME ZONE 'UTC')::date, event_type, host_email, ledger
ORDER BY ledger_id, (start_time AT TIME ZONE 'UTC')::date, event_type, host_email;

-- name: fill_statistics_by_month
INSERT INTO projections.booking_statistics_by_month (
    ledger_id, month, event_type, host_email, ledger, bookings, scheduled, confirmed, completed, no_show, cancelled,
    rescheduled, minutes_booked, lead_minutes, led_bookings
)
SELECT
    ledger_id, date_trunc('month', day::timestamp)::date, event_type, host_email, ledger, sum(bookings), sum(scheduled),
    sum(confirmed), sum(completed), sum(no_show), sum(cancelled), sum(rescheduled), sum(minutes_booked),
    sum(lead_minutes), sum(led_bookings)
FROM projections.booking_statistics
GROUP BY 1, 2, 3, 4, 5
ORDER BY 1, 2, 3, 4;

-- name: fill_statistics_in_all
INSERT INTO projections.booking_statistics_in_all (
    ledger_id, unit, first_day, bookings, scheduled, confirmed, completed, no_show, cancelled, rescheduled,
    minutes_booked, lead_minutes, led_bookings
)
SELECT
    ledger_id, span.unit, span.first_day, sum(bookings), sum(scheduled), sum(confirmed), sum(completed), sum(no_show),
    sum(cancelled), sum(rescheduled), sum(minutes_booked), sum(lead_minutes), sum(led_bookings)
FROM projections.booking_statistics
CROSS JOIN LATERAL (
    VALUES ('day', day), ('month', date_trunc('month', day::timestamp)::date)
) AS span (unit, first_day)
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3;

-- name: fill_log
-- One delivery a booking, in the order of their numbers; its digest chains nothing. $1 when the last was recorded
INSERT INTO ledger.events (
    ledger_id, position, stream_id, stream_version, event_id, topic, state, encoding, occurred_at, recorded_at, source,
    metadata, digest
)
SELECT
    ledger_id, position, 'booking-' || cal_com_event_id, 1, md5('event' || position)::uuid, 'calcom.booking_created',
    convert_to(
        jsonb_build_object(
            'triggerEvent', 'BOOKING_CREATED',
            'createdAt', to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
            'payload', jsonb_build_object(
                'uid', cal_com_event_id, 'bookingId', booking_number, 'title', title, 'startTime', start_time,
                'endTime', end_time, 'iCalUID', ical_uid, 'type', event_type, 'metadata', metadata,
                'organizer', jsonb_build_object('email', host_email, 'name', host_name),
                'attendees', attendees
            )
        )::text,
        'UTF8'
    ),
    0, created_at, $1::timestamptz - (max(position) OVER () - position) * interval '1 second', 'webhook', '{}',
    sha256(int8send(position))
FROM projections.calendar_events;

-- name: fill_deliveries
-- Of all deliveries a hundred are of a seldom kind, and a hundred of none that is known. $1 how many there are
INSERT INTO projections.webhook_logs (
    ledger_id, position, id, ledger, webhook_type, in_log, status, cal_com_event_id, duration_ms, created_at
)
SELECT
    e.ledger_id, e.position, e.event_id, 'main',
    CASE
        WHEN e.position % greatest($1::bigint / 100, 1) = 7 THEN 'BOOKING_REASSIGNED'
        WHEN e.position % greatest($1 / 100, 1) = 11 THEN 'unrecognised'
        WHEN e.position % 20 = 0 THEN 'BOOKING_CANCELLED'
        ELSE 'BOOKING_CREATED'
    END,
    true, CASE WHEN e.position % 5003 = 0 THEN 'error' ELSE 'success' END, substr(e.stream_id, 9), 3, e.recorded_at
FROM ledger.events AS e
ORDER BY e.position;

-- name: move_head
-- $1 when the last was recorded
UPDATE ledger.ledgers
SET position = (SELECT max(e.position) FROM ledger.events AS e WHERE e.ledger_id = 1), recorded_at = $1
WHERE ledger_id = 1;

-- name: analyze_log
ANALYZE ledger.events;
