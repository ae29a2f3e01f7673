-- How current the read models are, and one booking worth looking at.

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
LEFT JOIN projections.calendar_events AS c USING (ledger_id)
LEFT JOIN ledger.events AS e ON e.ledger_id = c.ledger_id AND e.position = c.position
WHERE l.ledger_id = $1
GROUP BY l.ledger_id, l.name, l.position;

-- name: pick_story
-- The booking whose chain has the most to tell: rescheduled often, then cancelled or not come to. $1 ledger_id
SELECT cal_com_event_id
FROM projections.calendar_events AS c
WHERE ledger_id = $1 AND rescheduled_from IS NOT NULL AND rescheduled_to IS NULL
ORDER BY
    (
        SELECT count(*) FROM projections.calendar_events AS member
        WHERE member.root_uid = c.root_uid AND member.ledger_id = $1 AND member.root_uid <> member.cal_com_event_id
    ) DESC,
    status IN ('no_show', 'cancelled') DESC,
    cal_com_event_id
LIMIT 1;
