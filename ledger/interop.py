"""The `eventsourcing` library on our store: PERSISTENCE_MODULE=ledger.interop.

    DATABASE_URL=postgres://… PERSISTENCE_MODULE=ledger.interop python -c '
    from eventsourcing.application import Application
    with Application() as app:
        print(app.repository.get("booking-bKHtGn9sDYfa", version=2).title)
        print(app.notification_log["1,10"].items)'

An application's log is a ledger's: the one that LEDGER names, `main` without it. Notification ids are positions, so a
follower of them misses nothing (ledger/store.py). An application that follows others wants a ledger of its own:
every setting may be given for one application alone, as in `ORDERS_LEDGER` for `class Orders(Application)`.

- **Originators are streams.** A text id is the stream's own name, so bookings are read under `booking-<uid>`, without
  any table of ids; a UUID is the stream of its text. Read back, what looks like a UUID is one, unless
  ORIGINATOR_ID_TYPE=text says that all ids are texts.
- **Versions are stream versions**: 1, 2, 3 … without a gap. A save must begin where its originator ends, else it is an
  IntegrityError. The library lets originators begin at 0; that one event lies in a stream of its own, `<originator>#0`,
  so that version n stays version n.
- **Webhooks' streams are for reading**, and so are our topics. Saving to one is a ProgrammingError: what lies there is
  decoded as bookings.
- **Snapshots and tracking** are no events and lie in tables of their own (schema `interop`), not in the log.

Other settings: DATABASE_DIRECT_URL, SEALING_KEY and KEYS_DATABASE_URL as `booking-ledger serve` has them, all also as
`…_FILE`; the library's own for cipher, compressor, transcoder,
mapper, recorder classes and snapshotting. The library's stock Postgres recorder reads the view `interop.stored_events`
(migrations/0003_interop_view.sql).
"""

from typing import Any, Final, TypeVar

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    Mapper,
    ProcessRecorder,
    Transcoder,
)
from eventsourcing.utils import Environment, EnvType, resolve_topic

from ledger.errors import BadSetting
from ledger.interop_events import LedgerMapper, MsgspecTranscoder
from ledger.interop_recorders import (
    LedgerAggregateRecorder,
    LedgerApplicationRecorder,
    LedgerProcessRecorder,
    LedgerSnapshotRecorder,
    LedgerTrackingRecorder,
)
from ledger.interop_thread import LedgerThread
from ledger.sealing import sealing_of
from ledger.settings import load_settings
from ledger.vocabulary import MAIN_LEDGER_NAME

DATABASE_SETTINGS: Final = tuple(
    f"{name}{ending}"
    for name in ("DATABASE_URL", "DATABASE_DIRECT_URL", "SEALING_KEY", "KEYS_DATABASE_URL")
    for ending in ("", "_FILE")
)

Kind = TypeVar("Kind")


class LedgerFactory(InfrastructureFactory[LedgerTrackingRecorder]):
    """What PERSISTENCE_MODULE=ledger.interop makes. Raises BadSetting; the database is asked with the first call."""

    def __init__(self, env: Environment | EnvType | None) -> None:
        super().__init__(env)
        given = {name: value for name in DATABASE_SETTINGS if (value := self.env.get(name)) is not None}
        settings = load_settings(given)
        if settings.database_url is None:
            raise BadSetting("DATABASE_URL", "must be set: it says which database holds the ledger")
        id_type = self.env.get("ORIGINATOR_ID_TYPE", "uuid").lower()
        if id_type not in ("uuid", "text"):
            raise BadSetting("ORIGINATOR_ID_TYPE", f"must be uuid or text, not {id_type!r}")
        self._has_text_ids = id_type == "text"
        direct = settings.database_direct_url
        self._ledger = LedgerThread(
            settings.database_url.reveal_text(),
            direct_dsn=direct.reveal_text() if direct else None,
            ledger_name=self.env.get("LEDGER", MAIN_LEDGER_NAME),
            sealing=sealing_of(settings),
        )

    def transcoder(self) -> Transcoder:
        return super().transcoder() if self.env.get(self.TRANSCODER_TOPIC) else MsgspecTranscoder()

    def mapper(
        self, transcoder: Transcoder | None = None, mapper_class: type[Mapper[Any]] | None = None
    ) -> Mapper[Any]:
        is_ours = mapper_class is None and not self.env.get(self.MAPPER_TOPIC)
        return super().mapper(transcoder, LedgerMapper if is_ours else mapper_class)

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        if purpose == "events":
            return LedgerAggregateRecorder(self._ledger, has_text_ids=self._has_text_ids)
        return LedgerSnapshotRecorder(self._ledger, recorder_name=self._name("stored", purpose))

    def application_recorder(self) -> ApplicationRecorder:
        kind = self._chosen(self.APPLICATION_RECORDER_TOPIC, LedgerApplicationRecorder)
        return kind(self._ledger, has_text_ids=self._has_text_ids)

    def tracking_recorder(
        self, tracking_recorder_class: type[LedgerTrackingRecorder] | None = None
    ) -> LedgerTrackingRecorder:
        kind = tracking_recorder_class or self._chosen(self.TRACKING_RECORDER_TOPIC, LedgerTrackingRecorder)
        return kind(self._ledger, tracking_name=self._name("notification", "tracking"))

    def process_recorder(self) -> ProcessRecorder:
        kind = self._chosen(self.PROCESS_RECORDER_TOPIC, LedgerProcessRecorder)
        tracking_name = self._name("notification", "tracking")
        return kind(self._ledger, has_text_ids=self._has_text_ids, tracking_name=tracking_name)

    def close(self) -> None:
        self._ledger.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _name(self, nobody: str, what: str) -> str:
        """The name of the table that the library's own recorder would make for this application."""
        return f"{self.env.name.lower() or nobody}_{what}"

    def _chosen(self, setting: str, default: type[Kind]) -> type[Kind]:
        """The class that the setting names; a subclass of the default."""
        topic = self.env.get(setting)
        kind = resolve_topic(topic) if topic else default
        if not (isinstance(kind, type) and issubclass(kind, default)):
            raise BadSetting(setting, f"must name a subclass of {default.__qualname__}, not {topic!r}")
        return kind
