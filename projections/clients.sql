-- Clients: the view projections.clients, and projections.calendar_events to find a page of them by index.

-- name: read_clients
-- $1 ledger_id, $2 client ids
SELECT
    client_id, ledger, attendee_name, attendee_email, attendee_phone, first_visit, last_visit, next_appointment, bookings,
    completed, no_show, cancelled, rescheduled, no_show_rate::float8 AS no_show_rate
FROM projections.clients
WHERE ledger_id = $1 AND client_id = ANY($2::text[]);

-- name: find_by_id
-- From each client to the next one, without looking at their bookings. $1 ledger_id, $2 after this client, $3 at most so
-- many
WITH RECURSIVE found AS (
    (
        SELECT client_id, 1 AS place
        FROM projections.calendar_events
        WHERE ledger_id = $1 AND client_id > $2
        ORDER BY client_id
        LIMIT 1
    )
    UNION ALL
    SELECT following.client_id, found.place + 1
    FROM found
    CROSS JOIN LATERAL (
        SELECT c.client_id
        FROM projections.calendar_events AS c
        WHERE c.ledger_id = $1 AND c.client_id > found.client_id
        ORDER BY c.client_id
        LIMIT 1
    ) AS following
    WHERE found.place < $3
)
SELECT client_id FROM found ORDER BY client_id;

-- name: find_by_last_visit
-- Back in time along completed bookings; one that is its client's last is that client. From the last day on that has any.
-- $1 ledger_id, $2 and $3 start and uid after which to go on (null: from the latest), $4 at most so many
SELECT c.client_id, c.start_time, c.cal_com_event_id
FROM projections.calendar_events AS c
WHERE c.ledger_id = $1
  AND c.client_id IS NOT NULL
  AND c.status = 'completed'
  AND (c.start_time, c.cal_com_event_id) < (
      coalesce(
          $2::timestamptz,
          (
              SELECT (max(s.day) + 1)::timestamp AT TIME ZONE 'UTC'
              FROM projections.booking_statistics AS s
              WHERE s.ledger_id = $1 AND s.completed > 0
          )
      ),
      coalesce($3::text, '')
  )
  AND c.cal_com_event_id = (
      SELECT own.cal_com_event_id
      FROM projections.calendar_events AS own
      WHERE own.client_id = c.client_id
        AND own.ledger_id = $1
        AND own.start_time IS NOT NULL
        AND own.status = 'completed'
      ORDER BY own.start_time DESC, own.cal_com_event_id DESC
      LIMIT 1
  )
ORDER BY c.start_time DESC, c.cal_com_event_id DESC
LIMIT $4;
