-- How far rebuilds are: projections.generations, rebuild_ranges.

-- name: read_progress
-- The newest generation of each projection, or of one. $1 projection or null
SELECT DISTINCT ON (g.projection)
    g.projection,
    g.generation,
    g.version,
    g.state,
    g.phase,
    g.paused,
    g.error,
    g.requested_at,
    g.live_at,
    g.swap_ms,
    g.driver_until > clock_timestamp() AS is_driven,
    coalesce(r.events_total, 0)::bigint AS events_total,
    coalesce(r.events_done, 0)::bigint AS events_done,
    coalesce(extract(epoch FROM coalesce(r.done_last, clock_timestamp()) - g.filling_since), 0)::double precision
        AS filling_seconds
FROM projections.generations AS g
LEFT JOIN LATERAL (
    SELECT
        sum(last_position - after_position) AS events_total,
        sum(last_position - after_position) FILTER (WHERE done_at IS NOT NULL) AS events_done,
        CASE WHEN bool_and(done_at IS NOT NULL) THEN max(done_at) END AS done_last
    FROM projections.rebuild_ranges AS r
    WHERE r.projection = g.projection AND r.generation = g.generation
) AS r ON true
WHERE $1::text IS NULL OR g.projection = $1
ORDER BY g.projection, g.generation DESC;
