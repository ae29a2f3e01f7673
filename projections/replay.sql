-- Deliveries that are read again: ledger.events, and what the live read models hold of them.

-- name: read_standing
-- Up to where every one of these read models has come; nothing where one of them has none. $1 ledger_id, $2 projections
SELECT min(c.position)
FROM projections.generations AS g
JOIN projections.checkpoints AS c USING (projection, generation)
WHERE g.state = 'live' AND c.ledger_id = $1 AND g.projection = ANY($2::text[])
HAVING count(*) = cardinality($2::text[]);

-- name: choose_deliveries
-- Those of a stretch of the log that were asked for, with the booking that webhook_logs says they name. One that is not
-- in there, or that a projection could not apply, counts as an error.
-- $1 ledger_id, $2 after this position, $3 up to, $4 triggers or null, $5 their topics, $6 booking or null, $7 the
-- streams that may be its own, $8 status or null, $9 triggers that are recognised, or null: none of them, $10 topic of
-- those that are not, $11 event_ids or null, $12 at most so many
SELECT e.position, e.event_id, e.stream_id, w.cal_com_event_id AS named
FROM ledger.events AS e
LEFT JOIN projections.webhook_logs AS w ON w.ledger_id = e.ledger_id AND w.position = e.position
CROSS JOIN LATERAL (
    SELECT EXISTS (
        SELECT FROM projections.parked_events AS p
        JOIN projections.generations AS g USING (projection, generation)
        WHERE p.ledger_id = e.ledger_id AND p.position = e.position AND p.skipped_at IS NULL AND g.state = 'live'
    ) AS is_parked
) AS parked
WHERE e.ledger_id = $1
  AND e.position > $2
  AND e.position <= $3
  AND e.source = 'webhook'
  AND ($4::text[] IS NULL OR w.webhook_type = ANY($4) OR (w.position IS NULL AND e.topic = ANY($5::text[])))
  AND ($6::text IS NULL OR w.cal_com_event_id = $6 OR e.stream_id = ANY($7::text[]))
  AND (
      $8::text IS NULL
      OR CASE WHEN parked.is_parked OR w.position IS NULL THEN 'error' ELSE w.status END = $8
  )
  AND ($9::text[] IS NULL OR coalesce(w.webhook_type <> ALL($9), e.topic = $10::text))
  AND ($11::uuid[] IS NULL OR e.event_id = ANY($11))
ORDER BY e.position
LIMIT $12;

-- name: find_parked
-- Which projections could not apply which of these events, and have not been told to do without them.
-- $1 ledger_id, $2 positions
SELECT p.projection, p.position
FROM projections.parked_events AS p
JOIN projections.generations AS g USING (projection, generation)
WHERE p.ledger_id = $1 AND p.position = ANY($2::bigint[]) AND p.skipped_at IS NULL AND g.state = 'live'
ORDER BY p.position, p.projection;

-- name: hold_generations
-- Until the transaction ends no rebuild begins, nor ends.
LOCK TABLE projections.generations IN SHARE MODE;

-- name: find_building
SELECT projection
FROM projections.generations
WHERE state = 'building'
ORDER BY projection
LIMIT 1;

-- name: lock_live
-- Nobody moves the checkpoints of the live generations until the transaction ends; should we fall asleep before that, we
-- lose them after a while. Locked in order of name, as a worker does. $1 ledger_id, $2 projections, $3 how long we may
-- sleep
SELECT c.projection, c.generation, c.position, set_config('idle_in_transaction_session_timeout', $3, true)
FROM projections.checkpoints AS c
JOIN projections.generations AS g USING (projection, generation)
WHERE c.ledger_id = $1 AND c.projection = ANY($2::text[]) AND g.state = 'live'
ORDER BY c.projection
FOR UPDATE OF c;

-- name: read_live
-- $1 ledger_id, $2 projections
SELECT c.projection, c.generation, c.position
FROM projections.checkpoints AS c
JOIN projections.generations AS g USING (projection, generation)
WHERE c.ledger_id = $1 AND c.projection = ANY($2::text[]) AND g.state = 'live';
