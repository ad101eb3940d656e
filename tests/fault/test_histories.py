# SPDX-License-Identifier: GPL-3.0-or-later
"""Random histories: the backend writes here and there, runs are made, killed and repeated, by any engine, in any order.

Whatever happens: an account at the sessions path is one whole generation, no run loses a generation that was whole anywhere, or puts an
older one in the place of a newer one, and a run that goes through leaves the newest at the path. It may refuse only where both sides
were written to since the account was last put in place.
"""

from __future__ import annotations

import itertools
import pathlib
import shutil
import typing as t

import hypothesis
from hypothesis import strategies as st

from faultkit import ENGINES, Outcome, Scene, content, write_in_place
from test_errors import require_sentence

ACCOUNTS = ("5511999990001", "5511999990002")
FIRST = 2
SIDES = ("legacy", "path")
CALLS = ("renameat2", "renameat", "fsync", "syncfs", "unlinkat", "utimensat", "openat", "fchown", "mkdirat")
FAULTS = ("signal=KILL", "signal=KILL", "error=EIO", "error=ENOSPC")

ACTIONS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(SIDES), st.sampled_from(ACCOUNTS)),
    st.tuples(st.just("run"), st.sampled_from(("staged", "migrated", "migrated")), st.sampled_from(ENGINES)),
    st.tuples(
        *(st.just("strike"), st.sampled_from(ENGINES), st.sampled_from(CALLS), st.sampled_from(FAULTS)),
        st.integers(1, 12),
    ),
)
HISTORIES = st.lists(ACTIONS, min_size=3, max_size=9)
_numbers = itertools.count()


@hypothesis.settings(
    max_examples=30, deadline=None, print_blob=True, suppress_health_check=list(hypothesis.HealthCheck)
)
@hypothesis.given(history=HISTORIES)
def test_whatever_happens(place: pathlib.Path, history: list[tuple[t.Any, ...]]) -> None:
    root = place / str(next(_numbers))
    root.mkdir()
    told = History(Scene(root, root / "lib" / "sessions", legacy=dict.fromkeys(ACCOUNTS, FIRST), companions=False))
    for verb, *given in history:
        getattr(told, verb)(*given)
    shutil.rmtree(root)


class History:
    """What happened so far.

    ``since``: the sides that each account was written to at since it was last put in place. ``used``: what was written at the path.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene.build()
        self.scene.later = {account: [FIRST] for account in ACCOUNTS}
        self.since = {account: {"legacy"} for account in ACCOUNTS}
        self.used: dict[str, set[int]] = {account: set() for account in ACCOUNTS}
        self._clock = itertools.count(10)

    def write(self, side: str, account: str) -> None:
        """The backend on that side writes the next generation of an account that is there."""
        directory = (self.scene.source if side == "legacy" else self.scene.path) / account
        if directory.exists():
            generation = next(self._clock)
            write_in_place(directory, content(account, generation))
            self.scene.later[account].append(generation)
            self.since[account].add(side)
            if side == "path":
                self.used[account].add(generation)

    def run(self, state: str, engine: str) -> None:
        """A run without faults: it goes through, or says why it cannot."""
        before = {account: self._at_path(account) for account in ACCOUNTS}
        outcome = self._watched(engine=engine, state=state)
        if state == "staged":
            return
        if "failed" in outcome:
            assert {*SIDES} in self.since.values(), outcome
            return
        for account in ACCOUNTS:
            newest = self.scene.later[account][-1]
            assert self._at_path(account) == newest, f"generation {newest} of {account} is not at the path: {outcome}"
            if before[account] != newest:
                self.since[account] = set()

    def strike(self, engine: str, call: str, fault: str, number: int) -> None:
        """A run that is killed, or that the kernel denies something."""
        self._watched([f"{call}:{fault}:when={number}"], engine=engine)

    def _watched(self, faults: t.Sequence[str] = (), **changed: t.Any) -> Outcome:
        whole = {account: self._whole(account) for account in ACCOUNTS}
        before = {account: self._at_path(account) for account in ACCOUNTS}
        outcome = self.scene.run(faults, **changed)
        require_sentence(outcome)
        for account in ACCOUNTS:
            lost = whole[account] - set(self.scene.places(account))
            assert not lost, f"{account}: generation {lost} is lost: {outcome}"
            older = (self._at_path(account) or 1 << 31) < (before[account] or 0)
            assert not older, f"{account}: generation {before[account]} gave way to an older one: {outcome}"
        return outcome

    def _whole(self, account: str) -> set[int]:
        """Return the generations that must not get lost. A copy may, while its original is there: staged, or published half way."""
        moved = not (self.scene.source / account).exists()
        half_way = (self.scene.area / "intent.json").exists()
        at_path = str((self.scene.path / account).relative_to(self.scene.root))
        return {
            generation
            for generation, places in self.scene.places(account).items()
            for place in places
            if moved
            or (
                "/staging/" not in place
                and not (half_way and place == at_path and generation not in self.used[account])
            )
        }

    def _at_path(self, account: str) -> int | None:
        place = self.scene.path / account
        generation = self.scene.is_whole(place, account) if place.exists() else None
        assert generation or not place.exists(), f"{account} at the sessions path is no whole generation"
        return generation
