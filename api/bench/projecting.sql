-- Read models as if nothing had been projected yet: only ever in a throwaway database.

-- name: empty_live
-- But for what deliveries were found to say: that came into the log along with them, and is no worker's.
DO $$
DECLARE
    own record;
BEGIN
    FOR own IN
        SELECT t.schemaname, t.tablename
        FROM projections.generations AS g
        JOIN pg_tables AS t ON t.schemaname = projections.schema_of(g.projection, g.generation)
        WHERE g.state = 'live' AND g.projection <> 'facts'
    LOOP
        EXECUTE format('TRUNCATE %I.%I', own.schemaname, own.tablename);
    END LOOP;
END
$$;

-- name: forget_checkpoints
DELETE FROM projections.checkpoints;

-- name: forget_visible
DELETE FROM projections.visible_pages;

-- name: count_events
SELECT sum(position)::bigint
FROM ledger.ledgers;

-- name: count_parked
SELECT count(*)
FROM projections.parked_events;
