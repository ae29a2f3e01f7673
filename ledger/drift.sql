-- What differed from Cal.com: ledger.drift. What was found wrong here is healed by the event that tells it; what Cal.com
-- does not know ("extra") stays open until it shows the booking again, or nobody expects it any more.

-- name: insert_healed
-- $1 ledger_id, $2 found and healed at, $3 sweep_id, $4 during an import, $5 stream_ids, $6 kinds, $7 fields, $8 ours,
-- $9 theirs, $10 differed since, $11 event_ids
INSERT INTO ledger.drift (
    ledger_id, found_at, healed_at, sweep_id, is_import, stream_id, kind, field, ours, theirs, differed_since, event_id
)
SELECT $1, $2, $2, $3, $4, d.stream_id, d.kind, d.field, d.ours, d.theirs, d.differed_since, d.event_id
FROM unnest($5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::timestamptz[], $11::uuid[])
    AS d (stream_id, kind, field, ours, theirs, differed_since, event_id)
ON CONFLICT DO NOTHING;

-- name: insert_extra
-- A booking that is open already stays as it is. $1 ledger_id, $2 found at, $3 sweep_id, $4 stream_id, $5 our status,
-- $6 differed since
INSERT INTO ledger.drift (ledger_id, stream_id, field, found_at, kind, ours, differed_since, sweep_id)
VALUES ($1, $4, 'booking', $2, 'extra', $5, $6, $3)
ON CONFLICT DO NOTHING;

-- name: heal_shown
-- Cal.com shows these bookings. $1 ledger_id, $2 stream_ids, $3 at
UPDATE ledger.drift
SET healed_at = greatest($3, found_at)
WHERE ledger_id = $1 AND stream_id = ANY($2::text[]) AND healed_at IS NULL;

-- name: heal_unexpected
-- Nobody expects Cal.com to show these any more. $1 ledger_id, $2 stream_ids that are expected still, $3 at,
-- $4 found before
UPDATE ledger.drift
SET healed_at = greatest($3, found_at)
WHERE ledger_id = $1 AND healed_at IS NULL AND found_at < $4 AND stream_id <> ALL ($2::text[]);

-- name: read_open_extras
-- $1 ledger_id, $2 stream_ids
SELECT stream_id
FROM ledger.drift
WHERE ledger_id = $1 AND stream_id = ANY($2::text[]) AND healed_at IS NULL
ORDER BY stream_id;

-- name: list_drift
-- The latest first. $1 ledger_id, $2 open only (true), healed only (false) or both (null), $3 kind or null, $4 stream_id
-- or null, after the row of $5 found at, $6 stream_id and $7 field, or from the top (null), $8 at most so many
SELECT stream_id, kind, field, ours, theirs, found_at, differed_since, healed_at, event_id, sweep_id
FROM ledger.drift
WHERE ledger_id = $1
  AND ($2::boolean IS NULL OR (healed_at IS NULL) = $2)
  AND ($3::text IS NULL OR kind = $3)
  AND ($4::text IS NULL OR stream_id = $4)
  AND (
      $5::timestamptz IS NULL
      OR found_at < $5
      OR (found_at = $5 AND (stream_id, field) > ($6::text COLLATE "C", $7::text))
  )
ORDER BY found_at DESC, stream_id, field
LIMIT $8;
