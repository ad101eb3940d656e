# SPDX-License-Identifier: GPL-3.0-or-later
"""session_health, the real module, against real answers over HTTP on loopback: also broken, endless and hostile ones."""

from __future__ import annotations

import contextlib
import http.server
import json
import pathlib
import shutil
import socket
import ssl
import subprocess
import threading
import time
import typing as t

import pytest

from conftest import RunModule

CANARY = "5511999990000"
HEALTH = {
    "status": "ok",
    "sessions_dir_writable": True,
    "lock": {"holder": "wa-1"},
    "noiseKey": CANARY,
    "accounts": [CANARY, CANARY],
}
Answers = t.Callable[[http.server.BaseHTTPRequestHandler], None]


def reply(status: int, body: bytes, **headers: str) -> Answers:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return answer


def says(value: t.Any, status: int = 200) -> Answers:
    return reply(status, json.dumps(value).encode())


class Backend:
    """A server on loopback. ``answers`` are given one after the other, the last one for ever; ``requests`` is what came in."""

    def __init__(self, *answers: Answers, tls: ssl.SSLContext | None = None) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, dict[str, str]]] = []
        backend = self

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = 120

            def do_GET(self) -> None:
                backend.requests.append((self.path, dict(self.headers)))
                answer = backend.answers.pop(0) if len(backend.answers) > 1 else backend.answers[0]
                with contextlib.suppress(OSError):  # the module hung up, as it should on some of these
                    answer(self)

            def log_message(self, *_what: t.Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server.server_port}/health"

    def __enter__(self) -> Backend:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_failure: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def test_a_backend_that_is_well(run_module: RunModule) -> None:
    expect = {"sessions_dir_writable": True, "lock.holder": "wa-1"}
    with Backend(says(HEALTH)) as backend:
        result = run_module("session_health", url=backend.url, expect=expect)
        checked = run_module("session_health", check=True, url=backend.url, expect=expect)
    for told in (result, checked):
        assert (told["changed"], told["healthy"], told["status"]) == (False, True, 200)
        assert told["facts"] == expect
        assert told["elapsed_seconds"] >= 0
        assert CANARY not in json.dumps(told)
    assert len(backend.requests) == 2


def test_it_waits_until_the_backend_has_come_up(run_module: RunModule) -> None:
    with Backend(says({"status": "starting"}, 503), says({"status": "starting"}), says(HEALTH)) as backend:
        result = run_module("session_health", url=backend.url, expect={"status": "ok"}, timeout=60, interval=0.2)
    assert (result["healthy"], result["changed"], result["facts"]) == (True, False, {"status": "ok"})
    assert result["elapsed_seconds"] >= 0.4
    assert len(backend.requests) >= 3


def test_it_waits_for_a_port_that_is_not_open_yet(run_module: RunModule) -> None:
    backend = Backend(says(HEALTH))
    backend.server.server_close()
    port = backend.server.server_port

    def open_late() -> None:
        time.sleep(0.8)
        backend.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), backend.server.RequestHandlerClass)
        backend.__enter__()

    opener = threading.Thread(target=open_late)
    opener.start()
    result = run_module("session_health", url=backend.url, timeout=60, interval=0.2)
    opener.join()
    backend.__exit__()
    assert result["healthy"]


def test_when_the_time_is_over_only_what_was_asked_for_is_told(run_module: RunModule) -> None:
    with Backend(says({**HEALTH, "status": "needs_qr"}, 503)) as backend:
        result = run_module(
            "session_health", url=f"{backend.url}?key=x", expect={"status": "ok", "accounts": 2}, timeout=0
        )
    assert result["failed"]
    assert f"{backend.url} answered 503 instead of 200" in result["msg"]
    assert "status='needs_qr' instead of 'ok', accounts='<list of 2>' instead of 2" in result["msg"]
    assert (result["healthy"], result["status"], result["facts"]) == (
        False,
        503,
        {"status": "needs_qr", "accounts": "<list of 2>"},
    )
    assert CANARY not in json.dumps(result)
    assert "\n" not in result["msg"]


def test_check_mode_looks_once_and_does_not_fail(run_module: RunModule) -> None:
    with Backend(says({}, 503)) as backend:
        result = run_module("session_health", check=True, url=backend.url, timeout=30)
    assert (result["healthy"], result["status"], result["changed"]) == (False, 503, False)
    assert not result.get("failed")
    assert len(backend.requests) == 1


def drip(request: http.server.BaseHTTPRequestHandler) -> None:
    """Send one byte every 50 ms until the other end has enough: no single read ever runs into a time limit."""
    request.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        request.wfile.write(b" ")
        request.wfile.flush()
        time.sleep(0.05)


def drip_headers(request: http.server.BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        request.wfile.write(b"a")
        request.wfile.flush()
        time.sleep(0.05)


def never(request: http.server.BaseHTTPRequestHandler) -> None:
    request.connection.recv(1)  # until the other end hangs up


def endless(request: http.server.BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(64):
        request.wfile.write(CANARY.encode() * 10_000)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (endless, "it is larger than 1048576 bytes"),
        (reply(200, b"<html>" + CANARY.encode()), "it is not JSON"),
        (reply(200, b"[" * 100_000), "it is not JSON"),
        (lambda request: request.wfile.write(CANARY.encode() + b"\r\n\r\n"), "it does not speak HTTP"),
        (lambda request: request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), "it is not JSON"),
        (lambda request: request.connection.shutdown(socket.SHUT_RDWR), "it does not speak HTTP"),
    ],
)
def test_answers_that_are_none(run_module: RunModule, answer: Answers, words: str) -> None:
    with Backend(answer) as backend:
        result = run_module("session_health", url=backend.url, expect={"status": "ok"}, timeout=0)
    assert result["failed"]
    assert words in result["msg"]
    assert CANARY not in json.dumps(result)


@pytest.mark.parametrize("answer", [drip, drip_headers, never])
def test_answers_that_do_not_end(run_module: RunModule, answer: Answers) -> None:
    with Backend(answer) as backend:
        result = run_module("session_health", url=backend.url, expect={"status": "ok"}, timeout=1.5, interval=0.5)
    assert result["failed"]
    assert "no complete answer within" in result["msg"]


def test_accounts_are_counted_in_lists_and_compared_with_before(run_module: RunModule) -> None:
    def accounts(*states: str) -> Answers:
        return says({"accounts": [{"id": CANARY, "state": state} for state in states], "holder": "a", "me": "a"})

    connected = "accounts.*.state=connected"
    with Backend(accounts("connected", "connecting"), accounts("connected", "connected")) as backend:
        before = run_module("session_health", check=True, url=backend.url, return_keys=[connected])
        result = run_module(
            "session_health", url=backend.url, at_least={connected: 2}, equal_keys={"holder": "me"}, interval=0.2
        )
        never = run_module("session_health", url=backend.url, at_least={connected: 3}, timeout=0)
    assert before["facts"] == {connected: 1}
    assert (result["healthy"], result["facts"]) == (True, {connected: 2, "holder": "a", "me": "a"})
    assert f"{connected}=2 instead of at least 3" in never["msg"]
    assert CANARY not in json.dumps([before, result, never])


def test_redirects_are_not_followed_and_carry_no_header_away(run_module: RunModule) -> None:
    with Backend(says(HEALTH)) as elsewhere, Backend(reply(302, b"", Location=elsewhere.url)) as backend:
        result = run_module("session_health", url=backend.url, headers={"X-Api-Key": CANARY}, timeout=0)
    assert "answered 302 instead of 200 (redirects are not followed)" in result["msg"]
    assert elsewhere.requests == []


def test_headers_arrive_and_are_told_nowhere(run_module: RunModule) -> None:
    with Backend(says({"echo": CANARY})) as backend:
        result = run_module(
            "session_health",
            url=f"{backend.url}?a=b",
            headers={"X-Api-Key": CANARY, "Accept": "text/plain"},
            expect={"echo": "x"},
            timeout=0,
        )
    path, headers = backend.requests[0]
    assert path == "/health?a=b"
    assert (headers["X-Api-Key"], headers["Accept"]) == (CANARY, "text/plain")
    assert CANARY not in json.dumps(result)


def test_proxies_of_the_environment_are_not_asked(run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
    with Backend(says({}, 418)) as proxy, Backend(says(HEALTH)) as backend:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        result = run_module("session_health", url=backend.url, timeout=0)
    assert result["healthy"]
    assert proxy.requests == []


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    place = tmp_path_factory.mktemp("tls") / "both.pem"
    openssl = shutil.which("openssl") or "openssl"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=wa",
         "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(place), "-out", f"{place}.crt"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    with place.open("a", encoding="ascii") as file:
        file.write(pathlib.Path(f"{place}.crt").read_text(encoding="ascii"))
    return place


def test_certificates_are_checked(
    run_module: RunModule, certificate: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Backend(says(HEALTH), tls=context) as backend:
        refused = run_module("session_health", url=backend.url, expect={"status": "ok"}, timeout=0)
        monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
        trusted = run_module("session_health", url=backend.url, expect={"status": "ok"}, timeout=0)
    assert "its certificate is not trusted" in refused["msg"]
    assert trusted["healthy"]


def test_tls_that_never_shakes_hands_is_cut_off(run_module: RunModule) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        result = run_module("session_health", url=f"https://127.0.0.1:{silent.getsockname()[1]}/", timeout=1)
    assert "no complete answer within" in result["msg"]
    assert result["elapsed_seconds"] < 60


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "one of the following is required: url, unit"),
        ({"url": "gopher://127.0.0.1/"}, "url must begin with http:// or https://"),
        ({"url": "http://127.0.0.1/", "since": "now"}, "read the journal of unit; set unit"),
        ({"unit": "wa", "signals": {"broken": "("}}, "the signal 'broken' is not a valid regular expression"),
        ({"unit": "wa", "require": {"needs_qr": "x"}}, "require must contain numbers of 0 or more"),
        ({"unit": "no-such-unit-anywhere"}, "no-such-unit-anywhere.service"),
    ],
)
def test_bad_input_is_one_clear_sentence(run_module: RunModule, options: dict[str, t.Any], words: str) -> None:
    result = run_module("session_health", **options)
    assert result["failed"]
    assert words in result["msg"]
    assert "\n" not in result["msg"]
