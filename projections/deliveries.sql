-- Deliveries: what projections.webhook_logs tells of those that were recorded, and ledger.deliveries of the others.

-- name: list_deliveries
-- Either those that are errors or those that are not, the latest first; a repeat is told of by what was recorded. Planned
-- for the values given. Each part is narrowed and cut by itself, so that the indexes serve it.
-- $1 ledger_id, $2 whether errors, $3 and $4 received_at and id of the one before, or null, $5 triggers or null,
-- $6 booking or null, $7 received from, or null, $8 received before, or null, $9 at most so many
SELECT id, position, webhook_type, status, error_message, cal_com_event_id, duplicate, duration_ms, created_at
FROM (
    (
        SELECT
            w.id, w.position, w.webhook_type, w.status, w.error_message, w.cal_com_event_id, false AS duplicate,
            w.duration_ms, w.created_at
        FROM projections.webhook_logs AS w
        WHERE w.ledger_id = $1
          AND (w.status = 'error') = $2
          AND ($3::timestamptz IS NULL OR (w.created_at, w.id) < ($3, $4::uuid))
          AND ($5::text[] IS NULL OR w.webhook_type = ANY($5))
          AND ($6::text IS NULL OR w.cal_com_event_id = $6)
          AND ($7::timestamptz IS NULL OR w.created_at >= $7)
          AND ($8::timestamptz IS NULL OR w.created_at < $8)
        ORDER BY w.created_at DESC, w.id DESC
        LIMIT $9
    )
    UNION ALL
    (
        SELECT
            d.delivery_id, d.position, coalesce(first.webhook_type, 'refused'), 'success', d.reason,
            first.cal_com_event_id, true, d.duration_ms, d.received_at
        FROM ledger.deliveries AS d
        LEFT JOIN projections.webhook_logs AS first ON first.ledger_id = d.ledger_id AND first.position = d.position
        WHERE NOT $2
          AND d.ledger_id = $1
          AND d.outcome = 'duplicate'
          AND ($3::timestamptz IS NULL OR (d.received_at, d.delivery_id) < ($3, $4::uuid))
          AND ($5::text[] IS NULL OR first.webhook_type = ANY($5))
          AND ($6::text IS NULL OR first.cal_com_event_id = $6)
          AND ($7::timestamptz IS NULL OR d.received_at >= $7)
          AND ($8::timestamptz IS NULL OR d.received_at < $8)
        ORDER BY d.received_at DESC, d.delivery_id DESC
        LIMIT $9
    )
    UNION ALL
    (
        SELECT
            d.delivery_id, NULL, 'refused', 'error', d.reason, NULL, false, d.duration_ms, d.received_at
        FROM ledger.deliveries AS d
        WHERE $2
          AND d.ledger_id = $1
          AND d.outcome = 'refused'
          AND ($3::timestamptz IS NULL OR (d.received_at, d.delivery_id) < ($3, $4::uuid))
          AND ($5::text[] IS NULL OR 'refused' = ANY($5))
          AND $6::text IS NULL
          AND ($7::timestamptz IS NULL OR d.received_at >= $7)
          AND ($8::timestamptz IS NULL OR d.received_at < $8)
        ORDER BY d.received_at DESC, d.delivery_id DESC
        LIMIT $9
    )
) AS told
ORDER BY created_at DESC, id DESC
LIMIT $9;

-- name: list_seldom_types
-- What deliveries say they are, but for what every booking sends: step by step through the index of these.
WITH RECURSIVE seldom AS (
    (
        SELECT webhook_type
        FROM projections.webhook_logs
        WHERE webhook_type NOT IN ('BOOKING_CREATED', 'MEETING_STARTED', 'MEETING_ENDED')
        ORDER BY webhook_type
        LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT w.webhook_type
        FROM projections.webhook_logs AS w
        WHERE w.webhook_type NOT IN ('BOOKING_CREATED', 'MEETING_STARTED', 'MEETING_ENDED')
          AND w.webhook_type > seldom.webhook_type
        ORDER BY w.webhook_type
        LIMIT 1
    )
    FROM seldom
    WHERE seldom.webhook_type IS NOT NULL
)
SELECT webhook_type
FROM seldom
WHERE webhook_type IS NOT NULL;
