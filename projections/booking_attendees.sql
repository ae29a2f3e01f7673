-- The read model `booking_attendees`: projections.booking_attendees_1, shown as public.booking_attendees.

-- name: delete_others
-- Attendees no longer named. $1 ledger_id, $2 uids of the bookings at hand, $3 and $4 the (uid, email) pairs to keep
DELETE FROM projections.booking_attendees_1 AS old
WHERE old.ledger_id = $1
  AND old.uid = ANY($2::text[])
  AND NOT EXISTS (
      SELECT FROM unnest($3::text[], $4::text[]) AS kept (uid, email)
      WHERE kept.uid = old.uid AND kept.email = old.email
  );

-- name: upsert_attendees
-- $1 whole rows
INSERT INTO projections.booking_attendees_1
SELECT given.* FROM unnest($1::projections.booking_attendees_1[]) AS given
ON CONFLICT ON CONSTRAINT booking_attendees_1_pkey DO UPDATE SET
    name = excluded.name,
    phone = excluded.phone,
    time_zone = excluded.time_zone,
    no_show = excluded.no_show,
    removed = excluded.removed;
