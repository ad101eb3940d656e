# SPDX-License-Identifier: GPL-3.0-or-later
"""One host for all tests of a run, with real systemd, real SSH and the real backend; gone when the run ends, however it ends."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest
from containerkit import CLEAN, Engines
from hostkit import PATH, REPOSITORY, UNIT, Host, State
from movekit import CONTROLS, DROP_IN, HOME, Pair, identities
from playkit import play


@pytest.fixture(scope="session")
def booted() -> t.Iterator[Host]:
    """``WA_HOST_SUITE`` names the Debian release, ``WA_HOST_LAB`` a lab whose host is kept for the next run."""
    if os.geteuid() != 0:
        pytest.fail("hosts need namespaces, cgroups and a bridge: run this as root")
    kept = os.environ.get("WA_HOST_LAB")
    lab = pathlib.Path(kept).resolve() if kept else REPOSITORY / ".work" / f"lab-host-tests-{os.getpid()}"
    host = Host("backend", os.environ.get("WA_HOST_SUITE", "bookworm"), lab)
    try:
        host.up()
        yield host
    finally:
        if not kept:
            host.lab("destroy")


@pytest.fixture(scope="session")
def engines() -> t.Iterator[Engines]:
    """One host with both container engines; see booted."""
    kept = os.environ.get("WA_HOST_LAB")
    lab = pathlib.Path(kept).resolve() if kept else REPOSITORY / ".work" / f"lab-container-tests-{os.getpid()}"
    host = Engines("engines", "trixie", lab)
    try:
        host.boot()
        yield host
    finally:
        if kept:
            host.sh(CLEAN)
        else:
            host.destroy()


@pytest.fixture
def host(booted: Host) -> Host:
    """The host with all accounts at the legacy path, connected, and no trace of an earlier test."""
    booted.before = booted.reset()
    return booted


@pytest.fixture
def before(host: Host) -> State:
    """How things stood before the test."""
    return host.before


@pytest.fixture(scope="module")
def persisted(booted: Host) -> t.Iterator[Pair]:
    """Both hosts as the role persist leaves them."""
    booted.reset()
    played = play(booted, "persist")
    assert played.rc == 0, played.output
    booted.sh(
        f"systemctl stop {UNIT}; rm -rf /srv/persisted; mkdir /srv/persisted; mkdir -p {CONTROLS}; cp -a {HOME} {CONTROLS} /srv/persisted"
    )
    second = Host("second", booted.suite, pathlib.Path(booted.environment["LAB_DIR"]))
    second.boot()
    second.put("/etc/whatsapp-backend/env", f"SESSIONS_PATH={PATH}\n")
    try:
        yield Pair(booted, second, identities(booted))
    finally:
        booted.lab("down", second.name)


@pytest.fixture
def pair(persisted: Pair) -> Pair:
    """The hosts without a trace of an earlier test."""
    first, second = persisted.first, persisted.second
    lay = f"systemctl stop {UNIT}; rm -rf {HOME} {CONTROLS} {DROP_IN}; systemctl daemon-reload; systemctl reset-failed {UNIT}"
    first.sh(f"{lay}; cp -a /srv/persisted/. /var/lib; systemctl start {UNIT}")
    second.sh(f"{lay}; install -d -o whatsapp -g whatsapp -m 0750 {PATH}")
    first.before = first.well()
    assert first.before["well"], first.before
    return persisted
