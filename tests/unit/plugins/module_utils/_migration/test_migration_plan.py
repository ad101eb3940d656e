# SPDX-License-Identifier: GPL-3.0-or-later
"""What session_migrate decides to do from what it saw: parameters, steps, refusals, differences and reports. No host is looked at."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
import typing as t

import pytest

from accounts import CANARY, put_account
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.receipts import FileMark, FolderMark, Mark
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.users import Identity
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration import job as migration_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.conflicts import CopyState, Decision
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.job import Params, State, Step
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.left_behind import Clash, LeftBehind
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.pair import Account
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.retirable import Retirement
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.sources import Source
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.steps import StepKind, planned
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.survey import Companion, Survey
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.switch import SwitchState
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.switch_refusals import (
    linked_places,
    require_expected,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.unreferenced import Astray
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.file_steps import Reload
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit import PROPERTIES, Unit
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._usage.in_use import USED, Verdict

PATH = "/var/lib/wa/sessions"
MARK = Mark(FolderMark(1, 0), {})
LINKED = CopyState("paired", MARK)
PUBLISH = Decision("migrated", "only the legacy path has it", publish=True)
DISPLACE = Decision("migrated", "newer", publish=True, displace=True)
UNCHANGED = Decision("unchanged", "migrated before")
ADOPT = Decision("kept", "better", adopt=True)
SKIPPED, CORRUPT = Decision("skipped", "removed"), Decision("corrupt", "damaged")
DIVERGED = Decision("diverged", "both copies were used since the last migration")
TWO = (Source("/opt/wa", "/opt/wa"), Source("/srv/wa", "/srv/wa"))
NO_SWITCH = SwitchState((), None, None, ())
WRITES = SwitchState((), "old", "new", ())
STALE = SwitchState(((Reload(),),), None, None, ())
LACKING = SwitchState((), None, None, ("SESSIONS_PATH",))


def params(**options: t.Any) -> Params:
    return migration_job.read_params({"src": ["/opt/wa"], "path": PATH, **options})


def state(
    *decisions: Decision,
    names: t.Sequence[str] = (),
    companions: int = 0,
    present: t.Sequence[str] = (),
    **fields: t.Any,
) -> State:
    named = names or [f"wa{number}" for number in range(len(decisions))]
    accounts = tuple(
        Account(name, "/opt/wa", LINKED, LINKED if decision.displace else None, decision)
        for name, decision in zip(named, decisions, strict=True)
    )
    extras = tuple(Companion(f"c{number}", "/opt/wa", frozenset((0,))) for number in range(companions))
    survey = Survey(layout_named("baileys"), accounts, extras, dict.fromkeys(present, "paired"), 7)
    seen = State(
        unit=None,
        effective=params(),
        identity=Identity(1, 1, "wa", "wa"),
        sources=(Source("/opt/wa", "/opt/wa"),),
        use=None,
        survey=survey,
        staged=frozenset(),
        receipts={},
        receipt_inode=7,
        switch=NO_SWITCH,
        interrupted=False,
        untidy=False,
        area="/var/lib/wa/.sessions.whatsapp-ops",
        control="/var/lib/whatsapp-ops/wa",
        elsewhere=(),
        notes={},
    )
    return seen._replace(**fields)


def plan(seen: State, wanted: Params) -> tuple[Step, ...]:
    return planned(seen._replace(effective=wanted))


PLANS = [
    (state(), {}, []),
    (state(UNCHANGED, SKIPPED, CORRUPT), {}, []),
    (state(PUBLISH, UNCHANGED), {}, [("stage", 1), ("publish", 1)]),
    (state(PUBLISH, DISPLACE), {}, [("stage", 2), ("publish", 2)]),
    (state(PUBLISH, companions=2), {}, [("stage", 1), ("publish", 1), ("companions", 2)]),
    (state(UNCHANGED, companions=2), {}, []),
    (state(ADOPT, UNCHANGED), {}, [("remember", 1)]),
    (state(UNCHANGED, sources=TWO, idle=TWO[:1]), {}, []),
    (state(PUBLISH, sources=TWO, idle=TWO[1:]), {}, [("stage", 1), ("publish", 1)]),
    (state(PUBLISH, ADOPT), {}, [("stage", 1), ("publish", 1), ("remember", 1)]),
    (state(UNCHANGED, switch=WRITES), {}, [("switch", 1)]),
    (state(PUBLISH, switch=WRITES), {}, [("stage", 1), ("publish", 1), ("switch", 1)]),
    (state(UNCHANGED, switch=LACKING), {}, [("restart", 1)]),
    (state(UNCHANGED, switch=STALE), {}, [("reload", 1)]),
    (state(UNCHANGED, retirable=(Retirement("/opt/wa"),)), {"state": "retired"}, [("retire", 1)]),
    (
        state(PUBLISH, retirable=(Retirement("/opt/a"), Retirement("/opt/b", "sessions"))),
        {"state": "retired"},
        [("stage", 1), ("publish", 1), ("retire", 2)],
    ),
    (state(UNCHANGED), {"state": "retired"}, []),
    (state(UNCHANGED, locked=("wa0",)), {}, [("unlock", 1)]),
    (state(PUBLISH, locked=("wa8", "wa9")), {}, [("unlock", 2), ("stage", 1), ("publish", 1)]),
    (state(PUBLISH, locked=("wa9",)), {"state": "staged"}, [("stage", 1)]),
    (state(PUBLISH, PUBLISH), {"state": "staged"}, [("stage", 2)]),
    (state(PUBLISH, PUBLISH, staged=frozenset(["wa1"])), {"state": "staged"}, [("stage", 1)]),
    (state(PUBLISH, staged=frozenset(["wa0"])), {"state": "staged"}, []),
    (state(PUBLISH, staged=frozenset(["wa0"])), {}, [("stage", 1), ("publish", 1)]),
    (state(UNCHANGED, ADOPT, switch=WRITES), {"state": "staged"}, []),
    (state(PUBLISH), {"state": "staged", "engine": "rename"}, []),
    (state(PUBLISH), {"engine": "rename"}, [("stage", 1), ("publish", 1)]),
    (state(UNCHANGED, interrupted=True), {}, [("recover", 1)]),
    (state(PUBLISH, interrupted=True), {"state": "staged"}, [("recover", 1), ("stage", 1)]),
    (state(DIVERGED, interrupted=True), {}, [("recover", 1)]),
    (state(UNCHANGED, untidy=True), {}, [("tidy", 1)]),
    (state(PUBLISH, names=["."]), {}, [("stage", 1), ("publish", 1)]),
    (state(DISPLACE, names=["."], present=["."]), {}, [("stage", 1), ("publish", 1)]),
    (state(UNCHANGED, PUBLISH, names=[".", "wa1"]), {}, [("stage", 1), ("publish", 1)]),
]


@pytest.mark.parametrize(("seen", "options", "steps"), PLANS)
def test_the_plan(seen: State, options: dict[str, t.Any], steps: list[tuple[str, int]]) -> None:
    assert plan(seen, params(**options)) == tuple(Step(StepKind(kind), count) for kind, count in steps)


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (state(UNCHANGED, DIVERGED, DIVERGED), "2 account(s), first 'w…1-"),
        (state(SKIPPED, SKIPPED, receipt_inode=6), "was emptied or recreated since 2 account(s) were migrated to it"),
        (
            state(astray=Astray("/opt/wa/phones", 3, "w…1")),
            "3 account(s), first 'w…1', in /opt/wa/phones would be left behind",
        ),
        (
            state(PUBLISH, sources=TWO, idle=TWO[:1]),
            "there are accounts in /srv/wa and in /opt/wa, but None has written only to the former since it was started",
        ),
        (state(PUBLISH, elsewhere=("/opt/wa",)), "works within one filesystem, but /opt/wa is on another filesystem"),
        (
            state(PUBLISH, names=["."], present=["wa1"]),
            "is one account itself, and /var/lib/wa/sessions contains other accounts",
        ),
        (state(PUBLISH, PUBLISH, names=[".", "wa1"]), "is one account itself, and 1 other account(s), first 'w…1-"),
        (
            state(PUBLISH, PUBLISH, names=[".", "wa1"]),
            "only that account with accounts=['.'], to a separate sessions path",
        ),
        (
            state(PUBLISH, names=["."], area=f"{PATH}/.whatsapp-ops"),
            "is a mount point, which cannot be replaced in one step",
        ),
    ],
)
@pytest.mark.parametrize("wanted", ["staged", "migrated", "retired"])
def test_what_only_the_operator_can_decide(seen: State, words: str, wanted: str) -> None:
    with pytest.raises(SessionsError) as refused:
        plan(seen, params(state=wanted))
    assert words in str(refused.value)
    assert "nothing was changed" in str(refused.value)


def test_accounts_that_diverged_are_listed_with_the_ages_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    old = CopyState("paired", Mark(FolderMark(1, int((now - 3 * 3600 - 125) * 1e9)), {}))
    new = CopyState("paired", Mark(FolderMark(1, 0), {"creds.json": FileMark(1, 1, int((now - 61) * 1e9), 1, "")}))
    seen = state(DIVERGED)
    account = seen.survey.accounts[0]._replace(name=CANARY, legacy=old, present=new)
    survey = dataclasses.replace(seen.survey, accounts=(account,))
    with pytest.raises(SessionsError, match="3 h 2 min ago, the other one 1 min 1 s ago") as refused:
        plan(seen._replace(survey=survey), params())
    assert refused.value.facts["accounts"][0]["action"] == "diverged"
    assert CANARY not in f"{refused.value} {refused.value.facts}"


@pytest.mark.parametrize(
    ("seen", "fine"),
    [
        (state(SKIPPED), True),  # the same directory: somebody removed the account
        (state(SKIPPED, receipt_inode=0), True),
        (state(SKIPPED, receipt_inode=6, present=["wa9"]), True),
        (state(SKIPPED, PUBLISH, receipt_inode=6), True),
        (state(UNCHANGED, receipt_inode=6), True),
        (state(SKIPPED, receipt_inode=6), False),
    ],
)
def test_an_alarm_only_where_all_is_gone(seen: State, fine: bool) -> None:
    if fine:
        plan(seen, params())
        return
    with pytest.raises(SessionsError, match="restore a backup"):
        plan(seen, params())


# --- what is told ------------------------------------------------------------------------------------------


def test_the_difference_holds_counts_and_no_account() -> None:
    seen = state(PUBLISH, DISPLACE, names=[CANARY, "wa1"], present=["wa1", "wa2"])
    steps = plan(seen, params())
    assert migration_job.diff(seen, steps, params()) == [
        {
            "before": {"path": PATH, "accounts": 2, "steps_left": ["stage", "publish"]},
            "after": {"path": PATH, "accounts": 3, "steps_left": []},
        }
    ]
    (staged,) = migration_job.diff(seen, plan(seen, params(state="staged")), params(state="staged"))
    assert staged["after"]["accounts"] == 2


def test_what_is_only_written_down_makes_no_difference() -> None:
    seen = state(ADOPT)
    (shown,) = migration_job.diff(seen, plan(seen, params()), params())
    assert shown["before"] == shown["after"]
    assert all(step.bookkeeping for step in plan(seen, params()))


def test_the_report_counts_and_masks() -> None:
    seen = state(
        PUBLISH, DISPLACE, UNCHANGED, ADOPT, SKIPPED, CORRUPT, names=[CANARY, "b", "c", "d", "e", "f"], companions=3
    )
    report = migration_job.report(params(), seen, plan(seen, params()), None)
    assert report.values["counts"] == {
        "migrated": 2, "unchanged": 1, "kept": 1, "displaced": 1, "corrupt": 1, "diverged": 0, "skipped": 1
    }  # fmt: skip
    assert (report.values["companions"], report.values["downtime_seconds"]) == (3, 0.0)
    assert report.values["receipt"] == "/var/lib/whatsapp-ops/wa/receipt.json"
    assert CANARY not in json.dumps(report.values)
    assert report.warnings == ("1 damaged accounts stay at the legacy path; session_info reports their problems",)


@pytest.mark.parametrize(
    ("seen", "options", "left"),
    [
        (state(UNCHANGED), {}, ""),
        (state(ADOPT), {}, ""),
        (state(PUBLISH), {}, "publish"),
        (state(PUBLISH), {"state": "staged"}, ""),
        (state(UNCHANGED, switch=LACKING), {}, "restart"),
    ],
)
def test_what_is_left_afterwards_is_an_error(seen: State, options: dict[str, t.Any], left: str) -> None:
    if not left:
        migration_job.verify(seen, params(**options))
        return
    with pytest.raises(SessionsError, match=f"steps remain after the migration to .* \\({left}\\)"):
        migration_job.verify(seen, params(**options))


# --- parameters ----------------------------------------------------------------------------------------------


def test_defaults() -> None:
    wanted = params()
    assert (wanted.state, wanted.on_conflict, wanted.engine, wanted.layout) == ("migrated", "newest", "native", None)
    assert (wanted.checksum, wanted.exclude_caches, wanted.unit_timeout) == (True, True, 120.0)
    assert (wanted.unit, wanted.owner, wanted.group, wanted.sources) == (None, None, None, ("/opt/wa",))
    assert params(unit="wa", src=[]).unit == "wa.service"
    assert params(path=f"{PATH}//", src=["/opt//wa/"]) == params()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"path": "sessions"}, "path is 'sessions': a relative path"),
        ({"src": ["auth"]}, "src is 'auth': a relative path"),
        ({"src": []}, "neither 'src' nor 'unit' is given"),
        ({"layout": "telegram"}, "'telegram' is unknown"),
        ({"unit": "../x"}, "not a valid unit name"),
    ],
)
def test_parameters_that_no_host_could_accept(options: dict[str, t.Any], words: str) -> None:
    with pytest.raises(SessionsError, match=words):
        params(**options)


# --- what would be left behind, and what would be interrupted for nothing ---------------------------------

LINK = LeftBehind("shop-of-anna", "/opt/wa", "it is a link to a missing directory", is_link=True)


def unit(active: str = "active", **properties: str) -> Unit:
    return Unit(
        "wa.service",
        {**dict.fromkeys(PROPERTIES, ""), "ActiveState": active, "WorkingDirectory": "/opt/wa", **properties},
    )


def leaving(*left: LeftBehind, decision: Decision = PUBLISH, **fields: t.Any) -> State:
    seen = state(decision, **{"switch": WRITES, **fields})
    return seen._replace(survey=dataclasses.replace(seen.survey, left=left))


def test_what_is_left_behind_is_named_masked_and_why() -> None:
    with pytest.raises(SessionsError) as refused:
        plan(leaving(LINK, LINK._replace(name="b", why="it is damaged")), params())
    assert "2 account(s) would be left behind" in str(refused.value)
    assert f"{LINK.label!r} in /opt/wa, because it is a link to a missing directory; " in str(refused.value)
    assert "shop-of-anna" not in str(refused.value)
    assert "in 'accept_left_behind'" in str(refused.value)


@pytest.mark.parametrize("accepted", ["shop-of-anna", LINK.label])
def test_what_is_accepted_may_be_left_behind_and_nothing_else(accepted: str) -> None:
    plan(leaving(LINK), params(accept_left_behind=[accepted]))
    with pytest.raises(SessionsError, match="1 account"):
        plan(leaving(LINK, LINK._replace(name="b")), params(accept_left_behind=[accepted]))


def test_nothing_is_left_behind_where_the_backend_stays_or_goes_back() -> None:
    plan(leaving(LINK, switch=NO_SWITCH), params())
    plan(leaving(LINK), params()._replace(back=True))
    plan(leaving(LINK), params(state="staged"))
    plan(leaving(LINK, use=Verdict(USED)), params())
    with pytest.raises(
        SessionsError, match="1 account"
    ):  # the file is as it should be, and the backend has to be restarted
        plan(leaving(LINK, switch=LACKING), params())


def test_many_that_are_left_behind_are_counted() -> None:
    with pytest.raises(SessionsError, match="; and 3 more; nothing was changed"):
        plan(leaving(*(LINK._replace(name=f"b{number}") for number in range(8))), params())


EMPTY = {"switch": WRITES, "unit": unit()}


def test_a_running_backend_without_an_account_is_not_interrupted() -> None:
    with pytest.raises(SessionsError) as refused:
        plan(state(**EMPTY), params())
    assert f"neither in {PATH} nor in /opt/wa; nothing was changed" in str(refused.value)
    assert "set 'src' to the directory" in str(refused.value)
    assert "set allow_empty=true" in str(refused.value)
    with pytest.raises(
        SessionsError, match="nor where its environment and its open files lead, nor in or below /opt/wa;"
    ):
        plan(state(**EMPTY), params(src=[], unit="wa"))


@pytest.mark.parametrize(
    ("seen", "options"),
    [
        (state(**EMPTY), {"allow_empty": True}),
        (state(**{**EMPTY, "unit": unit("inactive")}), {}),
        (state(**{**EMPTY, "unit": unit("failed")}), {}),
        (state(**{**EMPTY, "switch": NO_SWITCH}), {}),
        (state(present=["wa1"], **EMPTY), {}),
        (state(UNCHANGED, **EMPTY), {}),
        (state(**{**EMPTY, "unit": None}), {}),
    ],
)
def test_what_is_no_interruption_for_nothing(seen: State, options: dict[str, t.Any]) -> None:
    plan(seen, params(**options))


def test_fewer_accounts_than_expected_are_found_out_before_the_interruption() -> None:
    seen = state(PUBLISH, CORRUPT, present=["wa7"], switch=WRITES)
    require_expected(seen, 2)
    with pytest.raises(SessionsError) as refused:
        require_expected(seen, 3)
    assert f"2 accounts would be linked at {PATH}, but 3 are expected ('expected_accounts')" in str(refused.value)
    require_expected(state(present=["wa7"]), 3)  # nothing is interrupted, and it is said elsewhere


def test_the_places_of_linked_accounts_are_known(tmp_path: pathlib.Path) -> None:
    """Else what they lead to would be taken for accounts that nothing leads to, and who holds it would not be seen."""
    root, disk = tmp_path / "root", put_account(tmp_path / "disk/wa0")
    root.mkdir()
    (root / "wa0").symlink_to(disk)
    put_account(root / "wa1")
    seen = state(PUBLISH, PUBLISH).survey
    accounts = tuple(account._replace(root=str(root), linked=account.name == "wa0") for account in seen.accounts)
    assert linked_places(dataclasses.replace(seen, accounts=accounts)) == [str(disk)]


def test_two_devices_of_one_name_are_refused_with_both_places() -> None:
    seen = state(PUBLISH)
    clashing = seen._replace(survey=dataclasses.replace(seen.survey, clashes=(Clash("main", "/opt/a", "/opt/b"),)))
    with pytest.raises(SessionsError, match="two different linked devices, one in /opt/a and one in /opt/b"):
        plan(clashing, params())
