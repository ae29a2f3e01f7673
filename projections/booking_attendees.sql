-- The read model `booking_attendees`, shown as public.booking_attendees. The search path names the generation.

-- name: delete_others
-- Attendees no longer named. $1 ledger_id, $2 uids of the bookings at hand, $3 and $4 the (uid, email) pairs to keep
DELETE FROM booking_attendees AS old
WHERE old.ledger_id = $1
  AND old.uid = ANY($2::text[])
  AND NOT EXISTS (
      SELECT FROM unnest($3::text[], $4::text[]) AS kept (uid, email)
      WHERE kept.uid = old.uid AND kept.email = old.email
  );

-- name: read_both
-- Rows as they would be, and as they are held. $1 whole rows, $2 ledger_id, $3 uids of those that are held
SELECT false AS is_held, to_jsonb(given)::text AS told
FROM unnest($1::booking_attendees_0.booking_attendees[]) AS given
UNION ALL
SELECT true, to_jsonb(held)::text
FROM booking_attendees AS held
WHERE held.ledger_id = $2 AND held.uid = ANY($3::text[]);

-- name: upsert_attendees
-- $1 whole rows
INSERT INTO booking_attendees AS old
SELECT given.* FROM unnest($1::booking_attendees_0.booking_attendees[]) AS given
ON CONFLICT (ledger_id, uid, email) DO UPDATE SET
    name = excluded.name,
    phone = excluded.phone,
    time_zone = excluded.time_zone,
    no_show = excluded.no_show,
    removed = excluded.removed
WHERE (old.name, old.phone, old.time_zone, old.no_show, old.removed)
    IS DISTINCT FROM (excluded.name, excluded.phone, excluded.time_zone, excluded.no_show, excluded.removed);
