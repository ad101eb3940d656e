# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Count the lines in the journal of a unit that show the condition of its backend. Reads only.

Some libraries print private keys, and most lines contain phone numbers. Therefore no line leaves this file, only counts, numbers that a
pattern captures by name, and masked account names. No error contains any part of a line either.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t

from .._core.errors import SessionsError
from .._core.limits import ENTRY_BYTES, JOURNAL_BYTES, LINE_CHARACTERS
from .._core.masking import masked
from .._proc.command import CUT_OFF, Completed, run, run_for_lines
from .unit import Unit

Signals = t.Mapping[str, tuple[t.Pattern[str], ...]]

# A group named ``account`` is the account of a line. Any other named group is a number, and its values are added up.
ACCOUNT = "account"
KEY_MATERIAL = "key_material"

# Bounded, because a line of 48 KiB of brackets would take minutes otherwise.
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
    # Except in a status output where a field of that name is false.
    "needs_qr": (rf"""{_BRACKETED}\bneeds_qr\b(?!\\?["']?\s*[:=]\s*(?:false|null|0)\b)""",),
    KEY_MATERIAL: (
        r"\bsession: SessionEntry\b",  # printed by libsignal when it closes, opens or removes a session
        r"""\bprivKey\b\\?["']?\s*[:=]""",
        rf"(?i:\bprivate(?:_?key)?|\b(?:root|chain|mac|enc|adv_?secret)_?key){_SECRET}",
        r"InByaXZhdGUi|Jwcml2YXRlI|icHJpdmF0ZS",  # "private" with its quotes in base64, at all three alignments
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    ),
}

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CURSOR = re.compile(r"s=[0-9a-f]+;i=[0-9a-f]+;b=[0-9a-f]+;m=[0-9a-f]+;t=[0-9a-f]+(?:;x=[0-9a-f]+)?")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_DIGITS_AT_MOST = 6  # of a number in a line: enough for a number of accounts, too few for a phone number
_ACCOUNTS_AT_MOST = 1000  # names per signal
# Values of StandardOutput= other than the journal.
_ELSEWHERE = frozenset(("null", "file", "append", "truncate", "tty", "socket", "fd"))


@dataclasses.dataclass(frozen=True)
class Query:
    """What to count. ``since``: a cursor, or a time in journalctl's syntax; None: since the start of the unit's invocation."""

    since: str | None
    signals: Signals

    @property
    def names(self) -> list[str]:
        """The names of all counts."""
        return count_names(self.signals)


@dataclasses.dataclass(frozen=True)
class Reading:
    """The counts up to ``cursor``, which is None if nothing was read.

    ``complete``: whether the journal was read to its end within the time. ``invocation``: of the counted lines, empty for any.
    ``accounts``: masked names per signal.
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
    """Return the query; ``signals`` extend or replace the defaults. Raises SessionsError for invalid options."""
    if since and since.startswith("s=") and not _CURSOR.fullmatch(since):
        raise SessionsError(
            "since looks like a cursor but is not valid; set it to one that an earlier call returned, or to a time"
        )
    if since and not since.isprintable():
        raise SessionsError("since contains a control character; set it to a cursor or a time, such as '-10min'")
    chosen: dict[str, tuple[t.Pattern[str], ...]] = {}
    for name, given in {**DEFAULTS, **signals}.items():
        if not _NAME.fullmatch(str(name)):
            raise SessionsError(
                f"{name!r} is not a valid name of a signal: only letters, digits and underscores are allowed; rename it in signals"
            )
        patterns = [given] if isinstance(given, str) else given or []
        if not isinstance(patterns, (list, tuple)) or not all(isinstance(pattern, str) for pattern in patterns):
            raise SessionsError(
                f"the signal {name!r} must be a regular expression or a list of them, as text; correct it in signals"
            )
        chosen[str(name)] = tuple(_compiled(str(name), pattern) for pattern in patterns)
    names = count_names(chosen)
    for name in names:
        if names.count(name) > 1:
            raise SessionsError(f"two counts would have the name {name!r}; rename that signal or that group in signals")
    return Query(since, chosen)


def count_names(signals: Signals) -> list[str]:
    """Return the names of all counts: each signal, and SIGNAL_GROUP for its numbers."""
    return [name for signal, patterns in signals.items() for name in (signal, *_numbers_of(signal, patterns))]


def read_on(unit: Unit, query: Query, before: Reading | None, seconds: float) -> Reading:
    """Count what ``unit`` has logged since ``before``, or according to ``query`` if it is None, for ``seconds`` at most.

    Lines are selected by trusted fields only (systemd.journal-fields(7)): what other processes log in the unit's name is not counted, nor
    what systemd logs about it. Raises SessionsError if there is no readable journal.
    """
    invocation = "" if query.since else unit.properties["InvocationID"]
    if before is None or before.invocation != invocation:
        before = Reading(dict.fromkeys(query.names, 0), invocation=invocation)
    newest = before.cursor or _newest(unit)
    begin = before.cursor or (without_hash(query.since) if query.since and _CURSOR.fullmatch(query.since) else None)
    if not query.since and not invocation:
        return dataclasses.replace(before, cursor=newest)  # the unit never ran
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


def reaches_back(unit: Unit, moment: str) -> bool:
    """Return whether the journal has an entry older than ``moment``, a time in journalctl's syntax: then nothing since was removed."""
    # Without --reverse, --lines counts from the end of the journal, and --until then leaves nothing.
    done = run([*_journalctl(unit), "--reverse", "--lines=1", "--output-fields=_BOOT_ID", f"--until={moment}"])
    return done.rc == 0 and done.stdout.startswith("{")


def without_hash(cursor: str) -> str:
    """Return a cursor without its last part, which is a hash of the line's text and not needed."""
    return cursor.partition(";x=")[0]


class _Tally:
    """Counts entries as they arrive."""

    def __init__(self, signals: Signals, before: Reading, skipped: str | None) -> None:
        self._signals = signals
        self._before = before
        self._skipped = skipped
        self._cursor: str | None = None
        self._counts = dict(before.counts)
        self._accounts = {signal: set(names) for signal, names in before.accounts.items()}

    def take(self, line: bytes) -> None:
        """Count one entry. Invalid entries (pieces of an overlong line) are skipped."""
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            return
        cursor = without_hash(str(entry.get("__CURSOR", ""))) if isinstance(entry, dict) else None
        # --after-cursor would be simpler, but before systemd 242 it omitted one line too many.
        if cursor and cursor != self._skipped:
            self._cursor = cursor
            self._count(_COLOURS.sub("", text_of(entry.get("MESSAGE"))[:LINE_CHARACTERS]))

    def reading(self, otherwise: str | None, *, complete: bool) -> Reading:
        """Return the counts; ``otherwise`` is the cursor if there were no entries."""
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

    A value is a string; or a list of bytes, if it has colours or is not UTF-8; or null.
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
            f"the signal {signal!r} is not a valid regular expression ({error or type(error).__name__}); correct it in signals"
        ) from error


def _newest(unit: Unit) -> str:
    """Return the cursor of the newest entry of the whole journal; raise SessionsError if there is none or it is not readable."""
    output, errors = unit.properties["StandardOutput"], unit.properties["StandardError"]
    if output in _ELSEWHERE and errors in {*_ELSEWHERE, "inherit"}:
        raise SessionsError(
            f"the output of {unit.name} does not go to the journal (StandardOutput={output}); "
            "change that setting, or remove since, signals, require and forbid"
        )
    done = run([*_journalctl(unit), "--lines=1", "--output-fields=_BOOT_ID"])
    if done.rc != 0 or "Hint:" in done.stderr:  # the hint: only entries of this user are shown
        raise _unreadable(unit, done)
    try:
        return without_hash(str(json.loads(done.stdout)["__CURSOR"]))
    except (ValueError, KeyError):
        pass
    raise SessionsError(
        "this host keeps no journal; set Storage= in journald.conf(5), or remove since, signals, require and forbid"
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
        f"cannot read the journal of {unit.name}: {words[0] if words else f'journalctl failed with exit code {done.rc}'}; "
        "make sure that since is a time that journalctl accepts, and run as root (become)"
    )
