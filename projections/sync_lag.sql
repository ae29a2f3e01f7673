-- The read model `sync_lag`, shown as public.sync_lag. The search path names the generation.

-- name: read_minutes
-- $1 ledger_id, $2 minutes
SELECT
    minute, deliveries, recording_buckets, recording_counts, recording_ms_max, projecting_buckets, projecting_counts,
    projecting_ms_max
FROM sync_lag
WHERE ledger_id = $1 AND minute = ANY($2::timestamptz[])
ORDER BY minute;

-- name: upsert_minutes
-- $1 whole rows
INSERT INTO sync_lag
SELECT given.* FROM unnest($1::sync_lag_0.sync_lag[]) AS given
ON CONFLICT (ledger_id, minute) DO UPDATE SET
    deliveries = excluded.deliveries,
    recording_buckets = excluded.recording_buckets,
    recording_counts = excluded.recording_counts,
    recording_ms_max = excluded.recording_ms_max,
    projecting_buckets = excluded.projecting_buckets,
    projecting_counts = excluded.projecting_counts,
    projecting_ms_max = excluded.projecting_ms_max;

-- name: take_shared_minutes
-- The rows of minutes that have more than one are taken out and answered.
DELETE FROM sync_lag AS s
USING (
    SELECT ledger_id, minute FROM sync_lag GROUP BY ledger_id, minute HAVING count(*) > 1
) AS shared
WHERE s.ledger_id = shared.ledger_id AND s.minute = shared.minute
RETURNING
    s.ledger_id, s.ledger, s.minute, s.deliveries, s.recording_buckets, s.recording_counts, s.recording_ms_max,
    s.projecting_buckets, s.projecting_counts, s.projecting_ms_max;
