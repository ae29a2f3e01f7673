-- Clients: what a salon wants to know of each, made of calendar_events at the moment of asking.
--
-- projections.clients  one row per ledger and client_id. Asked for one client it reads that client's bookings by index
--                      (calendar_events_by_client); asked for all of them, everybody's.
-- public.clients       the same for people, without the ledger's number.
--
-- No table: what is next depends on the clock, and who moves a booking from one client to another would change two rows.

-- migrate:up

CREATE VIEW projections.clients AS
SELECT
    own.ledger_id,
    own.ledger,
    own.client_id,
    latest.attendee_name,
    latest.attendee_email,
    latest.attendee_phone,
    own.first_visit,
    own.last_visit,
    own.next_appointment,
    own.bookings,
    own.completed,
    own.no_show,
    own.cancelled,
    own.rescheduled,
    round(own.no_show::numeric / nullif(own.completed + own.no_show, 0), 4) AS no_show_rate
FROM (
    SELECT
        ledger_id,
        ledger,
        client_id,
        min(start_time) FILTER (WHERE status = 'completed') AS first_visit,
        max(start_time) FILTER (WHERE status = 'completed') AS last_visit,
        min(start_time) FILTER (WHERE status IN ('scheduled', 'confirmed') AND start_time >= now()) AS next_appointment,
        count(*)::int AS bookings,
        (count(*) FILTER (WHERE status = 'completed'))::int AS completed,
        (count(*) FILTER (WHERE status = 'no_show'))::int AS no_show,
        (count(*) FILTER (WHERE status = 'cancelled'))::int AS cancelled,
        (count(*) FILTER (WHERE status = 'rescheduled'))::int AS rescheduled
    FROM projections.calendar_events
    WHERE client_id IS NOT NULL
    GROUP BY ledger_id, ledger, client_id
) AS own
LEFT JOIN LATERAL (
    SELECT c.attendee_name, c.attendee_email, c.attendee_phone
    FROM projections.calendar_events AS c
    WHERE c.client_id = own.client_id AND c.ledger_id = own.ledger_id AND c.start_time IS NOT NULL
    ORDER BY c.start_time DESC
    LIMIT 1
) AS latest ON true;

CREATE VIEW public.clients AS
SELECT
    ledger, client_id, attendee_name, attendee_email, attendee_phone, first_visit, last_visit, next_appointment, bookings,
    completed, no_show, cancelled, rescheduled, no_show_rate
FROM projections.clients;

COMMENT ON VIEW public.clients IS 'One row per client that bookings name: first and last visit, the next appointment, how many.';
COMMENT ON COLUMN public.clients.ledger IS 'The log that the client''s bookings are in.';
COMMENT ON COLUMN public.clients.client_id IS 'calendar_events.client_id.';
COMMENT ON COLUMN public.clients.attendee_name IS 'The first attendee''s name, of the booking with the latest start.';
COMMENT ON COLUMN public.clients.attendee_email IS 'The first attendee''s e-mail address, of the same booking.';
COMMENT ON COLUMN public.clients.attendee_phone IS 'The first attendee''s telephone number, of the same booking.';
COMMENT ON COLUMN public.clients.first_visit IS 'Start of the first completed booking.';
COMMENT ON COLUMN public.clients.last_visit IS 'Start of the last completed booking.';
COMMENT ON COLUMN public.clients.next_appointment IS 'Start of the next booking that is scheduled or confirmed.';
COMMENT ON COLUMN public.clients.bookings IS 'All of them, those that were rescheduled away included.';
COMMENT ON COLUMN public.clients.completed IS 'How many of them are completed.';
COMMENT ON COLUMN public.clients.no_show IS 'How many of them are no_show.';
COMMENT ON COLUMN public.clients.cancelled IS 'How many of them are cancelled.';
COMMENT ON COLUMN public.clients.rescheduled IS 'How many of them were moved to another uid.';
COMMENT ON COLUMN public.clients.no_show_rate IS 'no_show / (completed + no_show).';
