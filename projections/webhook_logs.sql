-- The read model `webhook_logs`, shown with refusals and repeats as public.webhook_logs. The search path names the
-- generation.

-- name: read_both
-- Rows as they would be, and as they are held. $1 whole rows, $2 ledger_id, $3 positions of those that are held
SELECT false AS is_held, to_jsonb(given)::text AS told
FROM unnest($1::webhook_logs_0.webhook_logs[]) AS given
UNION ALL
SELECT true, to_jsonb(held)::text
FROM webhook_logs AS held
WHERE held.ledger_id = $2 AND held.position = ANY($3::bigint[]);

-- name: insert_logs
-- $1 whole rows
INSERT INTO webhook_logs
SELECT given.* FROM unnest($1::webhook_logs_0.webhook_logs[]) AS given
ON CONFLICT (ledger_id, position) DO NOTHING;

-- name: delete_logs
-- $1 ledger_id, $2 positions
DELETE FROM webhook_logs
WHERE ledger_id = $1 AND position = ANY($2::bigint[])
RETURNING position;
