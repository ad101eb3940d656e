# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Counts in the journal of a unit the lines that tell how its backend is. Reads only.

Some libraries print private keys, and most lines name somebody's phone number. Lines end in this file: nothing of them leaves it but
counts, numbers that a pattern asks for by name, and masked account names. No error here holds any of them either.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t

from ._command import CUT_OFF, Completed, run, run_for_lines
from ._errors import SessionsError
from ._limits import ENTRY_BYTES, JOURNAL_BYTES, LINE_CHARACTERS
from ._masking import masked
from ._unit import Unit

Signals = t.Mapping[str, tuple[t.Pattern[str], ...]]

# A group called ``account`` is the account that a line is about. Any other named group is a number, which is added up.
ACCOUNT = "account"
KEY_MATERIAL = "key_material"

# Bounded, or a line of 48 KiB of brackets would take minutes.
_BRACKETED = rf"(?:\[(?P<{ACCOUNT}>[^\]\s]{{1,128}})\]\s*)?"
_SECRET = r"""\\?["']?\s*[:=]\s*(?:<Buffer\s[0-9a-f]|(?:Buffer|Uint8Array)\(|\\?["'][A-Za-z0-9+/]{42}|\{\s*\\?["']?(?:type|data)\b)"""
DEFAULTS: t.Mapping[str, tuple[str, ...]] = {
    "restored_from_disk": (rf"{_BRACKETED}Session restored from disk",),
    "restored_from_firestore": (rf"{_BRACKETED}Session restored from Firestore",),
    "restored": (rf"[✓✔]\ufe0f?\s*Session restored(?::\s*(?P<{ACCOUNT}>\S{{1,128}}))?",),
    "restore_failed": (rf"[✗✘]\ufe0f?\s*Failed to restore(?:\s+session\s+(?P<{ACCOUNT}>[^\s:]{{1,128}}))?",),
    "restoration_complete": (
        r"Session restoration complete(?::\s*(?P<restored>\d+) restored,\s*(?P<failed>\d+) failed)?",
    ),
    # Not where somebody prints a status with a field of that name that says no.
    "needs_qr": (rf"""{_BRACKETED}\bneeds_qr\b(?!\\?["']?\s*[:=]\s*(?:false|null|0)\b)""",),
    KEY_MATERIAL: (
        r"\bsession: SessionEntry\b",  # libsignal, as it closes, opens or removes a session
        r"""\bprivKey\b\\?["']?\s*[:=]""",
        rf"(?i:\bprivate(?:_?key)?|\b(?:root|chain|mac|enc|adv_?secret)_?key){_SECRET}",
        r"InByaXZhdGUi|Jwcml2YXRlI|icHJpdmF0ZS",  # "private" with its quotes in base64, at each of three places
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    ),
}

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CURSOR = re.compile(r"s=[0-9a-f]+;i=[0-9a-f]+;b=[0-9a-f]+;m=[0-9a-f]+;t=[0-9a-f]+(?:;x=[0-9a-f]+)?")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_DIGITS_AT_MOST = 6  # of a number in a line: there are fewer accounts than that, and phone numbers have more
_ACCOUNTS_AT_MOST = 1000  # named per signal
_ELSEWHERE = frozenset(
    ("null", "file", "append", "truncate", "tty", "socket", "fd")
)  # where StandardOutput= may lead to


@dataclasses.dataclass(frozen=True)
class Query:
    """What to count. ``since``: a cursor, or a time as journalctl takes it; None: since the unit's invocation began."""

    since: str | None
    signals: Signals

    @property
    def names(self) -> list[str]:
        """All that is counted."""
        return count_names(self.signals)


@dataclasses.dataclass(frozen=True)
class Reading:
    """What was counted up to ``cursor``, which is None as long as nothing was read.

    ``complete``: whether that is all that the journal had, or the time was over. ``invocation``: whose lines, empty for any.
    ``accounts``: masked names by signal.
    """

    counts: t.Mapping[str, int]
    accounts: t.Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    cursor: str | None = None
    complete: bool = True
    invocation: str = ""

    @property
    def key_material(self) -> int:
        """The number of lines that look like private keys."""
        return self.counts.get(KEY_MATERIAL, 0)


def read_query(since: str | None, signals: t.Mapping[str, t.Any]) -> Query:
    """Make the query; ``signals`` are added to the defaults or replace them. Raises SessionsError for what cannot be looked for."""
    if since and since.startswith("s=") and not _CURSOR.fullmatch(since):
        raise SessionsError("since looks like a cursor and is none; give it as an earlier call returned it, or a time")
    if since and not since.isprintable():
        raise SessionsError("since holds a control character; give a cursor or a time, such as '-10min'")
    chosen: dict[str, tuple[t.Pattern[str], ...]] = {}
    for name, given in {**DEFAULTS, **signals}.items():
        if not _NAME.fullmatch(str(name)):
            raise SessionsError(
                f"{name!r} is not a name for a signal: letters, digits and underscores only; rename it in signals"
            )
        patterns = [given] if isinstance(given, str) else given or []
        if not isinstance(patterns, (list, tuple)) or not all(isinstance(pattern, str) for pattern in patterns):
            raise SessionsError(f"the signal {name!r} needs a regular expression or a list of them; write it as text")
        chosen[str(name)] = tuple(_compiled(str(name), pattern) for pattern in patterns)
    names = count_names(chosen)
    for name in names:
        if names.count(name) > 1:
            raise SessionsError(f"two counts would be called {name!r}; rename that signal or that group in signals")
    return Query(since, chosen)


def count_names(signals: Signals) -> list[str]:
    """Name all that is counted: each signal, and SIGNAL_GROUP for the numbers in it."""
    return [name for signal, patterns in signals.items() for name in (signal, *_numbers_of(signal, patterns))]


def read_on(unit: Unit, query: Query, before: Reading | None, seconds: float) -> Reading:
    """Count what the processes of ``unit`` have written since ``before``, for ``seconds`` at most; all that ``query`` asks for at first.

    Only trusted fields choose the lines (systemd.journal-fields(7)): what others log in the unit's name is not counted, nor what systemd
    says about it. Raises SessionsError when there is no journal, or none that may be read.
    """
    invocation = "" if query.since else unit.properties["InvocationID"]
    if before is None or before.invocation != invocation:
        before = Reading(dict.fromkeys(query.names, 0), invocation=invocation)
    newest = before.cursor or _newest(unit)
    begin = before.cursor or (without_hash(query.since) if query.since and _CURSOR.fullmatch(query.since) else None)
    if not query.since and not invocation:
        return dataclasses.replace(before, cursor=newest)  # it never ran
    tally = _Tally(query.signals, before, begin)
    done = run_for_lines(
        [*_journalctl(unit), "--all", "--output-fields=MESSAGE", *_place(begin, query), *_matches(unit, invocation)],
        tally.take,
        timeout=seconds,
        longest=ENTRY_BYTES,
        at_most=JOURNAL_BYTES,
    )
    if done.rc not in (0, CUT_OFF):
        raise _unreadable(unit, done)
    return tally.reading(newest if done.rc == 0 else begin, complete=done.rc == 0)


def without_hash(cursor: str) -> str:
    """Leave out what a cursor does not need: its last part is made from the text of the line."""
    return cursor.partition(";x=")[0]


class _Tally:
    """Counts entries as they come."""

    def __init__(self, signals: Signals, before: Reading, skipped: str | None) -> None:
        self._signals = signals
        self._before = before
        self._skipped = skipped
        self._cursor: str | None = None
        self._counts = dict(before.counts)
        self._accounts = {signal: set(names) for signal, names in before.accounts.items()}

    def take(self, line: bytes) -> None:
        """Count one entry. A line that is none (a piece of one that is too long) is left out."""
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            return
        cursor = without_hash(str(entry.get("__CURSOR", ""))) if isinstance(entry, dict) else None
        # --after-cursor would be shorter, but before systemd 242 it left out one line too many.
        if cursor and cursor != self._skipped:
            self._cursor = cursor
            self._count(_COLOURS.sub("", text_of(entry.get("MESSAGE"))[:LINE_CHARACTERS]))

    def reading(self, otherwise: str | None, *, complete: bool) -> Reading:
        """Tell what was counted; ``otherwise`` is the cursor when there was nothing to count."""
        return Reading(
            self._counts,
            {signal: frozenset(names) for signal, names in self._accounts.items()},
            self._cursor or otherwise,
            complete,
            self._before.invocation,
        )

    def _count(self, text: str) -> None:
        for signal, patterns in self._signals.items():
            match = next(filter(None, (pattern.search(text) for pattern in patterns)), None)
            if match:
                self._counts[signal] += 1
                self._note(signal, match.groupdict())

    def _note(self, signal: str, groups: t.Mapping[str, str | None]) -> None:
        for group, value in groups.items():
            if value is None:
                continue
            if group == ACCOUNT:
                names = self._accounts.setdefault(signal, set())
                if len(names) < _ACCOUNTS_AT_MOST:
                    names.add(masked(value))
            elif value.isdecimal() and len(value) <= _DIGITS_AT_MOST:
                self._counts[f"{signal}_{group}"] += int(value)


def text_of(message: t.Any) -> str:
    """Return the text of a MESSAGE as ``journalctl --output=json`` prints it, one value or several.

    A value is text; or a list of bytes, when it has colours or is no UTF-8; or null.
    """
    if isinstance(message, str):
        return message
    if not isinstance(message, list):
        return ""
    if all(isinstance(byte, int) and not isinstance(byte, bool) and 0 <= byte < 256 for byte in message):
        return bytes(message).decode("utf-8", "replace")
    return "\n".join(text_of(value) for value in message if isinstance(value, (str, list)))


def _numbers_of(signal: str, patterns: t.Iterable[t.Pattern[str]]) -> list[str]:
    groups = dict.fromkeys(group for pattern in patterns for group in pattern.groupindex)
    return [f"{signal}_{group}" for group in groups if group != ACCOUNT]


def _compiled(signal: str, pattern: str) -> t.Pattern[str]:
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise SessionsError(
            f"the signal {signal!r} is no regular expression ({error or type(error).__name__}); fix it in signals"
        ) from error


def _newest(unit: Unit) -> str:
    """Return the cursor of the newest entry of the whole journal; raise SessionsError when there is none, or not for us."""
    output, errors = unit.properties["StandardOutput"], unit.properties["StandardError"]
    if output in _ELSEWHERE and errors in {*_ELSEWHERE, "inherit"}:
        raise SessionsError(
            f"what {unit.name} prints does not go to the journal (StandardOutput={output}); "
            "let it go there, or leave since, signals, require and forbid out"
        )
    done = run([*_journalctl(unit), "--lines=1", "--output-fields=_BOOT_ID"])
    if done.rc != 0 or "Hint:" in done.stderr:  # the hint says that it shows our own entries only
        raise _unreadable(unit, done)
    try:
        return without_hash(str(json.loads(done.stdout)["__CURSOR"]))
    except (ValueError, KeyError):
        pass
    raise SessionsError(
        "this host keeps no journal; set Storage= in journald.conf(5), or leave since, signals, require and forbid out"
    )


def _journalctl(unit: Unit) -> list[str]:
    namespace = unit.properties["LogNamespace"]
    return ["journalctl", "--no-pager", "--output=json", *([f"--namespace={namespace}"] if namespace else [])]


def _place(begin: str | None, query: Query) -> list[str]:
    if begin:
        return [f"--cursor={begin}"]
    return [f"--since={query.since}"] if query.since else []


def _matches(unit: Unit, invocation: str) -> list[str]:
    of_unit = f"_SYSTEMD_UNIT={unit.properties['Id'] or unit.name}"
    return [of_unit, f"_SYSTEMD_INVOCATION_ID={invocation}"] if invocation else [of_unit]


def _unreadable(unit: Unit, done: Completed) -> SessionsError:
    words = done.stderr.strip().splitlines()
    return SessionsError(
        f"cannot read the journal of {unit.name}: {words[0] if words else f'journalctl ended with {done.rc}'}; "
        "see whether since is a time that journalctl knows and this runs as root (become)"
    )
