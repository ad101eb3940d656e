# SPDX-License-Identifier: GPL-3.0-or-later
"""What is counted in a journal, from where on, and that nothing of a line gets out.

A real journal on real hosts is read in tests/module/test_session_health_on_hosts.py.
"""

from __future__ import annotations

import base64
import json
import time
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.masking import masked
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.command import CUT_OFF, Completed
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd import journal as systemd_journal
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.journal import (
    KEY_MATERIAL,
    Reading,
    count_names,
    read_on,
    read_query,
    text_of,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit import Unit

CANARY = "5511999990000"
KEY = base64.b64encode(bytes(range(32))).decode()


def cursor(number: int) -> str:
    return f"s=a4;i={number:04x};b=51;m=3b;t=66"


def unit(**properties: str) -> Unit:
    shown = {"Id": "wa.service", "InvocationID": "e1", "LogNamespace": "", "StandardOutput": "journal"}
    return Unit("wa.service", {**shown, "StandardError": "inherit", **properties})


class Journal:
    """Stands for journalctl. ``entries`` are (who, message); who is ``invocation`` of the unit, or somebody else."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *entries: tuple[str, t.Any]) -> None:
        self.entries = list(entries)
        self.calls: list[list[str]] = []
        self.lines_until_cut_off: int | None = None
        monkeypatch.setattr(systemd_journal, "run", self.newest)
        monkeypatch.setattr(systemd_journal, "run_for_lines", self.lines)

    def newest(self, argv: t.Sequence[str]) -> Completed:
        last = json.dumps({"__CURSOR": f"{cursor(len(self.entries))};x=6340"}) if self.entries else ""
        return Completed(tuple(argv), 0, f"{last}\n", "")

    def lines(
        self, argv: t.Sequence[str], take: t.Callable[[bytes], None], *, timeout: float, longest: int, at_most: int
    ) -> Completed:
        self.calls.append(list(argv))
        assert timeout > 0
        options = dict(word.split("=", 1) for word in argv if "=" in word)
        begin = options.get("--cursor", cursor(1))
        wanted = options.get("_SYSTEMD_INVOCATION_ID")
        printed = [
            json.dumps({"MESSAGE": message, "__CURSOR": f"{cursor(number)};x=9f"}).encode()
            for number, (who, message) in enumerate(self.entries, 1)
            if cursor(number) >= begin and who != "other" and wanted in (None, who)
        ]
        for line in printed[: self.lines_until_cut_off]:
            take(line)
        return Completed(tuple(argv), CUT_OFF if self.lines_until_cut_off is not None else 0, "", "")


def counts_of(*messages: t.Any, signals: t.Mapping[str, t.Any] | None = None) -> dict[str, int]:
    """Count messages as entries; only what was seen at all is returned."""
    with pytest.MonkeyPatch.context() as patch:
        Journal(patch, *(("e1", message) for message in messages))
        reading = read_on(unit(), read_query(None, signals or {}), None, 1.0)
    return {name: count for name, count in reading.counts.items() if count}


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("[15550100001] Session restored from disk", {"restored_from_disk": 1}),
        ('{"level":30,"msg":"Session restored from Firestore"}', {"restored_from_firestore": 1}),
        ("✓ Session restored: user_1_instance_main", {"restored": 1}),
        ("\x1b[32m✔\ufe0f\x1b[39m Session restored: user_1", {"restored": 1}),
        ("✗ Failed to restore session user_1: Auth file not found", {"restore_failed": 1}),
        ("Failed to restore the window", {}),
        (
            "Session restoration complete: 2 restored, 1 failed",
            {"restoration_complete": 1, "restoration_complete_restored": 2, "restoration_complete_failed": 1},
        ),
        ("Session restoration complete", {"restoration_complete": 1}),
        (f"Session restoration complete: {CANARY} restored, 0 failed", {"restoration_complete": 1}),
        ("[15550100001] needs_qr: no credentials, waiting for somebody to scan a QR code", {"needs_qr": 1}),
        ("status changed to needs_qr", {"needs_qr": 1}),
        ('{"needs_qr":false}', {}),
        ('{\\"needs_qr\\": 0}', {}),
        ("needs_qr_code_printed", {}),
        ("Closing session: SessionEntry {", {KEY_MATERIAL: 1}),
        ("Removing old closed session: SessionEntry {", {KEY_MATERIAL: 1}),
        ("      privKey: <Buffer 58 db 6c>", {KEY_MATERIAL: 1}),
        ("    rootKey: <Buffer f3 e3 1e>", {KEY_MATERIAL: 1}),
        ("  private: Uint8Array(32) [", {KEY_MATERIAL: 1}),
        (f'{{"noiseKey":{{"private":{{"type":"Buffer","data":"{KEY}"}}}}}}', {KEY_MATERIAL: 1}),
        (f'{{\\"private\\":\\"{KEY}\\"}}', {KEY_MATERIAL: 1}),
        (f"advSecretKey: '{KEY}'", {KEY_MATERIAL: 1}),
        ("-----BEGIN EC PRIVATE KEY-----", {KEY_MATERIAL: 1}),
        ("      pubKey: <Buffer 05 df a0>", {}),
        ("the chat is private: yes", {}),
        ("chainKey: [Object]", {}),
        *((base64.b64encode(b"." * before + b'{"private":').decode(), {KEY_MATERIAL: 1}) for before in range(3)),
    ],
)
def test_the_lines_of_the_field(line: str, seen: dict[str, int]) -> None:
    assert counts_of(line) == seen
    assert counts_of(list(line.encode())) == seen


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("plain", "plain"),
        ([112, 255, 27], "p\ufffd\x1b"),
        (["one", [116, 119, 111], None], "one\ntwo"),
        ([], ""),
        (None, ""),
        (7, ""),
        ({"MESSAGE": CANARY}, ""),
        ([256, -1], ""),
        ([True], ""),
    ],
)
def test_a_message_is_text_or_bytes_or_several_of_them(message: t.Any, text: str) -> None:
    assert text_of(message) == text


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["MESSAGE", "__CURSOR", "x"]), inner),
)


@given(st.lists(st.binary() | any_json.map(lambda value: json.dumps(value).encode())))
def test_whatever_journalctl_prints_is_met(lines: list[bytes]) -> None:
    query = read_query(None, {})
    tally = systemd_journal._Tally(query.signals, Reading(dict.fromkeys(count_names(query.signals), 0)), None)
    for line in lines:
        tally.take(line)
    assert all(count <= len(lines) for count in tally.reading(None, complete=True).counts.values())


@given(st.binary(), st.binary(), st.booleans(), st.booleans())
def test_a_signal_is_found_between_any_bytes_and_counted_once(
    before: bytes, after: bytes, twice: bool, several: bool
) -> None:
    word = b"Session restored from disk" * (2 if twice else 1)
    message: t.Any = list(before + word + after)
    assert counts_of([message, "x"] if several else message)["restored_from_disk"] == 1


def test_signals_are_added_replaced_and_left_out() -> None:
    lines = ("back: 12 of 15", "needs_qr", "up", "SCAN ME", "Closing session: SessionEntry {")
    signals = {
        "back": r"back: (?P<now>\d+) of (?P<all>\d+)",
        "needs_qr": [r"SCAN ME", r"(?i)scan the code"],
        KEY_MATERIAL: [],
        "up": ["up"],
    }
    assert counts_of(*lines, signals=signals) == {"back": 1, "back_now": 12, "back_all": 15, "needs_qr": 1, "up": 1}


@pytest.mark.parametrize(
    ("since", "signals", "message"),
    [
        (None, {"a-b": "x"}, "'a-b' is not a valid name of a signal"),
        (None, {"a": 7}, "the signal 'a' must be a regular expression or a list"),
        (None, {"a": [["x"]]}, "the signal 'a' must be a regular expression or a list"),
        (None, {"a": "("}, "the signal 'a' is not a valid regular expression"),
        (None, {"a": "x{99999999999}"}, "the signal 'a' is not a valid regular expression"),
        (None, {"a": "(?P<b>1)", "a_b": "x"}, "two counts would have the name 'a_b'"),
        ("s=nonsense", {}, "since looks like a cursor but is not valid"),
        (f"{cursor(1)};x=6\n", {}, "since looks like a cursor but is not valid"),
        ("now\n", {}, "since contains a control character"),
    ],
)
def test_what_cannot_be_looked_for_is_refused(since: str | None, signals: dict[str, t.Any], message: str) -> None:
    with pytest.raises(SessionsError) as refused:
        read_query(since, signals)
    assert message in str(refused.value)


def test_only_the_current_invocation_counts_unless_a_beginning_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(monkeypatch, ("e0", "needs_qr"), ("other", "needs_qr"), ("e1", "needs_qr"), ("e1", "needs_qr"))
    assert read_on(unit(), read_query(None, {}), None, 1.0).counts["needs_qr"] == 2
    assert journal.calls[-1][-2:] == ["_SYSTEMD_UNIT=wa.service", "_SYSTEMD_INVOCATION_ID=e1"]
    assert read_on(unit(), read_query("-1h", {}), None, 1.0).counts["needs_qr"] == 3
    assert [word for word in journal.calls[-1] if "since" in word or "_SYSTEMD" in word] == [
        "--since=-1h",
        "_SYSTEMD_UNIT=wa.service",
    ]


def test_a_cursor_leads_on_and_its_own_entry_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(monkeypatch, ("e1", "needs_qr"), ("e1", "needs_qr"))
    query = read_query(None, {})
    first = read_on(unit(), query, None, 1.0)
    assert first.cursor == cursor(2)  # without the hash of what the line says
    again = read_on(unit(), query, first, 1.0)
    journal.entries += [("other", "needs_qr"), ("e1", "needs_qr")]
    third = read_on(unit(), query, again, 1.0)
    assert [reading.counts["needs_qr"] for reading in (first, again, third)] == [2, 2, 3]
    later_call = read_on(unit(), read_query(again.cursor, {}), None, 1.0)
    assert (later_call.counts["needs_qr"], later_call.cursor) == (1, cursor(4))


def test_where_nothing_is_to_be_counted_yet_the_cursor_is_the_end_of_the_journal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    journal = Journal(monkeypatch, ("other", "x"), ("other", "x"))
    query = read_query("now", {})
    first = read_on(unit(), query, None, 1.0)
    assert first.cursor == cursor(2)
    journal.entries.append(("e1", "needs_qr"))
    assert read_on(unit(), query, first, 1.0).counts["needs_qr"] == 1


def test_a_new_invocation_begins_at_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(monkeypatch, ("e1", "needs_qr"))
    query = read_query(None, {})
    first = read_on(unit(), query, None, 1.0)
    journal.entries.append(("e2", "[7] Session restored from disk"))
    second = read_on(unit(InvocationID="e2"), query, first, 1.0)
    assert (second.counts["needs_qr"], second.counts["restored_from_disk"]) == (0, 1)


def test_a_unit_that_never_ran_has_nothing_to_count(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(monkeypatch, ("other", "needs_qr"))
    reading = read_on(unit(InvocationID=""), read_query(None, {}), None, 1.0)
    assert (set(reading.counts.values()), reading.cursor, journal.calls) == ({0}, cursor(1), [])


def test_what_could_not_be_read_in_time_is_read_by_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(monkeypatch, *(("e1", "needs_qr"),) * 5)
    query, reading = read_query("-1h", {}), None
    seen = []
    for journal.lines_until_cut_off in (0, 2, 0, 3, None):
        reading = read_on(unit(), query, reading, 1.0)
        seen.append((reading.complete, reading.counts["needs_qr"], reading.cursor))
    assert seen == [
        (False, 0, None),
        (False, 2, cursor(2)),
        (False, 2, cursor(2)),
        (False, 4, cursor(4)),  # the first of three is the one that was counted before
        (True, 5, cursor(5)),
    ]


def test_accounts_are_told_masked_and_nothing_else_of_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        f"[{CANARY}] needs_qr: no credentials",
        f"[{CANARY}] needs_qr again",
        f"✗ Failed to restore session {CANARY}: {KEY}",
        "needs_qr of an account without a name",
        f"Closing session: SessionEntry {{ privKey: <Buffer {CANARY}",
    )
    Journal(monkeypatch, *(("e1", line) for line in lines))
    reading = read_on(unit(), read_query(None, {}), None, 1.0)
    assert reading.accounts == {"needs_qr": {masked(CANARY)}, "restore_failed": {masked(CANARY)}}
    assert (reading.counts["needs_qr"], reading.counts[KEY_MATERIAL]) == (3, 1)
    assert CANARY not in repr(reading)
    assert KEY not in repr(reading)


def test_endless_names_of_accounts_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    Journal(monkeypatch, *(("e1", f"[{number}] needs_qr") for number in range(1100)))
    reading = read_on(unit(), read_query(None, {}), None, 1.0)
    assert (reading.counts["needs_qr"], len(reading.accounts["needs_qr"])) == (1100, 1000)


@pytest.mark.parametrize("piece", ["[", "[a]", "✓ ", "privKey", "private: ", "needs_qr", "-----BEGIN ", "Session "])
def test_a_line_that_is_made_to_take_long_does_not(piece: str) -> None:
    line = piece * (48 * 1024 // len(piece))
    began = time.process_time()
    counts_of(line)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("properties", "completed", "message"),
    [
        ({}, (0, "", ""), "this host keeps no journal; set Storage= in journald.conf"),
        ({}, (0, f'{{"MESSAGE": "{CANARY}"}}', ""), "this host keeps no journal"),
        (
            {},
            (1, "", "No journal files were opened due to insufficient permissions.\n"),
            "cannot read the journal of wa.service: No journal files were opened due to insufficient permissions.; make sure",
        ),
        ({}, (0, "{}", "Hint: You are currently not seeing messages from other users and the system.\n"), "Hint: You"),
        ({"StandardOutput": "append"}, (0, "{}", ""), "does not go to the journal (StandardOutput=append)"),
        ({"StandardOutput": "null", "StandardError": "null"}, (0, "{}", ""), "does not go to the journal"),
    ],
)
def test_without_a_journal_there_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, properties: dict[str, str], completed: tuple[int, str, str], message: str
) -> None:
    monkeypatch.setattr(systemd_journal, "run", lambda argv: Completed(tuple(argv), *completed))
    with pytest.raises(SessionsError) as failed:
        read_on(unit(**properties), read_query(None, {}), None, 1.0)
    assert message in str(failed.value)
    assert CANARY not in str(failed.value)
    assert failed.value.__context__ is None


def test_errors_alone_may_go_to_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    Journal(monkeypatch, ("e1", "needs_qr"))
    mixed = unit(StandardOutput="file", StandardError="journal")
    assert read_on(mixed, read_query(None, {}), None, 1.0).counts["needs_qr"] == 1


def test_a_time_that_journalctl_does_not_know_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    Journal(monkeypatch, ("e1", "x"))
    refuses = Completed(("journalctl",), 1, "", "Failed to parse timestamp: yore\n")
    monkeypatch.setattr(systemd_journal, "run_for_lines", lambda *_args, **_options: refuses)
    with pytest.raises(SessionsError, match="Failed to parse timestamp: yore; make sure that since is a time"):
        read_on(unit(), read_query("yore", {}), None, 1.0)


def test_a_namespace_of_its_own_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(monkeypatch, ("e1", "x"))
    read_on(unit(LogNamespace="wa"), read_query(None, {}), None, 1.0)
    assert "--namespace=wa" in journal.calls[0]


@pytest.mark.parametrize(
    ("rc", "stdout", "reaches"), [(0, '{"__CURSOR": "s=1"}\n', True), (0, "-- No entries --\n", False), (1, "", False)]
)
def test_whether_the_journal_reaches_back(monkeypatch: pytest.MonkeyPatch, rc: int, stdout: str, reaches: bool) -> None:
    asked: list[t.Sequence[str]] = []

    def run(argv: t.Sequence[str]) -> Completed:
        asked.append(argv)
        return Completed(tuple(argv), rc, stdout, "")

    monkeypatch.setattr(systemd_journal, "run", run)
    assert systemd_journal.reaches_back(Unit("wa.service", {"LogNamespace": ""}), "@7") is reaches
    assert {"--reverse", "--until=@7"} < set(asked[0])
