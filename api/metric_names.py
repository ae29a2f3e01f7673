"""What `GET /metrics` shows: every metric there is, by name, labels and meaning.

Counters, histograms and what is said of appender, pool, runner and spool are of one process and begin with it: add
them up over the processes. What is said of projections, rebuilds and the last webhook comes from the database and is
the same whichever process is asked. No label holds anything of a booking, and none a sender's words; a ledger is called
by its number, since its name may be a customer's.

While the database does not answer, its part is missing, and `booking_ledger_database_up` says why. Beside all this
stand process_* and python_gc_*, which are the client library's.
"""

from collections.abc import Iterable
from itertools import accumulate
from typing import Final, Literal, TypeAlias

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from ledger.tally import Tally

Values: TypeAlias = Iterable[tuple[tuple[str, ...], float]] | Tally
"""Each value under its labels, or a histogram, which has no labels."""


class Described(msgspec.Struct, frozen=True):
    """A metric, which Prometheus knows under `booking_ledger_` and its name."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str

    def family(self, values: Values) -> Metric:
        name = f"booking_ledger_{self.name}"
        if isinstance(values, Tally):
            return _histogram(name, self.meaning, values)
        family = (CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily)(
            name, self.meaning, labels=self.labels
        )
        for labels, value in values:
            family.add_metric(labels, value)
        return family


METRICS: Final = (
    Described(
        "webhooks_total",
        "counter",
        ("trigger", "result"),
        "Deliveries by what became of them. Triggers that we do not know, and those of deliveries that were refused "
        "unread, count as unrecognised.",
    ),
    Described(
        "webhook_seconds",
        "histogram",
        (),
        "How long verified deliveries took, from their head to the answer, whatever became of them.",
    ),
    Described(
        "webhook_last_received_timestamp_seconds",
        "gauge",
        ("ledger",),
        "When the last verified delivery to this ledger came in.",
    ),
    Described(
        "deliveries_unlogged_total",
        "counter",
        ("why",),
        "Repeats and refusals that webhook_logs does not have: too many that proved nothing (budget), or more than "
        "could be written (queue).",
    ),
    Described("append_batch_events", "histogram", (), "Events of each batch that was committed to a log."),
    Described("append_seconds", "histogram", (), "How long a batch took from the queue to its commit."),
    Described("appender_queue_events", "gauge", (), "Events that wait for the next batch."),
    Described("appender_queue_bytes", "gauge", (), "Bytes of their bodies."),
    Described("appender_away", "gauge", (), "1 while PostgreSQL takes no writes, and deliveries go to the spool."),
    Described("spool_usable", "gauge", (), "1 where deliveries can be kept on disk while PostgreSQL is away."),
    Described(
        "spool_deliveries",
        "gauge",
        ("state",),
        "Deliveries on this disk that wait for PostgreSQL, and those set aside since it refuses them.",
    ),
    Described("spool_bytes", "gauge", (), "How much of the disk the spool takes."),
    Described("spool_oldest_age_seconds", "gauge", (), "How long the oldest of them has been waiting; 0 with none."),
    Described(
        "alarm",
        "gauge",
        ("ledger", "alarm"),
        "1 while somebody should look at this (ledger/alarms.py), else 0; the spool's is of no ledger.",
    ),
    Described("database_up", "gauge", (), "1 if the database answered all that this page asks, in time."),
    Described("pool_connections", "gauge", ("state",), "Connections to it: used, idle, and how many there may be."),
    Described(
        "projection_lag_events",
        "gauge",
        ("ledger", "projection"),
        "How many events a read model is behind the ledger's head, whether or not anybody works on it.",
    ),
    Described(
        "projection_lag_seconds",
        "gauge",
        ("ledger", "projection"),
        "How long the first event that it lacks has been waiting; 0 with none.",
    ),
    Described("projection_parked", "gauge", ("ledger", "projection"), "Events set aside since they cannot be applied."),
    Described("projection_state", "gauge", ("ledger", "projection", "state"), "1 for the state that it is in."),
    Described("rebuild_events_done", "gauge", ("projection",), "Events that a rebuild under way has been through."),
    Described("rebuild_events_total", "gauge", ("projection",), "Events that it has to go through."),
    Described(
        "runner_poll_age_seconds",
        "gauge",
        (),
        "How long ago this server's runner last looked at every ledger; none where it has no worker.",
    ),
    Described(
        "runner_failing",
        "gauge",
        (),
        "1 while that runner waits to try again: the database failed it, or its process ended.",
    ),
)


def _histogram(name: str, meaning: str, tally: Tally) -> Metric:
    """Prometheus wants, for each bound, the count of all that is not above it."""
    bounds = [*(str(float(bound)) for bound in tally.bounds), "+Inf"]
    family = HistogramMetricFamily(name, meaning)
    family.add_metric((), list(zip(bounds, map(float, accumulate(tally.counts)), strict=True)), tally.total)
    return family
