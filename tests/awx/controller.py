# SPDX-License-Identifier: GPL-3.0-or-later
"""A web server that answers as the API of AWX 24 does, for the objects that extensions/awx defines.

The shapes of its answers, and what it refuses or completes, are those of AWX. It keeps everything in memory.
"""

from __future__ import annotations

import http.server
import json
import re
import threading
import typing as t
import urllib.parse

Item = dict[str, t.Any]
VERSION = "24.6.1"
TOKEN = "token-of-the-test"
# Fields that identify an object in a search, besides those that are named in its query.
UNIFIED = ("job_templates", "workflow_job_templates", "workflow_approval_templates")
TYPES = {
    "organizations": "organization",
    "inventories": "inventory",
    "projects": "project",
    "credentials": "credential",
    "credential_types": "credential_type",
    "notification_templates": "notification_template",
    "job_templates": "job_template",
    "workflow_job_templates": "workflow_job_template",
    "workflow_job_template_nodes": "workflow_job_template_node",
    "workflow_approval_templates": "workflow_approval_template",
    "schedules": "schedule",
}
QUESTION_TYPES = ("text", "textarea", "password", "integer", "float", "multiplechoice", "multiselect")
# What AWX adds to the settings of a notification of this type.
WEBHOOK = {"http_method": "POST", "disable_ssl_verification": False, "username": "", "password": ""}


class Refused(Exception):
    """An answer with another status than 200; its content."""

    def __init__(self, status: int, content: Item) -> None:
        super().__init__(content)
        self.status, self.content = status, content


class Controller:
    """The objects by kind and number, surveys and associations by their address, and the requests that changed something."""

    def __init__(self, playbooks: t.Collection[str]) -> None:
        self.playbooks = playbooks
        self.items: dict[str, dict[int, Item]] = {kind: {} for kind in TYPES}
        self.surveys: dict[int, Item] = {}
        self.associated: dict[str, list[int]] = {}
        self.changes: list[str] = []
        self._number = 0

    def add(self, kind: str, /, **fields: t.Any) -> Item:
        """Create an object; return it as the API shows it."""
        self._number += 1
        number = self._number
        url = f"/api/v2/{kind}/{number}/"
        related = {"survey_spec": f"{url}survey_spec/"} if kind in ("job_templates", "workflow_job_templates") else {}
        self.items[kind][number] = {
            "id": number,
            "type": TYPES[kind],
            "url": url,
            "related": related,
            "description": "",
            **fields,
        }
        return self.items[kind][number]

    def answer(self, method: str, path: str, query: Item, given: Item) -> tuple[int, Item]:
        """Answer one request. Raises Refused."""
        if method != "GET":
            self.changes.append(f"{method} {path}")
        way = path.removeprefix("/api/v2/").strip("/").split("/")
        if len(way) == 1:
            return (200, self._found(way[0], query)) if method == "GET" else (201, self._created(way[0], given))
        item = self._item(way[0], int(way[1])) if way[1].isdigit() else self._named(way[0], way[1])
        if len(way) == 2:
            return self._one(method, way[0], item, given)
        if way[2] == "survey_spec":
            return self._survey(method, item["id"], given)
        if way[2] == "create_approval_template":
            return 201, self._approval(item, given)
        if way[0] == "workflow_approval_templates":
            raise Refused(404, {"detail": "The requested resource could not be found."})  # only nodes have links
        return self._association(method, path, given)

    def _one(self, method: str, kind: str, item: Item, given: Item) -> tuple[int, Item]:
        if method == "DELETE":
            del self.items[kind][item["id"]]
            return 204, {}
        if method == "PATCH":
            item.update(self._valid(kind, {**item, **given}))
        return 200, item

    def _found(self, kind: str, query: Item) -> Item:
        kinds = UNIFIED if kind == "unified_job_templates" else (kind,)
        every = [item for one in kinds for item in self._all(one).values()]
        results = [item for item in every if all(str(item.get(name)) == value for name, value in query.items())]
        return {"count": len(results), "next": None, "previous": None, "results": results}

    def _created(self, kind: str, given: Item) -> Item:
        return self.add(kind, **self._valid(kind, given))

    def _all(self, kind: str) -> dict[int, Item]:
        if kind not in self.items:
            raise Refused(404, {"detail": "Not found."})
        return self.items[kind]

    def _item(self, kind: str, number: int) -> Item:
        if number not in self._all(kind):
            raise Refused(404, {"detail": "Not found."})
        return self.items[kind][number]

    def _named(self, kind: str, named: str) -> Item:
        """Return the object of a named URL: its name, and that of its organization."""
        name, _mark, organization = urllib.parse.unquote(named).partition("++")
        for item in self._all(kind).values():
            if item["name"] == name and self._item("organizations", item["organization"])["name"] == organization:
                return item
        raise Refused(404, {"detail": "Not found."})

    def _valid(self, kind: str, given: Item) -> Item:
        """Complete the fields of an object as AWX does, or refuse them."""
        if kind == "job_templates" and given["playbook"] not in self.playbooks:
            raise Refused(400, {"playbook": ["Playbook not found for project."]})
        if kind == "notification_templates":
            return {**given, "notification_configuration": {**WEBHOOK, **given["notification_configuration"]}}
        if kind == "workflow_job_template_nodes" and given.get("limit"):
            template = self._item("job_templates", given["unified_job_template"])
            if not template.get("ask_limit_on_launch"):
                raise Refused(400, {"limit": ["Field is not configured to prompt on launch."]})
        if kind == "schedules" and not re.fullmatch(r"DTSTART:\d{8}T\d{6}Z RRULE:\S+", given["rrule"]):
            raise Refused(400, {"rrule": ["Valid DTSTART required in rrule."]})
        return given

    def _survey(self, method: str, number: int, given: Item) -> tuple[int, Item]:
        if method == "POST":
            names = [question["variable"] for question in given["spec"]]
            for question in given["spec"]:
                is_known = question["type"] in QUESTION_TYPES and isinstance(question["required"], bool)
                if not is_known or not question["question_name"] or names.count(question["variable"]) > 1:
                    raise Refused(400, {"error": f"survey question {question['variable']}"})
                if question["type"].startswith("multi") and not question["choices"]:
                    raise Refused(400, {"error": f"survey question {question['variable']} must specify choices"})
            self.surveys[number] = given
        return 200, self.surveys.get(number, {})

    def _approval(self, node: Item, given: Item) -> Item:
        template = self.add("workflow_approval_templates", **given)
        node["unified_job_template"] = template["id"]
        node["related"]["unified_job_template"] = template["url"]
        return template

    def _association(self, method: str, path: str, given: Item) -> tuple[int, Item]:
        numbers = self.associated.setdefault(path, [])
        if method == "GET":
            results = [{"id": number} for number in numbers]
            return 200, {"count": len(results), "next": None, "previous": None, "results": results}
        if given.get("disassociate"):
            numbers.remove(given["id"])
        else:
            numbers.append(given["id"])
        return 204, {}


class Server:
    """Serves a controller on a free port of this machine."""

    def __init__(self, controller: Controller) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def _serve(self) -> None:
                split = urllib.parse.urlsplit(self.path)
                query = dict(urllib.parse.parse_qsl(split.query))
                length = int(self.headers.get("Content-Length") or 0)
                given = json.loads(self.rfile.read(length)) if length else {}
                try:
                    if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                        raise Refused(401, {"detail": "Authentication credentials were not provided."})
                    status, content = controller.answer(self.command, split.path, query, given)
                except Refused as refused:
                    status, content = refused.status, refused.content
                body = b"" if status == 204 else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("X-API-Product-Name", "AWX")
                self.send_header("X-API-Product-Version", VERSION)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815

            def log_message(self, *args: t.Any) -> None:
                """Print nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
