-- Figures over stretches of days: projections.booking_statistics, and whole months from the same by month.

-- name: sum_figures
-- Planned for the values given. Weeks begin on Monday. $1 ledger_id, $2 from this day, $3 before this day, $4 host,
-- $5 event type (null: any), $6 by what: day, week, month, event_type or host; $7 from this month and $8 before this one
-- what counts is read by month (equal: none is)
SELECT
    CASE $6::text
        WHEN 'day' THEN day::text
        WHEN 'week' THEN date_trunc('week', day::timestamp)::date::text
        WHEN 'month' THEN date_trunc('month', day::timestamp)::date::text
        WHEN 'event_type' THEN nullif(event_type, '')
        WHEN 'host' THEN nullif(host_email, '')
    END AS label,
    sum(bookings)::bigint AS bookings,
    sum(scheduled)::bigint AS scheduled,
    sum(confirmed)::bigint AS confirmed,
    sum(completed)::bigint AS completed,
    sum(no_show)::bigint AS no_show,
    sum(cancelled)::bigint AS cancelled,
    sum(rescheduled)::bigint AS rescheduled,
    sum(minutes_booked)::bigint AS minutes_booked,
    sum(lead_minutes)::bigint AS lead_minutes,
    sum(led_bookings)::bigint AS led_bookings
FROM (
    SELECT * FROM projections.booking_statistics WHERE ledger_id = $1 AND day >= $2 AND day < least($3::date, $7::date)
    UNION ALL
    SELECT *, NULL FROM projections.booking_statistics_by_month WHERE ledger_id = $1 AND month >= $7::date AND month < $8::date
    UNION ALL
    SELECT * FROM projections.booking_statistics WHERE ledger_id = $1 AND day >= $8::date AND day < $3::date
) AS counted
WHERE ($4::text IS NULL OR host_email = $4)
  AND ($5::text IS NULL OR event_type = $5)
GROUP BY label
HAVING sum(bookings) > 0
ORDER BY label NULLS LAST;
