# SPDX-License-Identifier: GPL-3.0-or-later
"""What another process removes while the accounts are observed."""

from __future__ import annotations

import pathlib

import pytest

from accounts import put_account
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration import observe as migration_observe
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration import params as migration_params
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration import survey as migration_survey


@pytest.mark.parametrize("times", [1, 2])
def test_an_account_that_another_run_moves_meanwhile(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """It is listed, then gone: one more look sees the accounts as they are, and a look that fails again is reported."""
    put_account(tmp_path / "legacy/wa1")
    left = iter(range(times))
    read_owner = migration_survey.AccountPair._owner

    def removed_meanwhile(pair: migration_survey.AccountPair, name: str) -> int | None:
        if next(left, None) is not None:
            raise FileNotFoundError(2, "No such file or directory")
        return read_owner(pair, name)

    monkeypatch.setattr(migration_survey.AccountPair, "_owner", removed_meanwhile)
    params = migration_params.read_params({"src": [str(tmp_path / "legacy")], "path": str(tmp_path / "sessions")})
    if times == 1:
        assert [account.name for account in migration_observe.observe(params).survey.accounts] == ["wa1"]
    else:
        with pytest.raises(SessionsError, match="No such file or directory; fix that"):
            migration_observe.observe(params)
