-- Bookings for people and programs: public.calendar_events, and the log where it must be the truth itself.

-- name: list_bookings
-- A page of bookings by start, those without one last. Every filter is null for "any".
-- $1 ledger_id, $2 statuses, $3 and $4 start from and before, $5 attendee, $6 host, $7 event type, $8 client, $9 pet,
-- $10 salon, $11 metadata to contain (jsonb), $12 text pattern, $13 and $14 start and uid after which to go on,
-- $15 at most so many
SELECT
    id, cal_com_event_id, ledger, salon_id, client_id, pet_id, title, description, start_time, end_time,
    duration_minutes, status, booking_status, attendee_email, attendee_name, attendee_phone, attendees, host_email,
    host_name, event_type, location, meeting_url, appointment_id, root_uid, rescheduled_from, rescheduled_to, paid,
    no_show, cancellation_reason, cancelled_by, rejection_reason, recording_url, metadata, doubts, booking_number,
    ical_uid, started, ended, created_at, updated_at
FROM projections.calendar_events_1 AS c
WHERE ledger_id = $1
  AND ($2::text[] IS NULL OR status = ANY($2))
  AND ($3::timestamptz IS NULL OR start_time >= $3)
  AND ($4::timestamptz IS NULL OR start_time < $4)
  AND (
      $5::text IS NULL
      OR cal_com_event_id IN (
          SELECT uid FROM projections.booking_attendees_1 AS a
          WHERE a.ledger_id = $1 AND a.email = $5 AND NOT a.removed
      )
  )
  AND ($6::text IS NULL OR host_email = $6)
  AND ($7::text IS NULL OR event_type = $7)
  AND ($8::text IS NULL OR client_id = $8)
  AND ($9::text IS NULL OR pet_id = $9)
  AND ($10::text IS NULL OR salon_id = $10)
  AND ($11::jsonb IS NULL OR metadata @> $11)
  AND ($12::text IS NULL OR title ILIKE $12 OR description ILIKE $12 OR attendees::text ILIKE $12)
  AND (
      $14::text IS NULL
      OR (start_time, cal_com_event_id) > ($13::timestamptz, $14)
      OR ($13 IS NOT NULL AND start_time IS NULL)
      OR ($13 IS NULL AND start_time IS NULL AND cal_com_event_id > $14)
  )
ORDER BY start_time, cal_com_event_id
LIMIT $15;

-- name: read_lag_events
-- How many events the furthest read model is behind.
SELECT coalesce(max(lag_events), 0)
FROM public.projection_status;

-- name: read_visibility
-- How fast bookings became visible, by each one's last event. $1 ledger_id
SELECT
    l.position AS events,
    count(c.position) AS bookings,
    coalesce((SELECT max(s.lag_events) FROM public.projection_status AS s WHERE s.ledger = l.name), 0) AS lag_events,
    coalesce(percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM c.synced_at - e.recorded_at)), 0) * 1000
        AS median_ms,
    coalesce(percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM c.synced_at - e.recorded_at)), 0) * 1000
        AS p95_ms
FROM ledger.ledgers AS l
LEFT JOIN projections.calendar_events_1 AS c USING (ledger_id)
LEFT JOIN ledger.events AS e ON e.ledger_id = c.ledger_id AND e.position = c.position
WHERE l.ledger_id = $1
GROUP BY l.ledger_id, l.name, l.position;

-- name: pick_story
-- The booking whose chain has the most to tell: rescheduled often, then cancelled or not come to. $1 ledger_id
SELECT cal_com_event_id
FROM projections.calendar_events_1 AS c
WHERE ledger_id = $1 AND rescheduled_from IS NOT NULL AND rescheduled_to IS NULL
ORDER BY
    (
        SELECT count(*) FROM projections.calendar_events_1 AS member
        WHERE member.ledger_id = $1 AND member.root_uid = c.root_uid
    ) DESC,
    status IN ('no_show', 'cancelled') DESC,
    cal_com_event_id
LIMIT 1;
