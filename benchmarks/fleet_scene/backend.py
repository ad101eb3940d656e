# SPDX-License-Identifier: GPL-3.0-or-later
"""A minimal backend, so that fifty of them fit on one machine and the playbook dominates the measurements.

Uses the sessions in SESSIONS_PATH, or in .baileys_auth of its working directory, and reports at /health whether it can write there.
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import sys

SESSIONS = os.environ.get("SESSIONS_PATH", ".baileys_auth")


class Reply(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        writable = os.access(SESSIONS, os.W_OK)
        body = json.dumps({"ok": writable, "sessions_dir_writable": writable, "waMode": "active"}).encode()
        self.send_response(200 if writable else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Discard the log."""


for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_signal: sys.exit(0))
http.server.HTTPServer(("127.0.0.1", 8080), Reply).serve_forever()
