-- The read model `webhook_logs`, shown with refusals and repeats as public.webhook_logs. The search path names the
-- generation.

-- name: insert_logs
-- $1 whole rows
INSERT INTO webhook_logs
SELECT given.* FROM unnest($1::webhook_logs_0.webhook_logs[]) AS given
ON CONFLICT (ledger_id, position) DO NOTHING;
