"""The tree against RFC 9162, written down once more as the RFC words it: every size, every leaf, every prefix."""

import hashlib
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.merkle import EMPTY_ROOT, Tree, leaf_hash, root_of_path

SIZE_MAX = 64
LEAVES = [b"", b"\x00", b"\x10", b" !", b"01", b"@ABC", b"PQRSTUVW", b"`abcdefghijklmno"]
"""The leaves that implementations of certificate transparency test themselves with, and the roots over the first n."""
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


def links(count: int) -> list[bytes]:
    return [b"link %d" % number for number in range(count)]


def grown(given_links: Sequence[bytes], *, paths_of: Sequence[int] = (), step: int = 7) -> Tree:
    tree = Tree(paths_of=paths_of)
    for at in range(0, len(given_links), step):
        tree.extend(given_links[at : at + step])
    return tree


# The RFC's own words, section by section


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def split(size: int) -> int:
    """The largest power of two smaller than the size."""
    return 1 << (size - 1).bit_length() - 1


def tree_head(leaves: Sequence[bytes]) -> bytes:
    """Section 2.1.1."""
    if len(leaves) < 2:
        return sha256(b"\x00" + leaves[0]) if leaves else sha256(b"")
    k = split(len(leaves))
    return sha256(b"\x01" + tree_head(leaves[:k]) + tree_head(leaves[k:]))


def inclusion_path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """Section 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*inclusion_path(index, leaves[:k]), tree_head(leaves[k:])]
    return [*inclusion_path(index - k, leaves[k:]), tree_head(leaves[:k])]


def consistency_path(size: int, leaves: Sequence[bytes], *, is_whole: bool = True) -> list[bytes]:
    """Section 2.1.4.1."""
    if size == len(leaves):
        return [] if is_whole else [tree_head(leaves)]
    k = split(len(leaves))
    if size <= k:
        return [*consistency_path(size, leaves[:k], is_whole=is_whole), tree_head(leaves[k:])]
    return [*consistency_path(size - k, leaves[k:], is_whole=False), tree_head(leaves[:k])]


def is_consistent(first: int, first_root: bytes, second: int, second_root: bytes, path: Sequence[bytes]) -> bool:
    """Section 2.1.4.2."""
    if first == second:
        return not path and first_root == second_root
    if not path:
        return False
    hashes = [first_root, *path] if first & (first - 1) == 0 else list(path)
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = hashes[0]
    for one in hashes[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = sha256(b"\x01" + one + fr), sha256(b"\x01" + one + sr)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = sha256(b"\x01" + sr + one)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and (fr, sr) == (first_root, second_root)


# The tree


@pytest.mark.parametrize("size", range(len(ROOTS)))
def test_the_roots_are_those_that_everybody_gets(size: int) -> None:
    assert grown(LEAVES[:size]).root().hex() == ROOTS[size]
    assert tree_head(LEAVES[:size]).hex() == ROOTS[size]


def test_the_root_over_nothing_is_the_hash_of_nothing() -> None:
    assert Tree().root() == EMPTY_ROOT == tree_head([])


@pytest.mark.parametrize("size", range(1, SIZE_MAX + 1))
def test_every_leaf_of_every_tree_has_the_path_that_the_rfc_gives_it(size: int) -> None:
    leaves = links(size)
    tree = grown(leaves, paths_of=range(size))
    assert tree.root() == tree_head(leaves)
    for index, leaf in enumerate(leaves):
        path = tree.path(index)
        assert path == inclusion_path(index, leaves)
        assert root_of_path(leaf_hash(leaf), index, size, path) == tree.root()


@pytest.mark.parametrize("size", range(1, SIZE_MAX + 1))
def test_a_path_fits_no_other_leaf_index_or_size(size: int) -> None:
    leaves = links(size)
    tree = grown(leaves, paths_of=range(size))
    for index, leaf in enumerate(leaves):
        path = tree.path(index)
        wrong = [
            *(root_of_path(leaf_hash(leaf), other, size, path) for other in range(-1, size + 2) if other != index),
            root_of_path(leaf_hash(leaf + b"x"), index, size, path),
            root_of_path(leaf, index, size, path),
            root_of_path(leaf_hash(leaf), index, size, [*path, EMPTY_ROOT]),
            *(root_of_path(leaf_hash(leaf), index, size, path[:kept]) for kept in range(len(path))),
            *(root_of_path(leaf_hash(leaf), index, size, changed) for changed in changed_paths(path)),
        ]
        assert tree.root() not in wrong


def changed_paths(path: Sequence[bytes]) -> list[list[bytes]]:
    """Each hash changed in one bit, and each two neighbours exchanged."""
    changed = [[*path[:at], bytes([path[at][0] ^ 1]) + path[at][1:], *path[at + 1 :]] for at in range(len(path))]
    return changed + [
        [*path[:at], path[at + 1], path[at], *path[at + 2 :]] for at in range(len(path) - 1) if path[at] != path[at + 1]
    ]


@pytest.mark.parametrize("size", range(1, SIZE_MAX + 1))
def test_every_tree_is_consistent_with_all_that_it_has_been(size: int) -> None:
    leaves = links(size)
    tree, roots = Tree(), {}
    for leaf in leaves:
        tree.extend([leaf])
        roots[tree.size] = tree.root()
    for earlier, root in roots.items():
        path = consistency_path(earlier, leaves)
        assert is_consistent(earlier, root, size, tree.root(), path)
        assert not is_consistent(earlier, sha256(root), size, tree.root(), path)


@given(st.lists(st.integers(0, 40), max_size=30), st.randoms(use_true_random=False))
def test_however_it_grows_the_tree_is_the_same(steps: list[int], rng: Random) -> None:
    leaves = links(sum(steps))
    wanted = [rng.randrange(len(leaves)) for _ in range(5)] if leaves else []
    tree, at = Tree(paths_of=wanted), 0
    for step in steps:
        tree.extend(leaves[at : at + step])
        at += step
        assert tree.root() == tree_head(leaves[:at])
    for index in wanted:
        assert tree.path(index) == inclusion_path(index, leaves)


def test_a_leaf_of_a_large_tree_has_seventeen_hashes_on_its_way() -> None:
    leaves = links(100_000)
    tree = grown(leaves, paths_of=[0, 77_777, 99_999], step=5_000)
    assert len(tree.path(0)) == 17
    for index in (0, 77_777, 99_999):
        assert root_of_path(leaf_hash(leaves[index]), index, 100_000, tree.path(index)) == tree.root()
