"""A stub of the part of W&B's HTTP API that its client needs for runs: GraphQL, file streams and uploads, on loopback.

Runs outlive a restart. An outage refuses connections; `limited` is the number of requests that get 429 next.
"""

import gzip
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HISTORY, SUMMARY = "wandb-history.jsonl", "wandb-summary.json"
VIEWER = {
    "id": "v",
    "entity": "me",
    "username": "me",
    "email": "me@localhost",
    "flags": "{}",
    "admin": False,
    "apiKeys": {"edges": []},
    "teams": {"edges": []},
}


@dataclass
class StubRun:
    """A run as the stub holds it."""

    fields: dict[str, Any] = field(default_factory=dict)  # of the last upsert
    history: dict[int, dict[str, Any]] = field(default_factory=dict)  # by line
    summary: dict[str, Any] = field(default_factory=dict)
    exits: list[int] = field(default_factory=list)

    def column(self, name: str) -> list[Any]:
        """The values of a metric in the order of the lines."""
        return [row[name] for _, row in sorted(self.history.items()) if name in row]


class Stub:
    """The stub; it serves from `start` to `stop`, on one port all the time."""

    def __init__(self) -> None:
        self.runs: dict[str, StubRun] = {}
        self.asked: list[str] = []  # operations and paths
        self.limited = 0
        self.port = 0
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "Stub":
        handler = type("Handler", (_Handler,), {"stub": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def graphql(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data of an answer."""
        if operation == "UpsertBucket":
            return {"upsertBucket": self._upsert(variables)}
        if operation == "RunResumeStatus":
            name = variables["name"]
            bucket = self._bucket(name) if name in self.runs else None
            return {"model": {"id": "p", "name": "p", "entity": {"id": "e", "name": "me"}, "bucket": bucket}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        return {"viewer": VIEWER, "serverInfo": {"features": [], "cliVersionInfo": {}}, "entity": None}

    def _upsert(self, variables: dict[str, Any]) -> dict[str, Any]:
        inserted = variables["name"] not in self.runs
        run = self.runs.setdefault(variables["name"], StubRun())
        run.fields |= {name: value for name, value in variables.items() if value is not None}
        return {"bucket": self._bucket(variables["name"]), "inserted": inserted}

    def _bucket(self, name: str) -> dict[str, Any]:
        run = self.runs[name]
        last = run.history[max(run.history)] if run.history else None
        entity = {"id": "e", "name": "me"}
        return {
            "id": name,
            "name": name,
            "displayName": run.fields.get("displayName", name),
            "description": "",
            "sweepName": None,
            "project": {"id": "p", "name": run.fields.get("project", "p"), "entity": entity},
            "summaryMetrics": json.dumps(run.summary),
            "historyLineCount": len(run.history),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps([json.dumps(last)] if last else []),
            "eventsTail": "[]",
            "config": "{}",
            "tags": run.fields.get("tags", []),
            "notes": None,
            "wandbConfig": json.dumps({"t": 1}),
        }

    def stream(self, run_id: str, body: dict[str, Any]) -> None:
        """Take a part of a run's file stream."""
        run = self.runs.setdefault(run_id, StubRun())
        files = body.get("files") or {}
        if HISTORY in files:
            for number, line in enumerate(files[HISTORY]["content"], files[HISTORY]["offset"]):
                run.history[number] = json.loads(line)
        if SUMMARY in files:
            run.summary = json.loads(files[SUMMARY]["content"][-1])
        if body.get("complete"):
            run.exits.append(body.get("exitcode", 0))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Leave out clients that hang up."""


class _Handler(BaseHTTPRequestHandler):
    stub: Stub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(200, {})

    def do_PUT(self) -> None:
        self._body()
        self._answer(200, {})

    def do_POST(self) -> None:
        body = self._body()
        stub = self.stub
        if stub.limited > 0:
            stub.limited -= 1
            stub.asked.append("429")
            self._answer(429, {"errors": [{"message": "too many requests"}]})
            return
        if self.path.endswith("/graphql"):
            asked = json.loads(body)
            found = re.search(r"(?:query|mutation)\s+(\w+)", asked.get("query", ""))
            operation = asked.get("operationName") or (found[1] if found else "")
            stub.asked.append(operation)
            self._answer(200, {"data": stub.graphql(operation, asked.get("variables") or {})})
        else:
            stub.asked.append(self.path)
            if self.path.endswith("/file_stream"):
                stub.stream(self.path.split("/")[-2], json.loads(body or b"{}"))
            self._answer(200, {"limits": {}})

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _answer(self, code: int, value: dict[str, Any]) -> None:
        content = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
