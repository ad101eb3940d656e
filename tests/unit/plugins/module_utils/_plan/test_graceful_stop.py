# SPDX-License-Identifier: GPL-3.0-or-later
"""How a unit is to be stopped: the layout's wishes where nobody else has any, and never less time than there was."""

from __future__ import annotations

import dataclasses
import typing as t
from pathlib import Path

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.layout import StopSettings
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._plan import graceful_stop
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd import drop_in, load_path

BAILEYS = layout_named("baileys")
BROWSER = dataclasses.replace(BAILEYS, stop=StopSettings(signal="SIGTERM", timeout=60, mode="mixed"))


@pytest.fixture
def unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., Path]:
    """Write the unit wa.service, and drop-ins by name; systemd's own timeout is 90 s."""
    monkeypatch.setattr(load_path, "SEARCH_PATH", (f"{tmp_path}/etc", f"{tmp_path}/lib"))
    monkeypatch.setitem(drop_in.DIRECTORIES, "persistent", f"{tmp_path}/etc")
    monkeypatch.setattr(graceful_stop, "default_stop_timeout", lambda: "1min 30s")

    def write(lines: str = "", command: str = "/bin/true", **drop_ins: str) -> Path:
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib/wa.service").write_text(f"[Service]\nExecStart={command}\n{lines}\n")
        for name, text in drop_ins.items():
            path = tmp_path / f"etc/wa.service.d/{name.replace('_', '-')}.conf"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"[Service]\n{text}\n")
        return tmp_path

    return write


def service(layout: t.Any = BAILEYS, **options: t.Any) -> dict[str, str]:
    params = graceful_stop.read_params({"unit": "wa", "name": "10-graceful-stop", **options})
    sections = graceful_stop.sections_for(params, layout)
    assert list(sections) == ["Service"]
    return sections["Service"]


@pytest.mark.parametrize(
    ("lines", "timeout"),
    [
        ("", "90"),
        ("TimeoutStopSec=10", "45"),
        ("TimeoutStopSec=10min", "600"),
        ("TimeoutStopSec=1min 30s", "90"),
        ("TimeoutStopSec=45.5", "45.5"),
        ("TimeoutStopSec=infinity", "infinity"),
        ("TimeoutStopSec=0", "infinity"),
        ("TimeoutSec=200", "200"),
    ],
)
def test_time_is_never_taken_away(unit: t.Callable[..., Path], lines: str, timeout: str) -> None:
    unit(lines)
    assert service()["TimeoutStopSec"] == timeout


def test_what_the_layout_wants(unit: t.Callable[..., Path]) -> None:
    unit()
    assert service() == {"KillSignal": "SIGINT", "TimeoutStopSec": "90"}
    assert service(BROWSER) == {"KillSignal": "SIGTERM", "KillMode": "mixed", "TimeoutStopSec": "90"}


@pytest.mark.parametrize(
    "command",
    [
        "/bin/sh -c 'node server.js'",
        "-/usr/bin/npm start",
        '@"/usr/bin/bash" bash -lc start',
        "/opt/wa/start.sh",
        "npm ci",
    ],
)
def test_the_signal_reaches_a_backend_behind_a_wrapper(unit: t.Callable[..., Path], command: str) -> None:
    unit(command=command)
    assert service(BROWSER)["KillMode"] == "control-group"
    assert service(BROWSER, mode="mixed")["KillMode"] == "mixed"
    assert "KillMode" not in service()


@pytest.mark.parametrize("command", ["/usr/bin/node npm", "/usr/local/bin/wash", "/usr/bin/npmd", ""])
def test_what_is_no_wrapper(unit: t.Callable[..., Path], command: str) -> None:
    unit(command=command)
    assert service(BROWSER)["KillMode"] == "mixed"


def test_a_wrapper_that_was_replaced_is_none(unit: t.Callable[..., Path]) -> None:
    unit(command="/usr/bin/npm start", override="ExecStart=\nExecStart=/usr/bin/node server.js")
    assert service(BROWSER)["KillMode"] == "mixed"


def test_what_somebody_chose_stays(unit: t.Callable[..., Path]) -> None:
    unit("KillSignal=SIGQUIT", override="KillMode=process")
    assert service(BROWSER) == {"TimeoutStopSec": "90"}


def test_what_somebody_chose_and_took_back_is_nobody_s_choice(unit: t.Callable[..., Path]) -> None:
    unit("KillSignal=SIGQUIT", override="KillSignal=")
    assert service()["KillSignal"] == "SIGINT"


def test_our_own_drop_in_is_nobody_s_choice(unit: t.Callable[..., Path]) -> None:
    unit(**{"10_graceful_stop": "KillSignal=SIGUSR1\nKillMode=none\nTimeoutStopSec=7000"})
    assert service() == {"KillSignal": "SIGINT", "TimeoutStopSec": "90"}


def test_what_the_operator_orders_counts(unit: t.Callable[..., Path]) -> None:
    unit("KillSignal=SIGQUIT\nKillMode=process\nTimeoutStopSec=600")
    assert service(signal="SIGTERM", mode="mixed", timeout=20) == {
        "KillSignal": "SIGTERM",
        "KillMode": "mixed",
        "TimeoutStopSec": "20",
    }


def test_empty_answers_of_a_survey_are_no_orders(unit: t.Callable[..., Path]) -> None:
    unit()
    assert service(signal="", mode="", timeout=None) == service()
