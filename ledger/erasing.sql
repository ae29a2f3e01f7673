-- What of the log an erasure concerns: ledger.events; ledger.erased_streams and ledger.erased_events note it.

-- name: read_ends
-- How far these streams go up to a position, and under which keys their bodies lie; `plain` bodies lie under none.
-- $1 ledger_id, $2 stream_ids, $3 up to this position
SELECT
    stream_id,
    max(stream_version) AS version,
    max(position) AS position,
    max(occurred_at) AS occurred_at,
    array_agg(position ORDER BY position) AS positions,
    array_agg(DISTINCT encode(substring(state FROM 1 FOR 16), 'hex')::uuid) FILTER (WHERE encoding IN (2, 3)) AS key_ids,
    count(*) FILTER (WHERE encoding NOT IN (2, 3)) AS plain
FROM ledger.events
WHERE ledger_id = $1 AND stream_id = ANY($2::text[]) AND position <= $3
GROUP BY stream_id
ORDER BY stream_id;

-- name: read_keys_at
-- $1 ledger_id, $2 positions
SELECT
    count(*) FILTER (WHERE encoding NOT IN (2, 3)) AS plain,
    coalesce(
        array_agg(DISTINCT encode(substring(state FROM 1 FOR 16), 'hex')::uuid) FILTER (WHERE encoding IN (2, 3)), '{}'
    ) AS key_ids
FROM ledger.events
WHERE ledger_id = $1 AND position = ANY($2::bigint[]);

-- name: read_positions_of_keys
-- What else lies under the keys of these events of a stream. $1 ledger_id, $2 positions
SELECT DISTINCT e.position
FROM ledger.events AS named
JOIN ledger.events AS e ON e.ledger_id = named.ledger_id AND e.stream_id = named.stream_id
WHERE named.ledger_id = $1
  AND named.position = ANY($2::bigint[])
  AND e.encoding IN (2, 3)
  AND named.encoding IN (2, 3)
  AND substring(e.state FROM 1 FOR 16) = substring(named.state FROM 1 FOR 16)
ORDER BY e.position;

-- name: add_streams
-- $1 ledger_id, $2 erasure_ids, $3 stream_ids, $4 whether each is gone
INSERT INTO ledger.erased_streams AS known (ledger_id, erasure_id, stream_id, is_gone)
SELECT $1, given.erasure_id, given.stream_id, given.is_gone
FROM unnest($2::uuid[], $3::text[], $4::boolean[]) AS given (erasure_id, stream_id, is_gone)
ON CONFLICT ON CONSTRAINT erased_streams_pkey DO UPDATE SET is_gone = known.is_gone OR excluded.is_gone;

-- name: add_events
-- $1 ledger_id, $2 erasure_ids, $3 positions
INSERT INTO ledger.erased_events (ledger_id, erasure_id, position)
SELECT $1, given.erasure_id, given.position
FROM unnest($2::uuid[], $3::bigint[]) AS given (erasure_id, position)
ON CONFLICT DO NOTHING;

-- name: read_old_unattributed
-- Deliveries that name no booking, of before a moment, whose bodies may still be read. $1 ledger_id, $2 before
SELECT e.position
FROM ledger.events AS e
WHERE e.ledger_id = $1
  AND e.stream_id LIKE 'unattributed-%'
  AND e.occurred_at < $2
  AND e.recorded_at < $2
  AND NOT EXISTS (
      SELECT FROM ledger.erased_events AS v WHERE v.ledger_id = e.ledger_id AND v.position = e.position
  )
ORDER BY e.position;
