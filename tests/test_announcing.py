"""Lines in the log about deliveries: every one of a burst's, and a count instead of a flood's."""

from structlog.testing import capture_logs

from api.announcing import LINES, Announcements


def test_a_burst_has_all_its_lines_and_a_flood_is_counted_afterwards() -> None:
    announcements = Announcements()
    with capture_logs() as logs:
        told = [announcements.may_tell(1_000.0) for _ in range(LINES.at_once + 50)]
        assert told == [True] * LINES.at_once + [False] * 50
        assert logs == []
        assert announcements.may_tell(1_000.0 + 60.0 / LINES.a_minute)
    assert logs == [{"event": "webhooks_recorded_without_a_line", "deliveries": 50, "log_level": "info"}]


def test_deliveries_as_salons_have_them_always_have_their_lines() -> None:
    announcements = Announcements()
    seconds = 60.0 / LINES.a_minute
    assert all(announcements.may_tell(number * seconds) for number in range(5 * LINES.at_once))
