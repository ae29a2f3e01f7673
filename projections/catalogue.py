"""Every projection there is, in the order in which a page goes to them."""

from projections import booking_attendees, calendar_events, webhook_logs

CATALOGUE = (calendar_events.PROJECTION, booking_attendees.PROJECTION, webhook_logs.PROJECTION)
