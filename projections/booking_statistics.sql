-- The read model `booking_statistics`, shown as public.booking_statistics, and the same by month. The search path names
-- the generation.

-- name: read_counted
-- $1 ledger_id, $2 uids
SELECT status, start_time, created_at, duration_minutes, event_type, host_email
FROM calendar_events
WHERE ledger_id = $1 AND cal_com_event_id = ANY($2::text[])
ORDER BY cal_com_event_id;

-- name: add_figures
-- $1 rows, their figures being differences
INSERT INTO booking_statistics AS s
SELECT given.* FROM unnest($1::calendar_events_0.booking_statistics[]) AS given
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

-- name: add_figures_by_month
-- $1 rows, their figures being differences
INSERT INTO booking_statistics_by_month AS s
SELECT given.* FROM unnest($1::calendar_events_0.booking_statistics_by_month[]) AS given
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
    led_bookings = s.led_bookings + excluded.led_bookings;

-- name: unite_rows
WITH part AS (
    DELETE FROM booking_statistics RETURNING *
)
INSERT INTO booking_statistics
SELECT
    ledger_id, day, event_type, host_email, min(ledger), sum(bookings), sum(scheduled), sum(confirmed), sum(completed),
    sum(no_show), sum(cancelled), sum(rescheduled), sum(minutes_booked), sum(lead_minutes), sum(led_bookings),
    bool_or(ahead)
FROM part
GROUP BY ledger_id, day, event_type, host_email;

-- name: sum_months
INSERT INTO booking_statistics_by_month
SELECT
    ledger_id, date_trunc('month', day::timestamp)::date, event_type, host_email, min(ledger), sum(bookings),
    sum(scheduled), sum(confirmed), sum(completed), sum(no_show), sum(cancelled), sum(rescheduled), sum(minutes_booked),
    sum(lead_minutes), sum(led_bookings)
FROM booking_statistics
GROUP BY 1, 2, 3, 4;
