-- Deliveries that name no booking, for a person to link (projections/suggestions.py): an index of just them.
--
-- By prefix, not by a range of names, which would hold other streams under another collation. A query finds its way
-- here only if it says the same `LIKE`, in these words.

-- migrate:up

CREATE INDEX events_unattributed ON ledger.events (ledger_id, position) WHERE stream_id LIKE 'unattributed-%';
