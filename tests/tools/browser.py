# SPDX-License-Identifier: GPL-3.0-or-later
"""Drives Debian's Chromium through its DevTools protocol, over the two pipes that it offers for that."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import select
import subprocess
import tempfile
import time
import types
import typing as t

_OPTIONS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-extensions --disable-background-networking "
    "--remote-debugging-pipe --hide-scrollbars --force-color-profile=srgb"
).split()
_SECONDS = 30.0


class Browser:
    """One page of a headless browser. ``complaints``: errors and warnings of its console, and errors of its scripts."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self._number = 0
        self._rest = b""
        self._profile = tempfile.TemporaryDirectory()
        taking, self._giving = os.pipe()
        self._taking, giving = os.pipe()
        # Chromium reads from descriptor 3 and writes to 4.
        command = f"exec chromium {' '.join(_OPTIONS)} --user-data-dir={self._profile.name} about:blank 3<&{taking} 4>&{giving}"
        self._process = subprocess.Popen(
            ["bash", "-c", command],
            pass_fds=(taking, giving),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(taking)
        os.close(giving)
        self._session = ""
        page = next(one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_error: type[BaseException] | BaseException | types.TracebackType | None) -> None:
        for pipe in (self._giving, self._taking):
            os.close(pipe)
        self._process.kill()
        self._process.wait()
        self._profile.cleanup()

    def call(self, method: str, **parameters: t.Any) -> dict[str, t.Any]:
        """Call a method of the protocol and return its result."""
        self._number += 1
        request = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            request["sessionId"] = self._session
        os.write(self._giving, json.dumps(request).encode() + b"\0")
        return self._until(lambda event: event.get("id") == self._number)

    def open(self, path: pathlib.Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> float:
        """Open a file and return the seconds until it was loaded."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        begin = time.monotonic()
        self.call("Page.navigate", url=path.resolve().as_uri())
        self._until(lambda event: event.get("method") == "Page.loadEventFired")
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return time.monotonic() - begin

    def run(self, script: str) -> t.Any:
        """Return the value of an expression, or of what it promises."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"]["exception"].get("description", "the script failed"))
        return answer["result"].get("value")

    def picture(self, path: pathlib.Path, *, whole: bool = True) -> None:
        """Write what the page looks like, as PNG."""
        taken = self.call("Page.captureScreenshot", captureBeyondViewport=whole, **(self._whole() if whole else {}))
        path.write_bytes(base64.b64decode(taken["data"]))

    def _whole(self) -> dict[str, t.Any]:
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def _until(self, is_wanted: t.Callable[[dict[str, t.Any]], bool]) -> dict[str, t.Any]:
        until = time.monotonic() + _SECONDS
        while True:
            event = self._next(until)
            self._note(event)
            if "error" in event and is_wanted(event):
                raise AssertionError(event["error"]["message"])
            if is_wanted(event):
                return t.cast("dict[str, t.Any]", event.get("result", {}))

    def _next(self, until: float) -> dict[str, t.Any]:
        while b"\0" not in self._rest:
            if not select.select([self._taking], [], [], max(0.0, until - time.monotonic()))[0]:
                raise AssertionError(f"the browser did not answer within {_SECONDS:g} seconds")
            block = os.read(self._taking, 1 << 20)
            if not block:
                raise AssertionError("the browser ended; is Debian's package chromium installed?")
            self._rest += block
        message, _mark, self._rest = self._rest.partition(b"\0")
        return t.cast("dict[str, t.Any]", json.loads(message))

    def _note(self, event: dict[str, t.Any]) -> None:
        told = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(told["exceptionDetails"])[:500])
        elif event.get("method") == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.complaints.append(told["entry"]["text"])
        elif event.get("method") == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(told["args"])[:500])
