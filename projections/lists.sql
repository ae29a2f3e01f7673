-- Lists of bookings: projections.calendar_events, with projections.booking_attendees and projections.booking_statistics
-- to find them by.

-- name: list_bookings
-- A page of bookings by start, those without one last; just those with one or just those without, where $18 says so.
-- Every filter is null for "any", and is then no condition at all, since the statement is planned for the values it is
-- given. Attendee, client, pet and uids each find their index, and so does the one filter that $21 names. Every other one
-- is looked for in $19 bookings at most, and the last of so many is answered whether it fits or not, for the next page to
-- go on from.
-- $1 ledger_id, $2 statuses, $3 and $4 start from and before, $5 attendee, $6 host, $7 event type, $8 client, $9 pet,
-- $10 salon, $11 metadata to contain (jsonb), $12 regular expression for texts, $13 and $14 start and uid after which to
-- go on, $15 at most so many, $16 uids to choose from, $17 uids to leave out, $18 whether with or without a start, $19 how
-- many to look at, $20 path to the text in attendees, $21 host, event_type, salon or metadata: along which to go (null:
-- none of them)
SELECT
    id, cal_com_event_id, ledger, salon_id, client_id, pet_id, title, description, start_time, end_time,
    duration_minutes, status, booking_status, attendee_email, attendee_name, attendee_phone, attendees, host_email,
    host_name, event_type, location, meeting_url, appointment_id, root_uid, rescheduled_from, rescheduled_to, paid,
    no_show, cancellation_reason, cancelled_by, rejection_reason, recording_url, metadata, doubts, booking_number,
    ical_uid, started, ended, marked, created_at, updated_at, fits, place = $19 AS is_last
FROM (
    SELECT
        c.*,
        row_number() OVER (ORDER BY c.start_time, c.cal_com_event_id) AS place,
        ($2::text[] IS NULL OR c.status = ANY($2))
        AND ($6::text IS NULL OR c.host_email = $6)
        AND ($7::text IS NULL OR c.event_type = $7)
        AND ($10::text IS NULL OR c.salon_id = $10)
        AND ($11::jsonb IS NULL OR c.metadata @> $11)
        AND (
            $12::text IS NULL
            OR c.title ~* $12
            OR c.description ~* $12
            OR c.attendees @? $20::text::jsonpath
        ) AS fits
    FROM projections.calendar_events AS c
    WHERE c.ledger_id = $1
      AND ($18::boolean IS NULL OR CASE WHEN $18 THEN c.start_time IS NOT NULL ELSE c.start_time IS NULL END)
      AND ($3::timestamptz IS NULL OR c.start_time >= $3)
      AND ($4::timestamptz IS NULL OR c.start_time < $4)
      AND (
          $5::text IS NULL
          OR c.cal_com_event_id = ANY (
              ARRAY(
                  SELECT a.uid FROM projections.booking_attendees AS a
                  WHERE a.ledger_id = $1 AND a.email = $5 AND NOT a.removed
              )
          )
      )
      AND ($21::text IS DISTINCT FROM 'host' OR c.host_email = $6)
      AND ($21 IS DISTINCT FROM 'event_type' OR c.event_type = $7)
      AND ($8::text IS NULL OR c.client_id = $8)
      AND ($9::text IS NULL OR c.pet_id = $9)
      AND ($21 IS DISTINCT FROM 'salon' OR c.salon_id = $10)
      AND ($21 IS DISTINCT FROM 'metadata' OR c.metadata @> $11)
      AND ($16::text[] IS NULL OR c.cal_com_event_id = ANY($16))
      AND ($17::text[] IS NULL OR c.cal_com_event_id <> ALL($17))
      AND CASE
          WHEN $14::text IS NULL THEN true
          WHEN $18 THEN (c.start_time, c.cal_com_event_id) > ($13::timestamptz, $14)
          ELSE c.cal_com_event_id > $14
      END
    ORDER BY c.start_time, c.cal_com_event_id
    LIMIT $19::bigint
) AS looked_at
WHERE fits OR place = $19
ORDER BY start_time, cal_com_event_id
LIMIT $15;

-- name: guess_bookings
-- How many bookings have this metadata, as PostgreSQL guesses from its statistics: a plan in JSON, which is carried out by
-- nobody. $1 ledger_id, $2 metadata (jsonb)
EXPLAIN (FORMAT JSON)
SELECT FROM projections.calendar_events
WHERE ledger_id = $1 AND metadata @> $2::jsonb;

-- name: find_first_day
-- The first day from a moment on, in UTC, that has a booking of one of these statuses; null where none has. No index of
-- calendar_events holds a status, so a list of it begins here. The days with something `ahead` have an index of their own;
-- for all else the first month is found first, since there are far fewer of those to look through in vain.
-- $1 ledger_id, $2 statuses, $3 from (null: any time), $4 host, $5 event type (null: any)
SELECT min(day)::timestamp AT TIME ZONE 'UTC'
FROM projections.booking_statistics
WHERE ledger_id = $1
  AND ($3::timestamptz IS NULL OR day >= ($3 AT TIME ZONE 'UTC')::date)
  AND ($4::text IS NULL OR host_email = $4)
  AND ($5::text IS NULL OR event_type = $5)
  AND CASE
      WHEN $2::text[] <@ '{scheduled, confirmed}' THEN ahead
      ELSE day >= (
          SELECT min(month)
          FROM projections.booking_statistics_by_month
          WHERE ledger_id = $1
            AND ($3 IS NULL OR month >= date_trunc('month', $3 AT TIME ZONE 'UTC')::date)
            AND ($4 IS NULL OR host_email = $4)
            AND ($5 IS NULL OR event_type = $5)
            AND (
                ('scheduled' = ANY($2) AND scheduled > 0)
                OR ('confirmed' = ANY($2) AND confirmed > 0)
                OR ('completed' = ANY($2) AND completed > 0)
                OR ('no_show' = ANY($2) AND no_show > 0)
                OR ('cancelled' = ANY($2) AND cancelled > 0)
                OR ('rescheduled' = ANY($2) AND rescheduled > 0)
            )
      )
  END
  AND (
      ('scheduled' = ANY($2) AND scheduled > 0)
      OR ('confirmed' = ANY($2) AND confirmed > 0)
      OR ('completed' = ANY($2) AND completed > 0)
      OR ('no_show' = ANY($2) AND no_show > 0)
      OR ('cancelled' = ANY($2) AND cancelled > 0)
      OR ('rescheduled' = ANY($2) AND rescheduled > 0)
  );

-- name: find_named
-- The bookings that have a name, and those of the same chain as a uid, each look-up by its own index. The path of JSON is
-- a query of its own: PostgreSQL then expects as much of any, and keeps one plan, where planning takes longer than looking.
-- $1 ledger_id, $2 the name, $3 the same in lower case, $4 the same as a number, $5 at most so many
SELECT m.cal_com_event_id
FROM projections.calendar_events AS m
WHERE m.ledger_id = $1 AND m.cal_com_event_id = $2::text
UNION
SELECT m.cal_com_event_id
FROM projections.calendar_events AS m
WHERE m.ledger_id = $1 AND m.booking_number = $4
UNION
SELECT m.cal_com_event_id
FROM projections.calendar_events AS m
WHERE m.ledger_id = $1 AND m.ical_uid = $2
UNION
SELECT a.uid
FROM projections.booking_attendees AS a
WHERE a.ledger_id = $1 AND a.email = $3
UNION
SELECT m.cal_com_event_id
FROM projections.calendar_events AS m
WHERE m.ledger_id = $1 AND m.metadata @? (SELECT ('$.* ? (@ == ' || to_json($2) || ')')::jsonpath)
UNION
SELECT root.cal_com_event_id
FROM projections.calendar_events AS m
JOIN projections.calendar_events AS root ON root.ledger_id = $1 AND root.cal_com_event_id = m.root_uid
WHERE m.ledger_id = $1 AND m.cal_com_event_id = $2 AND root.root_uid = m.root_uid
UNION
SELECT other.cal_com_event_id
FROM projections.calendar_events AS m
JOIN projections.calendar_events AS other
    ON other.root_uid = m.root_uid AND other.ledger_id = $1 AND other.root_uid <> other.cal_com_event_id
WHERE m.ledger_id = $1 AND m.cal_com_event_id = $2
LIMIT $5;
