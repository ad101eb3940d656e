# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Lets systemd check a drop-in, or whole units, before they are installed, so that a typo never reaches /etc.

The units and the new drop-in are written to a private directory that ``systemd-analyze verify`` searches first: it needs no running
systemd and does not affect one. Its exit code is meaningless (0 for an unknown option), so any line that names the drop-in counts as a
failure.
"""

from __future__ import annotations

import difflib
import os
import re
import tempfile
import typing as t

from .._core.errors import SessionsError
from .._proc.command import SEARCH_PATH, Completed, run
from .load_path import UnitFile
from .unit_file import Setting, parse

# Lines of systemd-analyze that report that it could not check anything.
_GAVE_UP = re.compile(r"Failed to (initialize|start|set ?up|load|prepare|allocate)\b.*", re.IGNORECASE)
_UNKNOWN = re.compile(
    r"Unknown (key|key name|lvalue) '(?P<option>[^']*)' in section|Unknown section '(?P<section>[^']*)'"
)
_SYSTEMD = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")


def verify_drop_in(unit: str, fragment: UnitFile, name: str, text: str, *, reveal: t.Callable[[str], str]) -> None:
    """Raise SessionsError if systemd would reject a line of the drop-in ``name`` with ``text`` for ``unit``.

    ``fragment``: the unit's own file; its other drop-ins are read in place. ``reveal``: converts systemd's messages, which may contain a
    value, to what an operator may see of them.
    """
    with tempfile.TemporaryDirectory(prefix="wa-verify-") as directory:
        path = _lay_out(directory, unit, fragment, {f"{name}.conf": text})
        said = _ask(directory, unit)
        for _name, number, words in _about(said, path):
            raise SessionsError(f"{_misspelt(parse(text), number, words, reveal)}; nothing was changed")
        if not _refused(said):
            return
        refusal = reveal(_refused(said)[0])
    with tempfile.TemporaryDirectory(prefix="wa-verify-") as directory:
        _lay_out(directory, unit, fragment, {})
        if not _refused(_ask(directory, unit)):
            raise SessionsError(f"with {name}.conf systemd would refuse to run {unit} ({refusal}); nothing was changed")


def verify_units(units: t.Mapping[str, str]) -> None:
    """Raise SessionsError if systemd would reject a line of one of the new ``units`` (text by name), which may refer to each other."""
    with tempfile.TemporaryDirectory(prefix="wa-verify-") as directory:
        for name, text in units.items():
            _write(f"{directory}/{name}", text)
        said = _ask(directory, *units)
        for name, number, words in _about(said, directory):
            raise SessionsError(f"{_misspelt(parse(units[name]), number, words, str)} ({name}); nothing was changed")
        if _refused(said):
            raise SessionsError(f"systemd would refuse to run a unit ({_refused(said)[0]}); nothing was changed")


def _lay_out(directory: str, unit: str, fragment: UnitFile, drop_ins: t.Mapping[str, str]) -> str:
    """Write the unit and its new drop-in to ``directory``; return the path of the drop-in directory."""
    _write(f"{directory}/{unit}", fragment.text)
    os.mkdir(f"{directory}/{unit}.d")
    for name, text in drop_ins.items():
        _write(f"{directory}/{unit}.d/{name}", text)
    return f"{directory}/{unit}.d"


def _write(path: str, text: str) -> None:
    # Readable for all (the directory is not): systemd warns about unit files with other modes.
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(text)


def _ask(directory: str, *units: str) -> Completed:
    try:
        # The colon at the end adds systemd's own search path, systemd.unit(5).
        said = run(
            ["systemd-analyze", "verify", "--man=no", *(f"{directory}/{unit}" for unit in units)],
            environment={"SYSTEMD_UNIT_PATH": f"{directory}:"},
        )
    except SessionsError as error:
        if "is not on this host" not in str(error):
            raise
        raise SessionsError(
            "cannot check the options before they are installed: the program 'systemd-analyze' is not on this host; "
            "install systemd, or set 'validate: false' to skip this check"
        ) from error
    gave_up = [line for line in said.stderr.splitlines() if _GAVE_UP.match(line)]
    if said.rc != 0 and gave_up:
        raise SessionsError(
            f"cannot check the options before they are installed: systemd-analyze reports {gave_up[0]!r}; "
            "set 'validate: false' to skip this check"
        )
    return said


def _about(said: Completed, directory: str) -> t.Iterator[tuple[str, int, str]]:
    """Yield (name, line number, text) of each message about a file in ``directory``."""
    for line in said.stderr.splitlines():
        found = re.match(re.escape(directory) + r"/([^:/]*):(?:(\d+):)?\s*(.*)", line)
        if found:
            yield found[1], int(found[2] or 0), found[3]


def _refused(said: Completed) -> list[str]:
    return [line for line in said.stderr.splitlines() if line.endswith("Refusing.")]


def _misspelt(settings: t.Sequence[Setting], number: int, words: str, reveal: t.Callable[[str], str]) -> str:
    """Return in one sentence what is wrong with the setting in line ``number``."""
    setting = next((setting for setting in settings if setting.line == number), None)
    unknown = _UNKNOWN.search(words)
    if unknown and unknown["section"] is not None:
        return f"systemd does not know the section [{unknown['section']}]{_hint(unknown['section'], known_options())}"
    if setting is None:
        return f"systemd does not accept the drop-in: {reveal(words)}"
    if unknown:
        known = known_options()
        elsewhere = [section for section in ("Unit", "Service", "Install") if setting.option in known.get(section, ())]
        advice = (
            f"; it belongs in [{elsewhere[0]}]" if elsewhere else _hint(setting.option, known.get(setting.section, ()))
        )
        return f"systemd does not know the option {setting.option} in section [{setting.section}]{advice}"
    return f"systemd does not accept the value of {setting.option} in section [{setting.section}]: {reveal(words)}"


def _hint(word: str, known: t.Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else "; look it up in systemd's manual"


def known_options() -> dict[str, frozenset[str]]:
    """Return the options that this host's systemd knows, by section; empty if systemd is not installed."""
    program = next((path for path in _SYSTEMD if os.access(path, os.X_OK)), None)
    if program is None:
        return {}
    listed = run([program, "--dump-configuration-items"], environment={"PATH": SEARCH_PATH}).stdout
    options: dict[str, set[str]] = {}
    for setting in parse(listed):
        options.setdefault(setting.section, set()).add(setting.option)
    return {section: frozenset(names) for section, names in options.items()}
