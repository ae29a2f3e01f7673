-- The read model `booking_statistics`, shown as public.booking_statistics, the same by month, and in all. The search path
-- names the generation.

-- name: read_counted
-- $1 ledger_id, $2 uids
SELECT status, start_time, created_at, duration_minutes, event_type, host_email
FROM calendar_events
WHERE ledger_id = $1 AND cal_com_event_id = ANY($2::text[])
ORDER BY cal_com_event_id;

-- name: add_figures
-- The days have moved by these differences, and with them the months and what is counted in all: in one statement, since
-- the way there and back costs as much as the rows of a short page. $1 rows, their figures being differences
WITH given AS MATERIALIZED (
    SELECT * FROM unnest($1::calendar_events_0.booking_statistics[])
),
month AS MATERIALIZED (
    SELECT
        ledger_id, date_trunc('month', day::timestamp)::date AS first_day, event_type, host_email, min(ledger) AS ledger,
        sum(bookings)::int AS bookings, sum(scheduled)::int AS scheduled, sum(confirmed)::int AS confirmed,
        sum(completed)::int AS completed, sum(no_show)::int AS no_show, sum(cancelled)::int AS cancelled,
        sum(rescheduled)::int AS rescheduled, sum(minutes_booked)::bigint AS minutes_booked,
        sum(lead_minutes)::bigint AS lead_minutes, sum(led_bookings)::int AS led_bookings
    FROM given
    GROUP BY 1, 2, 3, 4
),
by_month AS (
    INSERT INTO booking_statistics_by_month AS s
    SELECT * FROM month
    ON CONFLICT (ledger_id, month, event_type, host_email) DO UPDATE SET
        bookings = s.bookings + excluded.bookings,
        scheduled = s.scheduled + excluded.scheduled,
        confirmed = s.confirmed + excluded.confirmed,
        completed = s.completed + excluded.completed,
        no_show = s.no_show + excluded.no_show,
        cancelled = s.cancelled + excluded.cancelled,
        rescheduled = s.rescheduled + excluded.rescheduled,
        minutes_booked = s.minutes_booked + excluded.minutes_booked,
        lead_minutes = s.lead_minutes + excluded.lead_minutes,
        led_bookings = s.led_bookings + excluded.led_bookings
),
in_all AS (
    INSERT INTO booking_statistics_in_all AS s
    SELECT
        ledger_id, 'day', day, sum(bookings), sum(scheduled), sum(confirmed), sum(completed), sum(no_show),
        sum(cancelled), sum(rescheduled), sum(minutes_booked), sum(lead_minutes), sum(led_bookings)
    FROM given
    GROUP BY ledger_id, day
    UNION ALL
    SELECT
        ledger_id, 'month', first_day, sum(bookings), sum(scheduled), sum(confirmed), sum(completed), sum(no_show),
        sum(cancelled), sum(rescheduled), sum(minutes_booked), sum(lead_minutes), sum(led_bookings)
    FROM month
    GROUP BY ledger_id, first_day
    ON CONFLICT (ledger_id, unit, first_day) DO UPDATE SET
        bookings = s.bookings + excluded.bookings,
        scheduled = s.scheduled + excluded.scheduled,
        confirmed = s.confirmed + excluded.confirmed,
        completed = s.completed + excluded.completed,
        no_show = s.no_show + excluded.no_show,
        cancelled = s.cancelled + excluded.cancelled,
        rescheduled = s.rescheduled + excluded.rescheduled,
        minutes_booked = s.minutes_booked + excluded.minutes_booked,
        lead_minutes = s.lead_minutes + excluded.lead_minutes,
        led_bookings = s.led_bookings + excluded.led_bookings
)
INSERT INTO booking_statistics AS s
SELECT * FROM given
ON CONFLICT (ledger_id, day, event_type, host_email) DO UPDATE SET
    bookings = s.bookings + excluded.bookings,
    scheduled = s.scheduled + excluded.scheduled,
    confirmed = s.confirmed + excluded.confirmed,
    completed = s.completed + excluded.completed,
    no_show = s.no_show + excluded.no_show,
    cancelled = s.cancelled + excluded.cancelled,
    rescheduled = s.rescheduled + excluded.rescheduled,
    minutes_booked = s.minutes_booked + excluded.minutes_booked,
    lead_minutes = s.lead_minutes + excluded.lead_minutes,
    led_bookings = s.led_bookings + excluded.led_bookings,
    ahead = s.scheduled + excluded.scheduled > 0 OR s.confirmed + excluded.confirmed > 0;

-- name: unite_rows
-- In the order of the key, so that days that are read together lie together.
WITH part AS (
    DELETE FROM booking_statistics RETURNING *
)
INSERT INTO booking_statistics
SELECT
    ledger_id, day, event_type, host_email, min(ledger), sum(bookings), sum(scheduled), sum(confirmed), sum(completed),
    sum(no_show), sum(cancelled), sum(rescheduled), sum(minutes_booked), sum(lead_minutes), sum(led_bookings),
    bool_or(ahead)
FROM part
GROUP BY ledger_id, day, event_type, host_email
ORDER BY ledger_id, day, event_type, host_email;

-- name: sum_months
INSERT INTO booking_statistics_by_month
SELECT
    ledger_id, date_trunc('month', day::timestamp)::date, event_type, host_email, min(ledger), sum(bookings),
    sum(scheduled), sum(confirmed), sum(completed), sum(no_show), sum(cancelled), sum(rescheduled), sum(minutes_booked),
    sum(lead_minutes), sum(led_bookings)
FROM booking_statistics
GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3, 4;

-- name: sum_all
INSERT INTO booking_statistics_in_all
SELECT
    ledger_id, 'day', day, sum(bookings), sum(scheduled), sum(confirmed), sum(completed), sum(no_show), sum(cancelled),
    sum(rescheduled), sum(minutes_booked), sum(lead_minutes), sum(led_bookings)
FROM booking_statistics
GROUP BY 1, 3
UNION ALL
SELECT
    ledger_id, 'month', month, sum(bookings), sum(scheduled), sum(confirmed), sum(completed), sum(no_show),
    sum(cancelled), sum(rescheduled), sum(minutes_booked), sum(lead_minutes), sum(led_bookings)
FROM booking_statistics_by_month
GROUP BY 1, 3
ORDER BY 1, 2, 3;
