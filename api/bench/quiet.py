"""What programs log while they are measured: warnings, on standard error, since standard output is for figures."""

import logging
import sys

import structlog


def keep_quiet() -> None:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
