# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of planted faults: each of them can still be planted, and its tests are there."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import pathlib
import sys
import typing as t

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]


def _loaded() -> t.Any:
    loader = importlib.machinery.SourceFileLoader("mutants_run", str(REPOSITORY / "tests/mutants/run"))
    spec = importlib.util.spec_from_loader("mutants_run", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutants_run"] = module
    loader.exec_module(module)
    return module


RUN = _loaded()
FAULTS = RUN.read_faults()


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_fault_still_applies_to_the_code(fault: t.Any) -> None:
    assert fault.applies(REPOSITORY), f"{fault.file} does not hold its text exactly once"
    assert fault.harm
    assert fault.tests
    assert all((REPOSITORY / test).is_file() for test in fault.tests)


def test_there_are_enough_and_each_has_a_name_of_its_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert len(FAULTS) >= 60
    assert len([fault for fault in FAULTS if fault.unseen]) <= 0.05 * len(FAULTS)
