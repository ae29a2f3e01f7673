"""What the five older systems do, line by line, and which test holds each line: `pytest --system-lines` prints it.

A test names its lines with `@pytest.mark.system("3.13")`. A line that nothing here answers yet stands in LATER; one
that is answered but for a part of it is tested, and stands in PARTLY with what is left.
"""

import ast
from collections.abc import Iterator, Mapping
from typing import Final

from tests.sources import called, functions, our_tests

LINES: Final[Mapping[str, str]] = {
    "0.1": "a page confirms after Cal.com's redirect",
    "0.2": "POST /api/webhooks/cal-com: verify, store linked to the talent profile, answer",
    "0.3": "Cal.com is set up with URL, trigger and secret",
    "0.4": "a tunnel locally, a public name in production",
    "0.5": "CAL_COM_WEBHOOK_SECRET",
    "0.6": "HMAC-SHA256, checked before anything else",
    "0.7": "date, time and attendee's e-mail are taken out",
    "0.8": "number, time, video link, attendee and profile are stored",
    "0.9": "the redirect page fetches the booking's details",
    "0.10": "the redirect page confirms only what exists",
    "0.11": "the page's text, in the viewer's time zone",
    "0.12": "the sample body",
    "0.13": "book, see the payload in the log, see the row",
    "0.14": "an endpoint to verify a booking with",
    "1.1": "POST …/cal-com/webhook, and a GET on it answers",
    "1.2": "created, confirmed, cancelled, rescheduled",
    "1.3": "the dialect trigger + data, ids as text",
    "1.4": "match by Cal.com's id, then by the candidate's e-mail",
    "1.5": "the status becomes confirmed; pending is shown",
    "1.6": "log lines that grep finds",
    "1.7": "a button syncs from Cal.com's API",
    "1.8": "the front end polls every 60 s",
    "1.9": "a tunnel with a new name at each start",
    "1.10": "finding out why nothing arrives, or nothing changes",
    "1.11": "nothing is said of signatures",
    "2.1": "POST /api/webhooks/cal-com, not /webhooks/cal-events",
    "2.2": "triggers become scheduled, cancelled, completed, no_show; HIT notifications",
    "2.3": "meetings by cal_event_id, every event in webhook_events, links to targets",
    "2.4": "secret optional, another one for production, an API key",
    "2.5": "the webhook is registered at Cal.com by a script",
    "2.6": "POST /api/meetings/schedule",
    "2.7": "the test curl, unsigned",
    "2.8": "meeting not found; signature fails",
    "2.9": "monitoring: webhook_events and the log",
    "3.1": "POST /api/webhooks/calcom: created, rescheduled, cancelled, ended",
    "3.2": "visit history, reminders, fast dashboard, backup, analytics",
    "3.3": "log lines: trigger, booking, duration, event",
    "3.4": "the columns of calendar_events",
    "3.5": "the columns of webhook_logs",
    "3.6": "client, pet, salon and source from the metadata",
    "3.7": "the samples: same uid rescheduled, cancelled with uid and status",
    "3.8": "last event, last ten logs, all errors",
    "3.9": "errors: payload, salon, duplicates",
    "3.10": "today's, a pet's past, a salon's range; SMS for tomorrow",
    "3.11": "header x-cal-signature, CALCOM_WEBHOOK_SECRET, over the raw body",
    "3.12": "10 requests a minute",
    "3.13": "success rate",
    "3.14": "processing time",
    "3.15": "sync lag",
    "3.16": "next: SMS, today, visit history, reports, export",
    "4.1": "POST /api/cal/handle-cal-event: four events, 400 for any other",
    "4.2": "signature over minified JSON, 401 on failure",
    "4.3": "CAL_WEBHOOK_SECRET, INTERNAL_API_KEY",
    "4.4": "flat names from the answers",
    "4.5": "forwarded to Notion",
    "4.6": "errors answered with status and words, all logged",
}

LATER: Final[Mapping[str, str]] = {
    "0.1": "the page is not built yet",
    "0.9": "the page is not built yet",
    "0.10": "the page is not built yet",
    "0.11": "the page is not built yet",
    "1.8": "no front end of ours polls yet",
    "2.6": "scheduling a meeting is not built yet",
    "4.5": "Notion is not built yet",
}

PARTLY: Final[Mapping[str, str]] = {
    "0.14": "the page that uses it",
    "1.6": "a line about the new status",
    "2.2": "HIT notifications",
    "2.3": "links to targets",
    "3.2": "SMS",
    "3.6": "a salon found by its client or pet",
    "3.10": "sending the SMS",
    "3.16": "SMS, export of bookings",
}


def named_by_line() -> Mapping[str, list[str]]:
    """The tests that name each line, by name, whether or not they run this time."""
    told: dict[str, list[str]] = {}
    for source in our_tests():
        for function in functions(source.tree):
            for line in dict.fromkeys(_lines_of(function)):
                told.setdefault(line, []).append(function.name)
    return told


def _lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and called(decorator) == "system":
            yield from (str(one.value) for one in decorator.args if isinstance(one, ast.Constant))


def table(outcomes: Mapping[str, set[str]]) -> Iterator[str]:
    """A line for each line of the systems, then its tests, then how many there are of which kind.

    `outcomes`: how the tests of this run ended, by name; several where a test has parameters.
    """
    tests = named_by_line()
    for line, what in LINES.items():
        yield f"{line:<5}{_standing(line, tests.get(line, []), outcomes):<12}{what}{_left(line)}"
        yield from (f"{'':17}{name}" for name in tests.get(line, []))
    tested = [line for line in LINES if line in tests]
    partly = [line for line in tested if line in PARTLY]
    yield f"{len(LINES)} lines: {len(tested)} tested ({len(partly)} of them in part), {len(LATER)} later"


def _standing(line: str, names: list[str], outcomes: Mapping[str, set[str]]) -> str:
    if not names:
        return "later" if line in LATER else "MISSING"
    ended = {outcome for name in names for outcome in outcomes.get(name, ())}
    if ended & {"failed", "error"}:
        return "FAILED"
    return "passed" if ended else "not run"


def _left(line: str) -> str:
    left = LATER.get(line) or PARTLY.get(line)
    return f" (later: {left})" if left else ""
