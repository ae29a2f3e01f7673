"""Every projection there is, in the order in which a page goes to them."""

from collections.abc import Mapping

from projections import booking_attendees, calendar_events, facts, sync_lag, webhook_logs
from projections.projection import Projection

CATALOGUE = (
    calendar_events.PROJECTION,
    booking_attendees.PROJECTION,
    webhook_logs.PROJECTION,
    sync_lag.PROJECTION,
    facts.PROJECTION,
)

BY_NAME: Mapping[str, Projection] = {projection.name: projection for projection in CATALOGUE}
