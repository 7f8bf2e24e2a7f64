"""The table of paths that are narrower than the tunnel."""

from __future__ import annotations

from usernet.tcp.pathmtu import MAX_PATHS, PATH_MTU_SECONDS, PathMtus, believable

HERE, THERE, ELSEWHERE = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)), bytes((10, 0, 0, 3))


def test_what_is_known_ends() -> None:
    paths = PathMtus(1420)
    assert paths.to(HERE, 0) == 1420
    paths.narrows(HERE, 1300, 0)
    paths.narrows(HERE, 1350, 1)  # no news
    assert paths.to(HERE, PATH_MTU_SECONDS - 1) == 1300
    assert paths.to(THERE, 0) == 1420
    assert (len(paths), paths.reductions) == (1, 1)
    assert paths.to(HERE, PATH_MTU_SECONDS) == 1420
    assert len(paths) == 0


def test_a_path_gets_wider() -> None:
    paths = PathMtus(1420)
    paths.widens(HERE, 1300, 0)
    assert len(paths) == 0
    paths.narrows(HERE, 1200, 0)
    paths.widens(HERE, 1300, 500)
    assert paths.to(HERE, 1000) == 1300
    paths.widens(HERE, 1420, 1000)
    assert len(paths) == 0


def test_the_one_unused_for_longest_makes_room() -> None:
    paths = PathMtus(1420)
    for remote in (HERE, THERE, *(number.to_bytes(4, "big") for number in range(MAX_PATHS - 2))):
        paths.narrows(remote, 1300, 0)
    paths.to(HERE, 1)
    paths.narrows(ELSEWHERE, 1300, 2)
    assert [paths.to(remote, 3) for remote in (HERE, THERE, ELSEWHERE)] == [1300, 1420, 1300]


def test_floors() -> None:
    assert (believable(68, HERE), believable(1300, HERE)) == (576, 1300)
    assert (believable(68, bytes(16)), believable(1300, bytes(16))) == (1280, 1300)
