# SPDX-License-Identifier: GPL-3.0-or-later
"""What the containers of test_containers.py run: keeps an account as Baileys does, and writes what it holds when it is asked to end."""

import json
import os
import pathlib
import signal
import sys
import time
import uuid

account = pathlib.Path(os.environ.get("ACCOUNTS", "auth_info_baileys"), "main")
account.mkdir(parents=True, exist_ok=True)
creds, held = account / "creds.json", account / "held-open"
try:
    state = json.loads(creds.read_text())
except (OSError, ValueError):
    state = {"identity": uuid.uuid4().hex, "starts": 0, "stops": 0, "saved": 0}
state["starts"] += 1
state.update(
    me={"id": "15550001:1@s.whatsapp.net"},
    account={"details": "CANARY"},
    noiseKey={"private": "CANARY"},
    signedIdentityKey={"private": "CANARY"},
    signedPreKey={"keyId": 1},
    registrationId=7,
    advSecretKey="CANARY",
    nextPreKeyId=3,
    registered=False,
    signalIdentities=[1],
    platform="smba",
)


def save() -> None:
    state["saved"] += 1
    temporary = creds.with_suffix(".tmp")
    temporary.write_text(json.dumps(state))
    temporary.rename(creds)
    (account / "pre-key-1.json").write_text(json.dumps({"saved": state["saved"]}))


def end(*_given: object) -> None:
    state["stops"] += 1
    save()
    sys.exit(0)


opened = held.open("w") if "HOLD" in os.environ else None
signal.signal(signal.SIGTERM, signal.SIG_IGN)
save()
if "DEAF" not in os.environ:
    signal.signal(signal.SIGTERM, end)
while True:
    time.sleep(0.05)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    save()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
