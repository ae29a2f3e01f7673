-- What bodies were found to mean: facts. The search path names the generation; a rebuild of another projection reads the
-- live one.

-- name: insert_facts
-- $1 whole rows
INSERT INTO facts
SELECT given.* FROM unnest($1::facts_0.facts[]) AS given
ON CONFLICT (ledger_id, stream_id, stream_version) DO NOTHING;

-- name: read_standing
-- Up to where the live generation knows everything; nothing where it was made by another version of the code, or lacks
-- what it could not apply. $1 ledger_id, $2 version
SELECT c.position
FROM projections.generations AS g
JOIN projections.checkpoints AS c USING (projection, generation)
WHERE g.projection = 'facts'
  AND g.state = 'live'
  AND g.version = $2
  AND c.ledger_id = $1
  AND NOT EXISTS (
      SELECT FROM projections.parked_events AS p
      WHERE p.ledger_id = c.ledger_id AND p.projection = g.projection AND p.generation = g.generation
  );

-- name: read_begun
-- What is known, up to a position, of the bookings that began between two positions: a booking whole, in no order.
-- $1 ledger_id, $2 after, $3 up to, $4 the position up to which bookings are wanted
SELECT f.position, f.stream_id, f.event_id, f.occurred_at, f.recorded_at, f.told
FROM projections.facts AS begun
JOIN projections.facts AS f ON f.ledger_id = begun.ledger_id AND f.stream_id = begun.stream_id
WHERE begun.ledger_id = $1
  AND begun.position > $2
  AND begun.position <= $3
  AND begun.stream_version = 1
  AND begun.stream_id LIKE 'booking-%'
  AND begun.stream_id NOT LIKE 'booking-id-%'
  AND f.position <= $4;
