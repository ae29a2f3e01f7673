"""Where Cal.com delivers: one endpoint, known to the five older receivers by four names."""

from typing import Final

WEBHOOK_PATHS: Final = (
    "/api/webhooks/cal-com",
    "/api/webhooks/calcom",
    "/api/admin/scheduling/cal-com/webhook",
    "/api/cal/handle-cal-event",
)
WEBHOOK_PATH: Final = WEBHOOK_PATHS[0]
"""The one that we tell people."""
