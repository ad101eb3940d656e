# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the report in a real browser: no error, accessible in both schemes, large fleets, and hosts that attack it."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.plugin_utils._report_document import Answer, document_of
from ansible_collections.whatsapp_ops.sessions.plugins.plugin_utils._report_page import page_of
from browser import Browser
from sample_report import NOW, SETTINGS, answers_of, sample_of, text_of

HERE = pathlib.Path(__file__).parent
ATTACK = "</script><script>window.taken=1</script><img src=x onerror='window.taken=1'><!--\"'&\u2028"
ROWS = "[...document.querySelectorAll('tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
COUNT = "document.getElementById('count').textContent"


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core, as the lock file pins it."""
    install = [str(HERE.parent / "backends" / "install_npm"), str(HERE)]
    modules = subprocess.run(install, check=True, capture_output=True, text=True, timeout=300).stdout.strip()
    return pathlib.Path(modules, "axe-core", "axe.min.js").read_text("utf-8")


@pytest.fixture(scope="module")
def shared() -> t.Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture
def browser(shared: Browser) -> t.Iterator[Browser]:
    """The browser, which must not complain during the test."""
    shared.complaints.clear()
    yield shared
    assert shared.complaints == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def fleet(folder: pathlib.Path) -> pathlib.Path:
    """A thousand hosts with twenty accounts each."""
    return written(folder / "fleet.html", sample_of(1000, 20))


@pytest.fixture(scope="module")
def few(folder: pathlib.Path) -> pathlib.Path:
    return written(folder / "few.html", sample_of(120, 4))


def written(path: pathlib.Path, document: dict[str, t.Any]) -> pathlib.Path:
    path.write_text(page_of(document), encoding="utf-8")
    return path


def click(browser: Browser, selector: str) -> None:
    browser.run(f"document.querySelector({json.dumps(selector)}).click()")


def look_for(browser: Browser, words: str) -> str:
    """Search the table, and return how many rows match."""
    browser.run(
        f"new Promise((done) => {{ const field = document.getElementById('search'); field.value = {json.dumps(words)};"
        "field.dispatchEvent(new Event('input')); setTimeout(done, 250); })"
    )
    return str(browser.run(COUNT))


def violations(browser: Browser, axe: str) -> list[str]:
    found = browser.run(f"{axe}; axe.run(document, {{resultTypes: ['violations']}})")["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]} {one['nodes'][0]['failureSummary']}" for one in found]


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)], ids=["wide and light", "narrow and dark"])
def test_it_is_accessible(browser: Browser, few: pathlib.Path, axe: str, width: int, dark: bool) -> None:
    browser.open(few, width=width, dark=not dark)
    assert violations(browser, axe) == []
    browser.open(few, width=width, dark=dark)
    assert browser.run("document.documentElement.scrollWidth") <= width
    for part in ("#tab-hosts", "#tab-accounts", "#tab-findings", "tbody .link"):
        click(browser, part)
        assert violations(browser, axe) == [], part


def test_both_schemes_can_be_chosen(browser: Browser, few: pathlib.Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    browser.open(few, dark=True)
    dark = browser.run(ground)
    click(browser, "[data-theme-choice=light]")
    light = browser.run(ground)
    assert light != dark
    browser.open(few, dark=True)
    assert browser.run(ground) == light, "the choice is remembered"
    click(browser, "[data-theme-choice=auto]")
    assert browser.run(ground) == dark


def test_hosts_are_sorted_filtered_and_shown(browser: Browser, few: pathlib.Path) -> None:
    browser.open(few)
    order = browser.run(ROWS)
    kinds = [row[1] for row in order]
    assert kinds == sorted(kinds, key=("Critical", "Warning", "Not examined", "Unreachable", "Healthy").index)
    click(browser, "thead th:nth-child(1) button")
    assert browser.run("document.querySelector('thead th').ariaSort") == "ascending"
    assert browser.run(ROWS)[0][0].startswith("wa0001.")
    click(browser, "thead th:nth-child(1) button")
    assert browser.run(ROWS)[0][0].startswith("wa0120.")
    assert browser.run("document.activeElement.textContent") == "Host"
    assert browser.run(COUNT) == "1 to 50 of 120"
    click(browser, "#next")
    assert browser.run(COUNT) == "51 to 100 of 120"
    assert look_for(browser, "WA0007") == "1 to 1 of 1"
    click(browser, "tbody .link")
    assert browser.run("document.getElementById('detail').open")
    assert browser.run("document.getElementById('detail-title').textContent").startswith("wa0007.")
    click(browser, "#detail-body button")
    assert browser.run(COUNT) == "1 to 4 of 4"
    assert browser.run("document.querySelector('[role=tab][aria-selected=true]').id") == "tab-accounts"


def test_tabs_work_by_keyboard(browser: Browser, few: pathlib.Path) -> None:
    browser.open(few)
    browser.run("document.getElementById('tab-hosts').focus()")
    for wanted in ("tab-accounts", "tab-findings", "tab-hosts"):
        for kind in ("keyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight")
        assert browser.run("document.activeElement.id") == wanted


def test_a_thousand_hosts_load_in_two_seconds(browser: Browser, fleet: pathlib.Path, record_property: t.Any) -> None:
    seconds = min(browser.open(fleet) for _attempt in range(2))
    record_property("seconds until a page of 1,000 hosts with 20 accounts each is drawn", round(seconds, 2))
    assert seconds < 2
    click(browser, "#tab-accounts")
    accounts = browser.run("JSON.parse(document.getElementById('data').textContent).accounts.length")
    assert browser.run(COUNT) == f"1 to 50 of {accounts:,}"
    assert browser.run("document.querySelectorAll('*').length") < 3000


def test_ten_thousand_hosts_can_be_searched(browser: Browser, folder: pathlib.Path) -> None:
    known = answers_of(500, 20)
    answers = {f"{name}-{number}": answer for number in range(20) for name, answer in known.items()}
    page = written(folder / "large.html", document_of(answers, text_of(NOW), "Large", SETTINGS, None))
    browser.open(page)
    assert look_for(browser, "wa0499 -19") == "1 to 1 of 1"
    click(browser, "#tab-accounts")
    assert len(browser.run(ROWS)) == 50


def test_texts_of_hosts_are_texts(browser: Browser, folder: pathlib.Path) -> None:
    answers = answers_of(3, 2)
    name = next(name for name, answer in answers.items() if answer.record)
    record = t.cast("dict[str, t.Any]", answers.pop(name).record)
    record.update(unit=ATTACK, layout=ATTACK, path=ATTACK, problems=[ATTACK], states={**record["states"], ATTACK: 1})
    record["backend"].update(state=ATTACK, use=ATTACK, problem=ATTACK, since=ATTACK)
    record["findings"] = [dict.fromkeys(("id", "severity", "title", "where", "evidence", "remedy"), ATTACK)]
    record["accounts"][0].update(id=ATTACK, state=ATTACK, problems=[ATTACK], newest=ATTACK)
    record["history"] = [
        {"event": ATTACK, "time": ATTACK, "accounts": 1},
        {"event": "started", "time": ATTACK, "accounts": 1},
    ]
    answers |= {ATTACK: Answer("ok", record), f"{ATTACK}2": Answer("unreachable", message=ATTACK)}
    browser.open(written(folder / "attack.html", document_of(answers, text_of(NOW), ATTACK, SETTINGS, None)))
    shown = {cell for row in browser.run(ROWS) for cell in row}
    assert ATTACK in shown
    for part in ("tbody tr th .link", "#close", "#tab-accounts", "#tab-findings"):
        click(browser, part)
    assert {cell for row in browser.run(ROWS) for cell in row} >= {ATTACK}
    assert browser.run("window.taken") is None
    assert browser.run("document.images.length") == 0
    assert browser.run("document.title").startswith("</script>")


def test_no_other_script_would_run(shared: Browser, few: pathlib.Path, folder: pathlib.Path) -> None:
    page = folder / "more.html"
    page.write_text(few.read_text().replace("<main>", "<main><script>window.taken=1</script><b style='color:red'></b>"))
    shared.complaints.clear()
    shared.open(page)
    assert shared.run("window.taken") is None
    assert len([text for text in shared.complaints if "Content Security Policy" in text]) == 2


def test_the_page_names_no_other_place(few: pathlib.Path) -> None:
    text = few.read_text().replace("http://www.w3.org/2000/svg", "")  # a name, not an address
    assert [word for word in ("http:", "https:", "url(", "@import", "src=") if word in text] == []
    assert os.path.getsize(few) < 500_000
