"""The measuring of queries: all of them, at every size, on a server of their own."""

from api.bench.queries import measure_queries
from api.bench.questions import QUESTIONS

SIZES = (1_000, 2_000)


def test_every_query_is_timed_at_every_size() -> None:
    told: list[str] = []
    timed = measure_queries(SIZES, runs=2, progress=told.append)
    assert [(one.bookings, one.query) for one in timed] == [(size, name) for size in SIZES for name in QUESTIONS]
    assert {one.runs for one in timed} == {2}
    assert all(0 < one.p50_ms <= one.p99_ms for one in timed)
    assert len(told) == len(SIZES) * (1 + len(QUESTIONS))
