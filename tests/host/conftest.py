# SPDX-License-Identifier: GPL-3.0-or-later
"""One host for all tests of a run, with real systemd, real SSH and the real backend; gone when the run ends, however it ends."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest
from hostkit import REPOSITORY, Host, State


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


@pytest.fixture
def host(booted: Host) -> Host:
    """The host with all accounts at the legacy path, connected, and no trace of an earlier test."""
    booted.before = booted.reset()
    return booted


@pytest.fixture
def before(host: Host) -> State:
    """How things stood before the test."""
    return host.before
