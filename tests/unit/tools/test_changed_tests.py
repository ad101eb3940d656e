# SPDX-License-Identifier: GPL-3.0-or-later
"""`make quick` runs the tests that a change needs, and not all of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import changed_tests
from changed_tests import ROOT, chosen_tests
from tree import files

TESTS = sorted(map(str, files("tests/unit/**/test_*.py")))
UTILS = "plugins/module_utils"


def test_a_file_of_a_package_needs_the_tests_of_that_package() -> None:
    chosen = set(chosen_tests([f"{UTILS}/_fs/modes.py"], TESTS))
    assert {test for test in TESTS if test.startswith(f"tests/unit/{UTILS}/_fs/")} < chosen
    assert f"tests/unit/{UTILS}/test_packages.py" in chosen  # what is sent to a target
    assert "tests/unit/tools/test_mutants.py" in chosen  # faults that are planted in its lines
    assert not any("_health" in test or "playbooks" in test for test in chosen)


def test_a_package_in_another_has_tests_of_its_own() -> None:
    chosen = chosen_tests([f"{UTILS}/_migration/apply/publish.py"], TESTS)
    assert f"tests/unit/{UTILS}/_migration/apply/test_staging.py" in chosen
    assert f"tests/unit/{UTILS}/_migration/test_conflicts.py" not in chosen


def test_tests_of_other_packages_that_import_it_are_chosen_while_they_are_few(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = f"{UTILS}/_accounts/control_directory.py"
    own = f"tests/unit/{UTILS}/_accounts/"
    others = [test for test in TESTS if not test.startswith(own) and changed_tests._imports_one_of(test, [path])]
    assert others
    assert set(others) <= set(chosen_tests([path], TESTS))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(changed_tests, "IMPORTERS_AT_MOST", 0)
    assert not set(others) & set(chosen_tests([path], TESTS))
    assert "import what changed: `make units` runs them, too" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "test"),
    [
        ("plugins/modules/session_dir.py", "tests/unit/plugins/test_action_groups.py"),
        ("meta/runtime.yml", "tests/unit/plugins/test_action_groups.py"),
        ("plugins/action/check_settings.py", "tests/unit/playbooks/test_check_settings.py"),
        ("plugins/plugin_utils/_settings.py", "tests/unit/plugins/test_settings.py"),
        ("roles/persist/defaults/main.yml", "tests/unit/roles/test_defaults.py"),
        ("roles/persist/tasks/main.yml", "tests/unit/playbooks/test_rollout.py"),
        ("playbooks/persist.meta.yml", "tests/unit/playbooks/test_check_settings.py"),
        ("tests/tools/check_role_specs.py", "tests/unit/tools/test_gates.py"),
        ("tests/mutants/faults.toml", "tests/unit/tools/test_mutants.py"),
        ("docs/architecture.md", "tests/unit/docs/test_architecture.py"),
        ("plugins/module_utils/_fs/modes.py", "tests/unit/docs/test_architecture.py"),
        ("tests/unit/conftest.py", "tests/unit/tools/test_gates.py"),
        ("tests/unit/playbooks/fleetkit.py", "tests/unit/playbooks/test_rollout.py"),
        ("tests/unit/roles/test_defaults.py", "tests/unit/roles/test_defaults.py"),
    ],
)
def test_what_a_changed_file_needs(path: str, test: str) -> None:
    assert test in TESTS
    assert test in chosen_tests([path], TESTS)


@pytest.mark.parametrize("path", ["README.md", "galaxy.yml", "changelogs/fragments/limits.yml"])
def test_prose_needs_no_unit_test(path: str) -> None:
    assert chosen_tests([path], TESTS) == []


def test_every_folder_of_the_tree_is_known() -> None:
    """A table of folders grows old: one that is gone, or a pattern that fits no test, is noticed here."""
    for folder, patterns in (*changed_tests.ELSEWHERE.items(), *changed_tests.ALWAYS.items()):
        assert (ROOT / folder).is_dir()
        for pattern in patterns:
            assert any(Path(test).match(pattern) for test in TESTS), pattern


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a branch that left main, which went on."""
    monkeypatch.setattr(changed_tests, "ROOT", tmp_path)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "somebody")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "somebody@example.org")
    run(tmp_path, "init", "--quiet", "--initial-branch=main")
    for name in ("kept", "edited", "removed", "later"):
        (tmp_path / name).write_text(name)
    commit(tmp_path, "first")
    run(tmp_path, "checkout", "--quiet", "-b", "branch")
    (tmp_path / "removed").unlink()
    commit(tmp_path, "second")
    run(tmp_path, "checkout", "--quiet", "main")
    (tmp_path / "later").write_text("main went on")
    commit(tmp_path, "third")
    run(tmp_path, "checkout", "--quiet", "branch")
    (tmp_path / "edited").write_text("not committed")
    (tmp_path / "new").write_text("not added")
    return tmp_path


def run(repository: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=repository, check=True, capture_output=True)


def commit(repository: Path, message: str) -> None:
    run(repository, "add", "--all")
    run(repository, "commit", "--quiet", "--message", message)


def test_committed_and_uncommitted_changes_count_and_those_of_main_do_not(repository: Path) -> None:
    assert changed_tests.changed_since(changed_tests.main_branch()) == ["edited", "new", "removed"]


def test_a_remote_main_is_preferred(repository: Path) -> None:
    run(repository, "update-ref", "refs/remotes/origin/main", "refs/heads/branch")
    assert changed_tests.main_branch() == "origin/main"
    assert changed_tests.changed_since("origin/main") == ["edited", "new"]


def test_without_a_main_branch_one_has_to_be_named(repository: Path) -> None:
    run(repository, "branch", "--quiet", "-m", "main", "trunk")
    with pytest.raises(SystemExit, match="make quick BASE="):
        changed_tests.main_branch()
    assert changed_tests.changed_since("trunk") == ["edited", "new", "removed"]
