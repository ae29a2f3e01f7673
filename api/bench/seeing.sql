-- When a delivery can be seen: public.calendar_events and public.sync_lag of a throwaway database.

-- name: is_visible
-- $1 uid
SELECT EXISTS (SELECT FROM public.calendar_events WHERE cal_com_event_id = $1);

-- name: forget_lag
-- Of what came before: only in a throwaway database.
DELETE FROM projections.sync_lag;

-- name: read_lag
-- Of the minutes since, weighed by their deliveries.
SELECT
    coalesce(sum(projected_p50_ms * count) / sum(count), 0)::double precision AS projected_p50_ms,
    coalesce(sum(projected_p95_ms * count) / sum(count), 0)::double precision AS projected_p95_ms
FROM public.sync_lag;
