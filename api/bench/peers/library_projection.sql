-- calendar_tracking: the eventsourcing library's own table of how far its projection came.

-- name: find_tracking
SELECT to_regclass('public.calendar_tracking') IS NOT NULL;

-- name: forget_tracking
-- The row that says of which make the table is stays.
DELETE FROM calendar_tracking
WHERE application_name = 'Deliveries';
