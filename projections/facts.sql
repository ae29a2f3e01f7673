-- What bodies were found to mean: facts. The search path names the generation; a rebuild of another projection reads the
-- live one.

-- name: read_both
-- Rows as they would be, and as they are held. $1 whole rows, $2 ledger_id, $3 positions of those that are held
SELECT false AS is_held, to_jsonb(given)::text AS told
FROM unnest($1::facts_0.facts[]) AS given
UNION ALL
SELECT true, to_jsonb(held)::text
FROM facts AS held
WHERE held.ledger_id = $2 AND held.position = ANY($3::bigint[]);

-- name: read_positions
-- Of which events anything is kept already. $1 ledger_id, $2 after, $3 up to
SELECT position
FROM facts
WHERE ledger_id = $1 AND position > $2 AND position <= $3
ORDER BY position;

-- name: read_page
-- What is kept of consecutive events, as this version of the decoder found it. $1 ledger_id, $2 after, $3 up to,
-- $4 version of the decoder
SELECT position, stream_id, alone, told
FROM projections.facts
WHERE ledger_id = $1
  AND position > $2
  AND position <= $3
  AND EXISTS (
      SELECT FROM projections.generations AS g
      WHERE g.projection = 'facts' AND g.state = 'live' AND g.version = $4
  )
ORDER BY position;

-- name: read_told
-- What is kept of some events, as this version of the decoder found it. $1 ledger_id, $2 positions, $3 version of the
-- decoder
SELECT stream_id, alone, told
FROM projections.facts
WHERE ledger_id = $1
  AND position = ANY($2::bigint[])
  AND EXISTS (
      SELECT FROM projections.generations AS g
      WHERE g.projection = 'facts' AND g.state = 'live' AND g.version = $3
  )
ORDER BY position;

-- name: insert_facts
-- $1 whole rows
INSERT INTO facts
SELECT given.* FROM unnest($1::facts_0.facts[]) AS given
ON CONFLICT (ledger_id, position) DO NOTHING;

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
-- What is known, up to a position, of the bookings that began between two positions, each in one piece: how many events
-- there are and what they say, one after the other. Nothing where they speak of other bookings, too.
-- $1 ledger_id, $2 after, $3 up to, $4 the position up to which bookings are wanted
SELECT begun.stream_id, said.events, said.told
FROM projections.facts AS begun
CROSS JOIN LATERAL (
    SELECT
        count(*)::int AS events,
        CASE WHEN bool_and(f.alone) THEN string_agg(f.told, ''::bytea ORDER BY e.stream_version) END AS told
    FROM ledger.events AS e
    JOIN projections.facts AS f ON f.ledger_id = e.ledger_id AND f.position = e.position
    WHERE e.ledger_id = begun.ledger_id AND e.stream_id = begun.stream_id AND e.position <= $4
) AS said
WHERE begun.ledger_id = $1
  AND begun.position > $2
  AND begun.position <= $3
  AND begun.stream_version = 1
  AND begun.stream_id LIKE 'booking-%'
  AND begun.stream_id NOT LIKE 'booking-id-%';

-- name: read_streams
-- What is known, up to a position, of these streams: event by event. $1 ledger_id, $2 stream_ids, $3 up to
SELECT e.stream_id, f.alone, f.told
FROM ledger.events AS e
JOIN projections.facts AS f ON f.ledger_id = e.ledger_id AND f.position = e.position
WHERE e.ledger_id = $1 AND e.stream_id = ANY($2::text[]) AND e.position <= $3
ORDER BY e.stream_id, e.stream_version;

-- name: delete_facts
-- $1 ledger_id, $2 positions
DELETE FROM facts
WHERE ledger_id = $1 AND position = ANY($2::bigint[])
RETURNING position;
