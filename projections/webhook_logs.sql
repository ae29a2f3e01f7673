-- The read model `webhook_logs`: projections.webhook_logs_1, shown with refusals and repeats as public.webhook_logs.

-- name: insert_logs
-- $1 whole rows
INSERT INTO projections.webhook_logs_1
SELECT given.* FROM unnest($1::projections.webhook_logs_1[]) AS given
ON CONFLICT ON CONSTRAINT webhook_logs_1_pkey DO NOTHING;
