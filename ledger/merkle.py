"""The Merkle tree over the log (RFC 9162, section 2.1): one hash stands for every event up to a position.

    leaf = sha256(0x00 ‖ link)              link = header ‖ sha256(stored bytes), as in `ledger/chain.py`
    node = sha256(0x01 ‖ left ‖ right)      a node without a sibling is its own parent

It stands beside the chain because the chain shows that one event is in it only to who reads every event after it. The
path of a leaf has one hash a level: 17 of them for the 100,000th event.

Levels count from the leaves, 0; a node's index counts within its level. Leaf n is position n + 1.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator

HASH_BYTES = 32
PAIR_BYTES = 2 * HASH_BYTES
EMPTY_ROOT = hashlib.sha256().digest()

_LEAF = b"\x00"
_NODE = b"\x01"


def leaf_hash(link: bytes) -> bytes:
    return hashlib.sha256(_LEAF + link).digest()


class Tree:
    """A tree that grows. It holds one hash a level, and those that the paths of the leaves in `paths_of` will need."""

    def __init__(self, *, paths_of: Collection[int] = ()) -> None:
        self.size = 0
        self._paths_of = paths_of
        self._unpaired: list[bytes] = []
        """By level, the last node while it is a left one: its sibling is still to come. Else empty."""
        self._kept: dict[tuple[int, int], bytes] = {}

    def extend(self, links: Iterable[bytes]) -> None:
        """The leaves of these links follow on the right."""
        sha256 = hashlib.sha256
        leaves = [sha256(_LEAF + link).digest() for link in links]
        first, self.size = self.size, self.size + len(leaves)
        nodes, level = b"".join(leaves), 0
        while nodes:
            if level == len(self._unpaired):
                self._unpaired.append(b"")
            self._keep(level, first, nodes)
            nodes, first = self._unpaired[level] + nodes, first // 2
            paired = len(nodes) // PAIR_BYTES * PAIR_BYTES
            self._unpaired[level] = nodes[paired:]
            nodes = b"".join(
                [sha256(_NODE + nodes[at : at + PAIR_BYTES]).digest() for at in range(0, paired, PAIR_BYTES)]
            )
            level += 1

    def root(self) -> bytes:
        """The tree head: that of no leaves at all is the hash of nothing."""
        return self._ragged(len(self._unpaired)) if self.size else EMPTY_ROOT

    def path(self, index: int) -> list[bytes]:
        """The siblings on the way from leaf `index`, one of `paths_of`, up to the root."""
        return [
            self._kept[level, sibling] if (sibling + 1) << level <= self.size else self._ragged(level)
            for level, sibling in _siblings(index, self.size)
        ]

    def _keep(self, level: int, first: int, nodes: bytes) -> None:
        """Of the new nodes of a level, numbered from `first`, those that some path needs."""
        for index in self._paths_of:
            sibling = (index >> level) ^ 1
            at = (sibling - first) * HASH_BYTES
            if 0 <= at < len(nodes):
                self._kept[level, sibling] = nodes[at : at + HASH_BYTES]

    def _ragged(self, level: int) -> bytes:
        """The node at the right edge of a level, over what no full node of the level holds."""
        edge = b""
        for left in self._unpaired[:level]:
            edge = _parent(left, edge) if left and edge else left or edge
        return edge


def root_of_path(leaf: bytes, index: int, size: int, path: Iterable[bytes]) -> bytes | None:
    """The root of the tree of `size` leaves in which `leaf` is at `index` with this path.

    None for a path too short or too long, or an index that such a tree does not have.
    """
    if not 0 <= index < size:
        return None
    hashes, node = iter(path), leaf
    for _, sibling in _siblings(index, size):
        other = next(hashes, None)
        if other is None:
            return None
        node = _parent(node, other) if sibling % 2 else _parent(other, node)
    return node if next(hashes, None) is None else None


def _siblings(index: int, size: int) -> Iterator[tuple[int, int]]:
    """Level and index of each sibling on the way up; a node at the right edge may have none."""
    level, width = 0, size
    while width > 1:
        if index ^ 1 < width:
            yield level, index ^ 1
        index, level, width = index // 2, level + 1, (width + 1) // 2


def _parent(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()
