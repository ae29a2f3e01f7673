-- What tutorials keep of a webhook: calendar_events and webhook_logs of api/bench/peers/tables.sql.

-- name: upsert_event
-- $1 uid, $2 title, $3 start, $4 end, $5 status, $6 e-mail, $7 name, $8 metadata as JSON
INSERT INTO calendar_events (
    cal_com_event_id, title, start_time, end_time, status, attendee_email, attendee_name, metadata
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb)
ON CONFLICT (cal_com_event_id) DO UPDATE SET
    title = coalesce(excluded.title, calendar_events.title),
    start_time = coalesce(excluded.start_time, calendar_events.start_time),
    end_time = coalesce(excluded.end_time, calendar_events.end_time),
    status = excluded.status,
    attendee_email = coalesce(excluded.attendee_email, calendar_events.attendee_email),
    attendee_name = coalesce(excluded.attendee_name, calendar_events.attendee_name),
    metadata = excluded.metadata,
    updated_at = now();

-- name: insert_log
-- $1 trigger, $2 body as JSON, $3 uid
INSERT INTO webhook_logs (webhook_type, payload, status, cal_com_event_id)
VALUES ($1, $2::jsonb, 'success', $3);

-- name: empty_events
TRUNCATE calendar_events;

-- name: note_applied
-- $1 position
UPDATE applied
SET position = $1
WHERE name = 'calendar';
