-- What rebuilds are measured with, in a throwaway database only.

-- name: disbelieve_facts
-- A decoder of another version made them: rebuilds read the bodies.
UPDATE projections.generations
SET version = 1000000 + version
WHERE projection = 'facts' AND state = 'live' AND version < 1000000;

-- name: believe_facts
UPDATE projections.generations
SET version = version - 1000000
WHERE projection = 'facts' AND state = 'live' AND version >= 1000000;

-- name: count_events
-- Of the log, and of the bookings that are to be seen.
SELECT
    (SELECT sum(position)::bigint FROM ledger.ledgers) AS events,
    (SELECT count(*) FROM public.calendar_events) AS shown;

-- name: count_positions
SELECT sum(position)::bigint
FROM ledger.ledgers;

-- name: read_rows
SELECT live.*
FROM projections.calendar_events AS live;

-- name: create_copy
CREATE TABLE finished_rows (LIKE projections.calendar_events);
