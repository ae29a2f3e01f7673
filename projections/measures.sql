-- How current and how fast the ledger is, as monitoring asks it. Statements that are asked for a stretch of time read
-- that stretch alone, by an index.

-- name: read_status
-- Every live read model of every ledger against the ledger's own head, whoever keeps it current.
SELECT
    l.ledger_id,
    s.ledger,
    s.projection,
    s.generation,
    s.position,
    s.head,
    s.lag_events,
    s.lag_seconds,
    s.state,
    s.last_error,
    s.parked
FROM public.projection_status AS s
JOIN ledger.ledgers AS l ON l.name = s.ledger
ORDER BY l.ledger_id, s.projection;

-- name: read_rebuilds
-- How much of the log the generations that are being built hold already; 0 of 0 while that is being planned.
SELECT
    g.projection,
    coalesce(sum(r.last_position - r.after_position) FILTER (WHERE r.done_at IS NOT NULL), 0)::bigint AS events_done,
    coalesce(sum(r.last_position - r.after_position), 0)::bigint AS events_total
FROM projections.generations AS g
LEFT JOIN projections.rebuild_ranges AS r USING (projection, generation)
WHERE g.state = 'building'
GROUP BY g.projection
ORDER BY g.projection;

-- name: read_last_webhooks
-- When each ledger's last webhook came in; none where that is too many events ago. $1 how many are looked at
SELECT l.ledger_id, last.received_at
FROM ledger.ledgers AS l
CROSS JOIN LATERAL (
    SELECT coalesce((e.metadata::jsonb ->> 'at')::timestamptz, e.recorded_at) AS received_at
    FROM ledger.events AS e
    WHERE e.ledger_id = l.ledger_id AND e.position > l.position - $1::bigint AND e.source = 'webhook'
    ORDER BY e.position DESC
    LIMIT 1
) AS last
ORDER BY l.ledger_id;

-- name: read_lags
-- As public.sync_lag tells them, but both percentiles of a minute in one pass.
-- $1 ledger_id, $2 from this minute, $3 before
SELECT
    s.minute,
    s.deliveries AS count,
    round(power(1.02, recorded.p50)::numeric, 3)::double precision AS recorded_p50_ms,
    round(power(1.02, recorded.p95)::numeric, 3)::double precision AS recorded_p95_ms,
    s.recording_ms_max AS recorded_max_ms,
    round(power(1.02, projected.p50)::numeric, 3)::double precision AS projected_p50_ms,
    round(power(1.02, projected.p95)::numeric, 3)::double precision AS projected_p95_ms,
    s.projecting_ms_max AS projected_max_ms
FROM projections.sync_lag AS s
CROSS JOIN LATERAL (
    SELECT
        min(bucket) FILTER (WHERE up_to >= 0.5 * s.deliveries) AS p50,
        min(bucket) FILTER (WHERE up_to >= 0.95 * s.deliveries) AS p95
    FROM (
        SELECT bucket, sum(count) OVER (ORDER BY bucket ROWS UNBOUNDED PRECEDING) AS up_to
        FROM unnest(s.recording_buckets, s.recording_counts) AS counted (bucket, count)
    ) AS summed
) AS recorded
CROSS JOIN LATERAL (
    SELECT
        min(bucket) FILTER (WHERE up_to >= 0.5 * s.deliveries) AS p50,
        min(bucket) FILTER (WHERE up_to >= 0.95 * s.deliveries) AS p95
    FROM (
        SELECT bucket, sum(count) OVER (ORDER BY bucket ROWS UNBOUNDED PRECEDING) AS up_to
        FROM unnest(s.projecting_buckets, s.projecting_counts) AS counted (bucket, count)
    ) AS summed
) AS projected
WHERE s.ledger_id = $1 AND s.minute >= $2 AND s.minute < $3
ORDER BY s.minute;

-- name: sum_lags
-- All minutes as one. $1 ledger_id, $2 from this minute, $3 before
WITH asked AS (
    SELECT
        deliveries,
        recording_buckets,
        recording_counts,
        recording_ms_max,
        projecting_buckets,
        projecting_counts,
        projecting_ms_max
    FROM projections.sync_lag
    WHERE ledger_id = $1 AND minute >= $2 AND minute < $3
), recording AS (
    SELECT array_agg(bucket ORDER BY bucket) AS buckets, array_agg(count ORDER BY bucket) AS counts
    FROM (
        SELECT counted.bucket, sum(counted.count)::int AS count
        FROM asked, unnest(recording_buckets, recording_counts) AS counted (bucket, count)
        GROUP BY counted.bucket
    ) AS summed
), projecting AS (
    SELECT array_agg(bucket ORDER BY bucket) AS buckets, array_agg(count ORDER BY bucket) AS counts
    FROM (
        SELECT counted.bucket, sum(counted.count)::int AS count
        FROM asked, unnest(projecting_buckets, projecting_counts) AS counted (bucket, count)
        GROUP BY counted.bucket
    ) AS summed
)
SELECT
    (SELECT coalesce(sum(deliveries), 0) FROM asked)::bigint AS count,
    projections.percentile_ms(recording.buckets, recording.counts, 0.5) AS recorded_p50_ms,
    projections.percentile_ms(recording.buckets, recording.counts, 0.95) AS recorded_p95_ms,
    (SELECT max(recording_ms_max) FROM asked) AS recorded_max_ms,
    projections.percentile_ms(projecting.buckets, projecting.counts, 0.5) AS projected_p50_ms,
    projections.percentile_ms(projecting.buckets, projecting.counts, 0.95) AS projected_p95_ms,
    (SELECT max(projecting_ms_max) FROM asked) AS projected_max_ms
FROM recording
CROSS JOIN projecting;

-- name: count_deliveries
-- What public.webhook_logs tells, counted: of repeats the first one's trigger, of refused ones the reason alone.
-- $1 ledger_id, $2 from, $3 before, $4 triggers with a name of their own
SELECT
    CASE WHEN told.reason IS NULL THEN
        CASE WHEN told.trigger = ANY($4::text[]) THEN told.trigger ELSE 'unrecognised' END
    END AS trigger,
    told.status,
    told.reason,
    told.duplicate,
    count(*) AS count
FROM (
    SELECT w.webhook_type AS trigger, w.status, NULL AS reason, false AS duplicate
    FROM projections.webhook_logs AS w
    WHERE w.ledger_id = $1 AND w.created_at >= $2 AND w.created_at < $3
    UNION ALL
    SELECT
        (
            SELECT first.webhook_type
            FROM projections.webhook_logs AS first
            WHERE first.ledger_id = d.ledger_id AND first.position = d.position
        ),
        CASE d.outcome WHEN 'duplicate' THEN 'success' ELSE 'error' END,
        d.reason,
        d.outcome = 'duplicate'
    FROM ledger.deliveries AS d
    WHERE d.ledger_id = $1 AND d.received_at >= $2 AND d.received_at < $3
) AS told
GROUP BY 1, 2, 3, 4
ORDER BY count DESC, 1, 2, 3, 4;

-- name: read_processing_times
-- Of deliveries that were kept, or had been before. $1 ledger_id, $2 from, $3 before, $4 milliseconds that are aimed at
SELECT
    count(*) AS count,
    round(percentile_disc(0.5) WITHIN GROUP (ORDER BY told.duration_ms)::numeric, 3)::double precision AS p50_ms,
    round(percentile_disc(0.95) WITHIN GROUP (ORDER BY told.duration_ms)::numeric, 3)::double precision AS p95_ms,
    round(max(told.duration_ms)::numeric, 3)::double precision AS max_ms,
    count(*) FILTER (WHERE told.duration_ms < $4) AS within_target
FROM (
    SELECT w.duration_ms
    FROM projections.webhook_logs AS w
    WHERE w.ledger_id = $1 AND w.created_at >= $2 AND w.created_at < $3
    UNION ALL
    SELECT d.duration_ms
    FROM ledger.deliveries AS d
    WHERE d.ledger_id = $1 AND d.received_at >= $2 AND d.received_at < $3 AND d.outcome = 'duplicate'
) AS told;
