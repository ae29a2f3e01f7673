"""Which bookings are taken out together: those of one chain, and whether anybody else is in them. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from ledger.facts import Dated
from ledger.readings import Reading, same_chain
from ledger.redacting import persons_in
from ledger.vocabulary import StreamId

Readings = Mapping[StreamId, Sequence[Reading]]


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """The streams of bookings that replaced one another, numbers' streams among them. `others`: somebody stays."""

    streams: frozenset[StreamId]
    others: bool


def chains_of(readings: Readings, seeds: Collection[StreamId], *, leaving: Collection[str] | None) -> list[Chain]:
    """The chains that the seeds belong to, each once. `leaving`: who is taken out, by address; None: everybody."""
    groups = _Groups()
    for stream_id, told in readings.items():
        groups.join((stream_id, *same_chain(told)))
    for seed in seeds:
        groups.join((seed,))
    facts: dict[StreamId, list[Dated]] = {}
    for told in readings.values():
        for reading in told:
            for about, dated in reading.facts:
                facts.setdefault(about, []).append(dated)
    found = {groups.of(seed): None for seed in seeds}
    return [_chain(groups.members(one), facts, leaving) for one in found]


def _chain(
    streams: frozenset[StreamId], facts: Mapping[StreamId, Sequence[Dated]], leaving: Collection[str] | None
) -> Chain:
    if leaving is None:
        return Chain(streams=streams, others=False)
    told = [dated.fact for stream_id in streams for dated in facts.get(stream_id, ())]
    hosts = {fact.details.host_email for fact in told}
    named = {email for fact in told for email in persons_in(fact)}
    return Chain(streams=streams, others=bool(named - hosts - set(leaving)))


class _Groups:
    """Streams that belong together, by union and find."""

    def __init__(self) -> None:
        self._parents: dict[StreamId, StreamId] = {}

    def of(self, stream_id: StreamId) -> StreamId:
        at = stream_id
        while (parent := self._parents.setdefault(at, at)) != at:
            self._parents[at] = at = self._parents.setdefault(parent, parent)
        return at

    def join(self, stream_ids: Iterable[StreamId]) -> None:
        first, *others = (self.of(stream_id) for stream_id in stream_ids)
        for one in others:
            self._parents[self.of(one)] = self.of(first)

    def members(self, root: StreamId) -> frozenset[StreamId]:
        return frozenset(one for one in list(self._parents) if self.of(one) == root)
