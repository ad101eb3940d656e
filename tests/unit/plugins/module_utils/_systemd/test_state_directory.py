# SPDX-License-Identifier: GPL-3.0-or-later
"""Which directories systemd keeps for a unit, and what that means for their mode."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._directory import job as directory_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._directory.observe import State, wanted_mode
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._directory.refusals import AGAINST
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.modes import octal
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.state_directory import (
    Kept,
    kept_by_systemd,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit import PROPERTIES, Unit

KEPT = Kept("StateDirectory=wa", "StateDirectoryMode", 0o755)
(REASON,) = (reason for reason in AGAINST["present"] if reason.__name__ == "_another_mode_at_each_start")


def unit(**properties: str) -> Unit:
    return Unit("wa.service", {**dict.fromkeys(PROPERTIES, ""), **properties})


@pytest.mark.parametrize(
    ("path", "bits"),
    [
        ("/var/lib/wa", 0o700),
        ("/var/lib/private/wa", 0o700),
        ("/var/lib/other/sessions", 0o700),
        ("/var/lib/linked", 0o700),
        ("/var/cache/wa", 0o755),
        ("/var/lib/wa/sessions", None),
        ("/var/lib", None),
        ("/srv/wa", None),
    ],
)
def test_what_systemd_keeps(path: str, bits: int | None) -> None:
    asked = unit(
        StateDirectory="wa other/sessions linked:alias",
        StateDirectoryMode="0700",
        CacheDirectory="wa",
        CacheDirectoryMode="0755",
    )
    kept = kept_by_systemd(asked, path)
    assert (kept.bits if kept else None) == bits
    assert kept_by_systemd(unit(), path) is None


def params(mode: t.Any = None) -> directory_job.Params:
    options = dict.fromkeys(("unit", "owner", "group", "allow_ephemeral", "require_mount", "recurse"))
    return directory_job.read_params(
        {**options, "path": "/var/lib/wa", "state": "present", "mode": mode, "min_free_bytes": 0, "min_free_inodes": 0}
    )._replace(unit="wa.service")


def state(kept: Kept | None) -> State:
    return t.cast("State", State(*[None] * 4, kept=kept))  # type: ignore[arg-type]


def test_a_mode_that_nobody_asked_for_is_systemd_s() -> None:
    assert octal(wanted_mode(state(KEPT), params()).bits or 0) == "0755"
    assert octal(wanted_mode(state(None), params()).bits or 0) == "0750"
    assert octal(wanted_mode(state(KEPT), params("0700")).bits or 0) == "0700"


def test_another_mode_than_systemd_s_is_refused() -> None:
    assert (
        REASON(state(KEPT), params())
        is REASON(state(KEPT), params("0755"))
        is REASON(state(None), params("0700"))
        is None
    )
    refused = REASON(state(KEPT), params("0750")) or ""
    assert "has StateDirectory=wa, so systemd sets the mode of /var/lib/wa to 0755 at each start" in refused
    assert "'mode' is 0750; set StateDirectoryMode=0750 in a drop-in" in refused
