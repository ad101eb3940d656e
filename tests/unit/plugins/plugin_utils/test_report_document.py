# SPDX-License-Identifier: GPL-3.0-or-later
"""The document of a report: conditions and their reasons, records that are not valid, growth."""

from __future__ import annotations

import copy
import json
import random
import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.whatsapp_ops.sessions.plugins.plugin_utils._report_document import (
    TREND_AT_MOST,
    Answer,
    answer_of,
    document_of,
)
from ansible_collections.whatsapp_ops.sessions.plugins.plugin_utils._report_page import compact, embedded, page_of
from sample_report import record_of

SETTINGS = {"max_age": 26 * 3600.0, "days": 30.0}
NOW = "2026-01-02T00:00:00Z"
OTHER = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    *(st.just([]), st.just([1]), st.just({}), st.just({"a": 1})),
)
FINDING = dict.fromkeys(("where", "evidence", "remedy"), "x")


def healthy(**changes: t.Any) -> dict[str, t.Any]:
    """A record with nothing to say about it."""
    made = record_of(random.Random(1), 2)
    for account in made["accounts"]:
        account.update(state="paired", bytes=1000, backup_age_seconds=60)
    made.update(states={"paired": 2, "corrupt": 0}, linked=2, bytes=2000, findings=[], history=[])
    made["backend"].update(state="running", use="used")
    made["backups"].update(without_snapshot=0, oldest_age_seconds=60)
    return {**made, **changes}


def document(record: dict[str, t.Any], previous: dict[str, t.Any] | None = None, **settings: float) -> dict[str, t.Any]:
    return document_of({"wa1": Answer("ok", record)}, NOW, "Title", {**SETTINGS, **settings}, previous)


def changed(part: str, **values: t.Any) -> dict[str, t.Any]:
    record = healthy()
    record[part].update(values)
    return record


@pytest.mark.parametrize(
    ("record", "condition", "reason"),
    [
        (healthy(), "ok", None),
        (healthy(backend=None, backups=None), "ok", None),
        (healthy(exists=False), "critical", "/var/lib/whatsapp-backend/sessions does not exist"),
        (changed("states", corrupt=1), "critical", "1 account damaged"),
        (healthy(duplicates=1), "critical", "1 linked device in more than one account: WhatsApp logs both out"),
        (changed("backend", state="failed"), "critical", "whatsapp-backend.service has failed"),
        (changed("backend", problem="it uses /tmp"), "critical", "it uses /tmp"),
        (changed("backend", state="stopped"), "warning", "whatsapp-backend.service is stopped"),
        (changed("backups", without_snapshot=2), "warning", "2 accounts without a backup"),
        (changed("backups", oldest_age_seconds=27 * 3600), "warning", "the oldest backup is 27 hours old"),
        (changed("backups", last_failed=1), "warning", "the last backup failed for 1 account"),
        (healthy(problems=["no such unit"]), "warning", "no such unit"),
        (healthy(findings=[{**FINDING, "id": "a", "title": "Bad", "severity": "critical"}]), "critical", "Bad"),
        (healthy(findings=[{**FINDING, "id": "a", "title": "Odd", "severity": "high"}]), "warning", "Odd"),
        (healthy(findings=[{**FINDING, "id": "a", "title": "So", "severity": "low"}]), "ok", None),
        (healthy(findings=[{**FINDING, "id": "backup_old", "title": "Old", "severity": "high"}]), "ok", None),
    ],
)
def test_the_condition_of_a_host_and_its_reason(record: dict[str, t.Any], condition: str, reason: str | None) -> None:
    host = document(record)["hosts"][0]
    assert (host["condition"], host["reasons"]) == (condition, [reason] if reason else [])


def test_what_is_accepted_or_switched_off_is_no_reason() -> None:
    unsaved = changed("backups", without_snapshot=2, oldest_age_seconds=99 * 3600)
    assert document(unsaved)["hosts"][0]["condition"] == "warning"
    assert document(unsaved, max_age=0)["hosts"][0]["condition"] == "ok"
    assert document({**unsaved, "accepted": ["backup_missing", "backup_old"]})["hosts"][0]["condition"] == "ok"


def test_answers_that_are_not_a_record_are_a_reason() -> None:
    assert answer_of(None) == Answer("unasked")
    assert answer_of({"unreachable": True, "msg": "timed out"}) == Answer("unreachable", None, "timed out")
    assert answer_of({"msg": "refused"}) == Answer("failed", None, "refused")
    assert answer_of({"record": healthy()}).kind == "ok"
    assert "use one release" in answer_of({"record": healthy(version=2)}).message


@given(st.data())
@settings(max_examples=400)
def test_whatever_a_host_answers_ends_as_a_page(data: st.DataObject) -> None:
    """Exchange one value of a valid record, at any depth: either the answer is refused, or the page can be made of it."""
    record = healthy(history=[{"event": "started", "time": NOW, "accounts": 0}], progress=None)
    place: t.Any = record
    while True:
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(place[key], (dict, list)) and place[key] and data.draw(st.booleans()):
            place = place[key]
            continue
        place[key] = data.draw(OTHER)
        break
    answer = answer_of({"record": record})
    made = document_of({"wa1": answer}, NOW, "Title", SETTINGS, None)
    json.loads(json.dumps(made))
    embedded(compact(made))


def test_growth_is_that_of_the_same_accounts_and_the_trend_is_bounded() -> None:
    before = document(healthy())
    before["trend"] *= 1000
    grown = healthy()
    grown["accounts"][0]["bytes"] += 5
    grown["bytes"] += 5
    after = document(grown, copy.deepcopy(before))
    assert (after["hosts"][0]["growth"], after["totals"]["growth"]) == (5, 5)
    assert [account["growth"] for account in after["hosts"][0]["record"]["accounts"]] == [5, 0]
    assert len(after["trend"]) == TREND_AT_MOST
    assert after["trend"][-1] == [NOW, 2, 2, 2005]
    assert document(healthy())["totals"]["growth"] is None


def test_no_text_can_end_the_data_of_the_page() -> None:
    attack = "</script><!--<script>"
    attacked = document(healthy(layout=attack, problems=[attack]))
    page = page_of(attacked)
    assert not set("<>") & set(embedded(compact(attacked)))
    assert attack not in page
    assert page.count("</script>") == 2
