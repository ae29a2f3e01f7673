-- Bookings that a delivery may mean: projections.booking_attendees and projections.calendar_events.

-- name: find_bookings_of_attendees
-- For each of some attendees the bookings that may be meant, the likeliest first: those of the start that was told, then
-- what was to come when it was told, the next first, then what was over, the latest first. A booking that was
-- rescheduled is meant by nothing but its own start.
-- $1 ledger_id, $2 e-mails in lower case, $3 starts that were told (null: none), $4 when they were told, $5 at most so
-- many bookings each
SELECT ordinal, cal_com_event_id, reason, title, start_time, status
FROM (
    SELECT
        given.ordinal, c.cal_com_event_id, c.title, c.start_time, c.status,
        CASE
            WHEN c.start_time = given.start_time THEN 'same_start'
            WHEN count(*) FILTER (WHERE c.status <> 'rescheduled') OVER of_one = 1 THEN 'only_booking_of_attendee'
            ELSE 'attendee'
        END AS reason,
        row_number() OVER (
            of_one
            ORDER BY
                coalesce(c.start_time = given.start_time, false) DESC,
                c.status = 'rescheduled',
                coalesce(c.start_time >= given.told_at, false) DESC,
                abs(extract(epoch FROM c.start_time - given.told_at)),
                c.cal_com_event_id
        ) AS place
    FROM unnest($2::text[], $3::timestamptz[], $4::timestamptz[]) WITH ORDINALITY
        AS given (email, start_time, told_at, ordinal)
    JOIN projections.booking_attendees AS a ON a.ledger_id = $1 AND a.email = given.email AND NOT a.removed
    JOIN projections.calendar_events AS c ON c.ledger_id = $1 AND c.cal_com_event_id = a.uid
    WHERE c.status <> 'rescheduled' OR c.start_time = given.start_time
    WINDOW of_one AS (PARTITION BY given.ordinal)
) AS likely
WHERE place <= $5
ORDER BY ordinal, place;
