-- Names that two bookings might have, one as its uid and one as its number: ledger.events.

-- name: find_begun
-- Those of these streams that had begun at a position. $1 ledger_id, $2 stream_ids, $3 the position
SELECT stream_id
FROM ledger.events
WHERE ledger_id = $1 AND stream_id = ANY($2::text[]) AND stream_version = 1 AND position <= $3;
