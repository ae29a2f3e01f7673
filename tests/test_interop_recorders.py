"""The `eventsourcing` library's own suites, run on our recorders; and its example application, unchanged.

Its classes are inherited, never imported by name: pytest would run them for themselves. The tests are the library's.
"""

from collections.abc import Iterator
from typing import Any, ClassVar
from uuid import UUID, uuid4

import pytest
from eventsourcing.persistence import AggregateRecorder, JSONTranscoder, Transcoding, UUIDAsHex
from eventsourcing.tests import application as application_suites
from eventsourcing.tests import persistence as suites
from eventsourcing.tests import projection as projection_suites
from eventsourcing.utils import Environment, get_topic

from ledger import interop
from ledger.interop import LedgerFactory
from ledger.interop_events import MsgspecTranscoder
from ledger.interop_recorders import (
    LedgerAggregateRecorder,
    LedgerApplicationRecorder,
    LedgerProcessRecorder,
    LedgerSnapshotRecorder,
    LedgerTrackingRecorder,
)
from ledger.interop_thread import LedgerThread
from tests.interop_builders import CountersView, add_ledger, create_counters


class OnAFreshLog:
    """`ledger` is an empty one in a database of the test's own; applications find it by their environment.

    The library's tests leave applications open for the garbage collector: too late for a database that is gone then.
    """

    ledger: LedgerThread

    @pytest.fixture(autouse=True)
    def fresh_log(self, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[LedgerThread]:
        opened: list[LedgerThread] = []

        class RememberedThread(LedgerThread):
            def __init__(self, dsn: str, **how: Any) -> None:
                super().__init__(dsn, **how)
                opened.append(self)

        monkeypatch.setattr(interop, "LedgerThread", RememberedThread)
        monkeypatch.setenv("PERSISTENCE_MODULE", "ledger.interop")
        monkeypatch.setenv("DATABASE_URL", database)
        self.ledger = RememberedThread(database, ledger_name="main")
        yield self.ledger
        for thread in opened:
            thread.close()


class WithTextIds:
    def new_originator_id(self) -> UUID | str:
        return f"customer-{uuid4()}"


# Recorders


class TestAggregateRecorder(OnAFreshLog, suites.AggregateRecorderTestCase):
    def create_recorder(self) -> AggregateRecorder:
        return LedgerAggregateRecorder(self.ledger)


class TestAggregateRecorderWithTextIds(WithTextIds, TestAggregateRecorder):
    def create_recorder(self) -> AggregateRecorder:
        return LedgerAggregateRecorder(self.ledger, has_text_ids=True)


class TestSnapshotRecorder(OnAFreshLog, suites.AggregateRecorderTestCase):
    def create_recorder(self) -> AggregateRecorder:
        return LedgerSnapshotRecorder(self.ledger, recorder_name="stored_snapshots")


class TestApplicationRecorder(OnAFreshLog, suites.ApplicationRecorderTestCase[LedgerApplicationRecorder]):
    def create_recorder(self) -> LedgerApplicationRecorder:
        return LedgerApplicationRecorder(self.ledger)

    test_insert_subscribe = suites.ApplicationRecorderTestCase.optional_test_insert_subscribe


class TestApplicationRecorderWithTextIds(WithTextIds, TestApplicationRecorder):
    def create_recorder(self) -> LedgerApplicationRecorder:
        return LedgerApplicationRecorder(self.ledger, has_text_ids=True)


class TestTrackingRecorder(OnAFreshLog, suites.TrackingRecorderTestCase):
    def create_recorder(self) -> LedgerTrackingRecorder:
        return LedgerTrackingRecorder(self.ledger)


class TestProcessRecorder(OnAFreshLog, suites.ProcessRecorderTestCase):
    def create_recorder(self) -> LedgerProcessRecorder:
        return LedgerProcessRecorder(self.ledger)


class TestProcessRecorderAsApplicationRecorder(TestApplicationRecorder):
    def create_recorder(self) -> LedgerApplicationRecorder:
        return LedgerProcessRecorder(self.ledger)


class TestProcessRecorderAsTrackingRecorder(TestTrackingRecorder):
    def create_recorder(self) -> LedgerTrackingRecorder:
        return LedgerProcessRecorder(self.ledger)


class TestNotificationIdsDoNotInterleave(OnAFreshLog, suites.NonInterleavingNotificationIDsBaseCase):
    insert_num = 2_000

    def create_recorder(self) -> LedgerApplicationRecorder:
        return LedgerApplicationRecorder(self.ledger)


# Factory and transcoder


class OwnTrackingRecorder(LedgerTrackingRecorder):
    """A subclass for the factory to be told of."""


class TestFactory(OnAFreshLog, suites.InfrastructureFactoryTestCase[LedgerFactory]):
    @pytest.fixture(autouse=True)
    def environment(self, database: str) -> None:
        self.env = Environment("TestCase", {"PERSISTENCE_MODULE": "ledger.interop", "DATABASE_URL": database})

    def expected_factory_class(self) -> type[LedgerFactory]:
        return LedgerFactory

    def expected_aggregate_recorder_class(self) -> type[LedgerAggregateRecorder]:
        return LedgerAggregateRecorder

    def expected_application_recorder_class(self) -> type[LedgerApplicationRecorder]:
        return LedgerApplicationRecorder

    def expected_tracking_recorder_class(self) -> type[LedgerTrackingRecorder]:
        return LedgerTrackingRecorder

    def tracking_recorder_subclass(self) -> type[LedgerTrackingRecorder]:
        return OwnTrackingRecorder

    def expected_process_recorder_class(self) -> type[LedgerProcessRecorder]:
        return LedgerProcessRecorder


class AsBuiltin(Transcoding):
    """A type said as one that JSON has, and made of that again."""

    def __init__(self, kind: type, name: str, builtin: type) -> None:
        self.type = kind
        self.name = name
        self._builtin = builtin

    def encode(self, obj: Any) -> Any:
        return self._builtin(obj)

    def decode(self, data: Any) -> Any:
        return self.type(data)


class TestTranscoder(suites.TranscoderTestCase):
    def construct_transcoder(self) -> JSONTranscoder:
        transcoder = MsgspecTranscoder()
        for transcoding in (
            AsBuiltin(tuple, "tuple_as_list", list),
            AsBuiltin(suites.Mydict, "mydict", dict),
            AsBuiltin(suites.MyList, "mylist", list),
            AsBuiltin(suites.MyStr, "mystr", str),
            AsBuiltin(suites.MyInt, "myint", int),
            UUIDAsHex(),
            suites.CustomType1AsDict(),
            suites.CustomType2AsDict(),
        ):
            transcoder.register(transcoding)
        return transcoder


# Applications and projections


class TestExampleApplication(OnAFreshLog, application_suites.ExampleApplicationTestCase):
    expected_factory_topic = get_topic(LedgerFactory)


@pytest.mark.filterwarnings("always:'log' is deprecated:DeprecationWarning")
class TestApplication(OnAFreshLog, application_suites.ApplicationTestCase):
    """The library's tests of applications at large, caches and concurrent writers included."""


class TestCountersView(OnAFreshLog, projection_suites.EventCountersViewTestCase):
    """A read model in tables of its own, written in the transaction of its tracking."""

    def construct_event_counters_view(self) -> projection_suites.EventCountersView:
        create_counters(self.ledger)
        return CountersView(self.ledger)


class TestProjection(OnAFreshLog, projection_suites.AggregateEventCountersProjectionTestCase):
    view_class: type[projection_suites.EventCountersView] = CountersView

    @pytest.fixture(autouse=True)
    def with_a_table(self, fresh_log: LedgerThread) -> None:
        create_counters(fresh_log)


class TestEventSourcedProjection(OnAFreshLog, projection_suites.EventSourcedProjectionTestCase):
    """The application that follows writes events too: to a ledger of its own, else it would follow itself."""

    env: ClassVar[dict[str, str]] = {"COUNTERS_LEDGER": "counters"}

    @pytest.fixture(autouse=True)
    def with_a_second_ledger(self, fresh_log: LedgerThread) -> None:
        add_ledger(fresh_log, ledger_id=2, name="counters")
