"""How what is logged comes out."""

import logging
import sys

import structlog

from ledger.settings import Settings


def configure_logging(settings: Settings) -> None:
    """Events with keys, as lines for people or as JSON; never a body, a secret or an attendee."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    as_json = settings.log_format == "json"
    # Plain tracebacks: one that shows local variables would show bodies and secrets.
    console = structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    logging.getLogger("asyncpg").setLevel(logging.CRITICAL)  # it prints tracebacks of what we retry and tell ourselves
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([structlog.processors.format_exc_info, structlog.processors.JSONRenderer()] if as_json else [console]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
