# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Observe everything that the findings of an audit are decided from. Changes nothing.

A part that cannot be examined becomes a fact itself, so that one unreadable journal does not hide everything else, and nothing that was
not examined counts as clean.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import typing as t

from .._accounts.control_directory import INTENT, existing_control, read_document_at
from .._accounts.receipts import RECEIPT, Entry, entries_in
from .._accounts.work_area import known_document
from .._containers.detect import container_of
from .._containers.service import compose_of, read_service, service_identity
from .._core.errors import SessionsError
from .._core.query_cache import one_look
from .._fs.fdopen import follow_no_link_below
from .._fs.users import Identity
from .._layouts.layout import LINKED, Layout
from .._layouts.registry import first_layout
from .._systemd.effective import sources_now
from .._systemd.unit import Unit
from .._usage.in_use import ELSEWHERE, NOWHERE, Verdict, use_of
from .._usage.use import newer_places
from . import naming
from .facts import Box, Facts, Place, Service
from .look_at_accounts import Held, accounts_of, held_at, links_of
from .look_at_backups import backups_of
from .look_at_places import Backend, place_at
from .look_at_service import key_lines, other_users, service_of, stop_differences
from .params import Params

if t.TYPE_CHECKING:
    from .._containers.recognise import Container

Answer = t.TypeVar("Answer")


class Observation(t.NamedTuple):
    """The facts, and the layout of the accounts."""

    facts: Facts
    layout: Layout


def observed(params: Params) -> Observation:
    """Observe the host. Raises SessionsError if the unit does not exist, or if the accounts at the sessions path cannot be judged."""
    with one_look():
        return _Look(params).done()


class _Look:
    """One observation."""

    def __init__(self, params: Params) -> None:
        self.params = params
        self.unchecked: list[tuple[str, str]] = []
        self.unit = read_service(params.unit) if params.unit else None
        self.container = container_of(self.unit) if self.unit else None
        if self.container:
            follow_no_link_below(os.path.realpath(params.path))
        self.at_path = held_at(params.path, params.layout)

    def done(self) -> Observation:
        """Observe each part and put the facts together."""
        identity = self._tried("the backend's user", self._identity, None)
        nothing: tuple[Box | None, tuple[str, ...]] = (None, ())
        box, outside = self._tried("the container", self._box, nothing)
        sources = self._sources(identity)
        newer, use = self._use(sources)
        held = self._held(sources, use, newer, outside)
        layout = next((one.state.layout for one in held if one.state.accounts), self.at_path.state.layout)
        places = self._places(held, identity)
        owner = identity.owner if identity and identity.uid and not self.container else ""
        linked = any(account.state in LINKED for account in self.at_path.state.accounts)
        facts = Facts(
            self.params.path,
            self.params.limits,
            datetime.datetime.now(datetime.timezone.utc).date(),
            layout.stop,
            places,
            elsewhere=tuple(one.path for one in held if one.path != self.params.path),
            unproved=bool(use and use.state == NOWHERE and linked),
            newer=newer,
            accounts=accounts_of(held, self.params, owner),
            links=links_of(held, self.params),
            service=self._service(identity, layout, [place.path for place in places]),
            box=box,
            backups=self._tried("the backups", lambda: backups_of(held, self.params), None),
            unfinished=self._tried("the control directory", self._is_unfinished, False),
            exempted=self.params.exempted,
        )
        return Observation(facts._replace(unchecked=tuple(self.unchecked)), layout)

    def _tried(self, part: str, look: t.Callable[[], Answer], otherwise: Answer) -> Answer:
        """Return what ``look`` returns; if it cannot be observed, note that and return ``otherwise``."""
        try:
            return look()
        except SessionsError as error:
            self.unchecked.append((part, str(error)))
        except OSError as error:
            self.unchecked.append((part, f"it cannot be read: {error.strerror}"))
        return otherwise

    def _identity(self) -> Identity | None:
        return service_identity(self.unit) if self.unit else None

    def _is_unfinished(self) -> bool:
        with existing_control(self.params.path) as control:
            return control is not None and bool(read_document_at(control, INTENT))

    # --- Where accounts are --------------------------------------------------------------------------------

    def _sources(self, identity: Identity | None) -> tuple[str, ...]:
        """Return the other directories in which the backend may keep accounts: those that are named, and those that it leads to."""
        named = [path for path in map(os.path.realpath, self.params.sources) if os.path.isdir(path)]
        if self.unit and identity and not self.container:
            named += self._tried("former paths of the accounts", lambda: self._found(identity), [])
        return tuple(path for path in dict.fromkeys(named) if path != os.path.realpath(self.params.path))

    def _found(self, identity: Identity) -> list[str]:
        from .._migration.owners import owners_of
        from .._migration.sources import found_sources

        unit = t.cast("Unit", self.unit)
        whose = owners_of(unit, identity, foreign=True)._replace(users=None)
        return [source.path for source in found_sources(unit, self.params.path, self.params.layout, whose)]

    def _use(self, sources: tuple[str, ...]) -> tuple[tuple[str, ...], Verdict | None]:
        """Return the former paths with newer keys, and what the running backend uses; None if it is down."""
        path, layout = self.params.path, self._layout(sources)
        none: dict[str, Entry] = {}
        receipts = self._tried("the receipt", lambda: entries_in(known_document(path, RECEIPT)), none)
        newer: tuple[str, ...] = ()
        if self.at_path.state.exists:
            newer = self._tried("former paths", lambda: newer_places(path, receipts, layout), ())
        unit = self.unit
        if unit is None or not unit.main_pid:
            return newer, None
        former = [*{entry.source for entry in receipts.values()} - {path}, *sources]
        return newer, self._tried("what the backend uses", lambda: use_of(unit, path, former, layout, newer), None)

    def _layout(self, sources: t.Iterable[str]) -> Layout:
        """Return the layout of the accounts at the sessions path, or if there are none, of those elsewhere."""
        if self.params.layout or self.at_path.state.accounts:
            return self.at_path.state.layout
        from .._migration.sources import Source, layout_of

        roots = [Source(path, path) for path in sources]
        return self._tried("the layout", lambda: layout_of(roots, self.params.path, None), first_layout())

    def _held(
        self, sources: tuple[str, ...], use: Verdict | None, newer: tuple[str, ...], outside: tuple[str, ...]
    ) -> list[Held]:
        """Return the directories whose accounts the backend uses, or would use after its next start.

        Newer keys at a former path do not show that the backend wrote them; that is a finding by itself.
        """
        used = [
            *outside,
            *(path for path in (use.where if use and use.state == ELSEWHERE else ()) if path not in newer),
        ]
        if not used and not self.at_path.state.accounts:
            used = list(sources)
        held = []
        for path in dict.fromkeys(used):
            one = self._tried(path, functools.partial(held_at, path, self.params.layout), None)
            if one is not None and one.state.accounts:
                held.append(one)
        return held or ([self.at_path] if self.at_path.state.exists else [])

    def _places(self, held: t.Sequence[Held], identity: Identity | None) -> tuple[Place, ...]:
        plain = self.unit is not None and not self.container
        sources = None
        if self.unit and plain:
            unit = self.unit
            sources = self._tried("the files of the unit", lambda: sources_now(unit.name), None)
        backend = Backend(self.unit, identity, sources, inside=self.container is not None)
        found = (self._tried(one.path, functools.partial(place_at, one.path, backend), None) for one in held)
        return tuple(place for place in found if place is not None)

    # --- What runs the backend ------------------------------------------------------------------------------

    def _box(self) -> tuple[Box | None, tuple[str, ...]]:
        """Return the container, and the directories of the host other than the sessions path in which it keeps accounts."""
        if self.container is None:
            return None, ()
        from .look_at_container import box_of, other_directories

        return box_of(self.container, self.params.layout), other_directories(
            self.container, self.params.path, self.params.layout
        )

    def _service(self, identity: Identity | None, layout: Layout, places: t.Sequence[str]) -> Service | None:
        if self.unit is None:
            return None
        unit, container = self.unit, self.container
        service = service_of(unit, identity.uid if identity else None)
        real = [os.path.realpath(path) for path in places]
        service = service._replace(
            others=self._tried(
                "other processes", lambda: other_users(real, self._group(unit, container), unit.main_pid), ""
            )
        )
        if compose_of(unit) is None:
            service = service._replace(key_lines=self._key_lines(unit))
        return service if container else self._with_files(service, unit, layout, real)

    def _with_files(self, service: Service, unit: Unit, layout: Layout, places: t.Collection[str]) -> Service:
        """Add what the files of a unit without a container say."""
        path = self.params.path
        service = service._replace(stop=self._tried("how the unit stops", lambda: stop_differences(unit, layout), {}))
        with contextlib.suppress(SessionsError):  # it was noted with the places
            sources = sources_now(unit.name)
            service = service._replace(
                overridden=tuple(naming.overridden(sources, path)),
                outdated=naming.outdated(unit, sources, path),
                dotenv=tuple(naming.contradicting_dotenv(unit, sources, path, set(places) - {os.path.realpath(path)})),
            )
        return service

    def _key_lines(self, unit: Unit) -> int:
        lines, complete = self._tried("the journal of the unit", lambda: key_lines(unit), (0, True))
        if not complete:
            self.unchecked.append(("the journal of the unit", "it is too long, only its beginning was examined"))
        return lines

    @staticmethod
    def _group(unit: Unit, container: Container | None) -> str:
        if container and container.box and container.box.pid:
            from .._containers.view import payload_groups

            return payload_groups(container.box)[0]
        return unit.properties["ControlGroup"]
