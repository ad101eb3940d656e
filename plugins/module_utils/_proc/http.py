# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Send one HTTP request to a backend, with limits on time and size.

No proxy (backends listen on loopback), no redirects (they could lead anywhere, with the headers), no body in any error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import re
import socket
import ssl
import threading
import time
import typing as t
import urllib.parse

from .._core.errors import SessionsError
from .._core.limits import BODY_BYTES

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # token of RFC 9110, 5.6.2


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """The address of the request. As text it is the URL without its query, which may contain a key."""

    secure: bool
    host: str
    port: int | None
    path: str
    target: str
    headers: tuple[tuple[str, str], ...] = dataclasses.field(default=(), repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}{f':{self.port}' if self.port else ''}{self.path}"


class Answer(t.NamedTuple):
    """The response. Without one, ``status`` is None and ``trouble`` says why. ``trouble`` may also describe a problem of the body."""

    status: int | None = None
    body: bytes = b""
    trouble: str | None = None


def endpoint_of(url: str, headers: t.Mapping[str, t.Any]) -> Endpoint:
    """Return the Endpoint; raises SessionsError for an unusable URL or header. The message contains neither query nor headers."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SessionsError("url is not a valid URL; set it to one such as http://127.0.0.1:8080/health") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SessionsError(
            "url must begin with http:// or https:// and a host; set it to one such as http://127.0.0.1:8080/health"
        )
    if parts.username is not None or parts.password is not None:
        raise SessionsError(
            "url contains a user name or password, which would be visible in messages; put them into headers (Authorization)"
        )
    if any(ord(character) <= 32 or ord(character) >= 127 for character in url):
        raise SessionsError("url contains a space, a control character or one outside ASCII; percent-encode it")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Endpoint(parts.scheme == "https", parts.hostname, port, parts.path or "/", target, tuple(_checked(headers)))


def fetched(endpoint: Endpoint, seconds: float, *, with_body: bool) -> Answer:
    """Send one GET request and return the response with at most 1 MiB of its body, within ``seconds`` in total."""
    deadline = time.monotonic() + seconds
    try:
        with _connected(endpoint, seconds) as connection:
            connection.request("GET", endpoint.target, headers=_headers(endpoint))
            response = connection.getresponse()
            body = response.read(BODY_BYTES + 1) if with_body else b""
    except (OSError, http.client.HTTPException) as error:
        late = isinstance(error, TimeoutError) or time.monotonic() >= deadline
        return Answer(trouble=_too_late(seconds) if late else _words(error))
    if time.monotonic() >= deadline:  # a body without a length ends where the connection was cut
        return Answer(trouble=_too_late(seconds))
    if len(body) > BODY_BYTES:
        return Answer(response.status, trouble=f"it is larger than {BODY_BYTES} bytes")
    return Answer(response.status, body)


@contextlib.contextmanager
def _connected(endpoint: Endpoint, seconds: float) -> t.Iterator[http.client.HTTPConnection]:
    """Connect, and cut the connection after ``seconds``: a socket's own timeout restarts with every byte that arrives."""
    kind = http.client.HTTPSConnection if endpoint.secure else http.client.HTTPConnection
    connection = kind(endpoint.host, endpoint.port)
    deadline = time.monotonic() + seconds
    sockets = [_first_socket(connection.host, connection.port, deadline)]

    def cut() -> None:
        with contextlib.suppress(OSError):
            # Below TLS, because the other thread owns the TLS state.
            socket.socket.shutdown(sockets[-1], socket.SHUT_RDWR)

    timer = threading.Timer(max(deadline - time.monotonic(), 0.0), cut)
    timer.start()
    try:
        if endpoint.secure:
            context = ssl.create_default_context()
            sockets.append(
                context.wrap_socket(sockets[0], server_hostname=endpoint.host, do_handshake_on_connect=False)
            )
            t.cast(ssl.SSLSocket, sockets[-1]).do_handshake()
        connection.sock = sockets[-1]
        yield connection
    finally:
        timer.cancel()
        timer.join()
        connection.close()
        sockets[-1].close()


def _first_socket(host: str, port: int, deadline: float) -> socket.socket:
    """Connect to the first address that answers; the deadline applies to all addresses together."""
    failed: OSError = TimeoutError()
    for family, kind, protocol, _name, address in _addresses(host, port, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        made = socket.socket(family, kind, protocol)
        try:
            made.settimeout(left)
            made.connect(address)
            return made
        except OSError as error:
            made.close()
            failed = error
    raise failed


def _addresses(host: str, port: int, deadline: float) -> list[t.Any]:
    """Resolve a name in a thread that may be abandoned: the resolver has only a timeout of its own."""
    outcome: list[t.Any] = []

    def resolve() -> None:
        try:
            outcome.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            outcome.append(error)

    resolving = threading.Thread(target=resolve, daemon=True)
    resolving.start()
    resolving.join(max(deadline - time.monotonic(), 0.0))
    if not outcome:
        raise TimeoutError
    if isinstance(outcome[0], OSError):
        raise outcome[0]
    return t.cast("list[t.Any]", outcome[0])


def _headers(endpoint: Endpoint) -> dict[str, str]:
    given = dict(endpoint.headers)
    return given if any(name.lower() == "accept" for name in given) else {"Accept": "application/json", **given}


def _too_late(seconds: float) -> str:
    return f"no complete answer within {seconds:.1f} seconds"


def _checked(headers: t.Mapping[str, t.Any]) -> t.Iterator[tuple[str, str]]:
    for name, value in headers.items():
        text = str(value)
        if (
            not _HEADER_NAME.fullmatch(str(name))
            or not text.isascii()
            or any(ord(character) < 32 for character in text)
        ):
            raise SessionsError(
                f"the header {str(name)!r} cannot be sent: names consist of letters, digits and hyphens, values of one line of ASCII"
            )
        yield str(name), text


def _words(error: Exception) -> str:
    """Describe an error without any data that the other side sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "no TLS connection"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    return "it does not speak HTTP"
