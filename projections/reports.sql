-- Figures over stretches of days: projections.booking_statistics, and whole months from the same by month. Of all event
-- types and hosts together: projections.booking_statistics_in_all. Both are planned for the values given.

-- name: sum_figures
-- Weeks begin on Monday. $1 ledger_id, $2 from this day, $3 before this day, $4 from this month and $5 before this one
-- what counts is read by month (equal: none is), $6 by what: day, week, month, event_type or host, $7 host, $8 event type
-- (null: any)
SELECT
    coalesce(since::text, nullif(name, '')) AS label,
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
    SELECT
        CASE $6::text
            WHEN 'day' THEN day
            WHEN 'week' THEN date_trunc('week', day::timestamp)::date
            WHEN 'month' THEN date_trunc('month', day::timestamp)::date
        END AS since,
        CASE $6 WHEN 'event_type' THEN event_type WHEN 'host' THEN host_email END AS name,
        bookings, scheduled, confirmed, completed, no_show, cancelled, rescheduled, minutes_booked, lead_minutes,
        led_bookings
    FROM (
        SELECT * FROM projections.booking_statistics WHERE ledger_id = $1 AND day >= $2 AND day < least($3::date, $4::date)
        UNION ALL
        SELECT *, NULL FROM projections.booking_statistics_by_month WHERE ledger_id = $1 AND month >= $4 AND month < $5::date
        UNION ALL
        SELECT * FROM projections.booking_statistics WHERE ledger_id = $1 AND day >= $5 AND day < $3
    ) AS counted
    WHERE ($7::text IS NULL OR host_email = $7)
      AND ($8::text IS NULL OR event_type = $8)
) AS named
GROUP BY since, name
HAVING sum(bookings) > 0
ORDER BY since, nullif(name, '') NULLS LAST;

-- name: sum_all
-- The same of all event types and hosts together. $1 ledger_id, $2 from this day, $3 before this day, $4 from this month
-- and $5 before this one what counts is read by month (equal: none is), $6 by what: day, week or month
SELECT
    since::text AS label,
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
    SELECT
        CASE $6::text
            WHEN 'day' THEN first_day
            WHEN 'week' THEN date_trunc('week', first_day::timestamp)::date
            WHEN 'month' THEN date_trunc('month', first_day::timestamp)::date
        END AS since,
        bookings, scheduled, confirmed, completed, no_show, cancelled, rescheduled, minutes_booked, lead_minutes,
        led_bookings
    FROM projections.booking_statistics_in_all
    WHERE ledger_id = $1
      AND (
          (unit = 'day' AND first_day >= $2 AND first_day < least($3::date, $4::date))
          OR (unit = 'month' AND first_day >= $4 AND first_day < $5::date)
          OR (unit = 'day' AND first_day >= $5 AND first_day < $3)
      )
) AS named
GROUP BY since
HAVING sum(bookings) > 0
ORDER BY since;
