"""A stand-in for the W&B service on the loopback: enough of its GraphQL, file stream and storage for `wandb sync`.

What is kept is what was received. It does not stand in for the web interface, for queries of finished runs, for
permissions, or for the service's own derivations (sampling, charts, garbage collection of artifacts).

A run's rows are kept by their position, as the service does, so that a second upload writes over the first. Bytes that
were committed as an artifact are recognised by their digest.
"""

import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class ServedRun:
    """What the service has of a run."""

    run_id: str
    settings: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, dict[int, str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None
    inserted: int = 0

    @property
    def history(self) -> list[dict[str, Any]]:
        rows = self.lines.get("wandb-history.jsonl", {})
        return [json.loads(rows[position]) for position in sorted(rows)]

    @property
    def summary(self) -> dict[str, Any]:
        rows = self.lines.get("wandb-summary.json", {})
        return json.loads(rows[max(rows)]) if rows else {}


@dataclass
class ServedArtifact:
    """A version of an artifact: committed once, and by which runs it was logged and used."""

    number: str
    collection: str
    kind: str
    digest: str
    aliases: list[str]
    metadata: dict[str, Any]
    logged_by: str | None
    state: str = "PENDING"
    files: dict[str, bytes] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    used_by: list[str] = field(default_factory=list)


class Service:
    """The state of the service, and how it misbehaves.

    `stall_after`: after so many uploads of files every further one hangs until `release` is set.
    """

    def __init__(self) -> None:
        self.runs: dict[str, ServedRun] = {}
        self.artifacts: dict[str, ServedArtifact] = {}
        self.uploads: list[str] = []
        self.operations: list[str] = []
        self.views: list[dict[str, Any]] = []
        self.listed: list[dict[str, Any]] = []
        self.stall_after: int | None = None
        self.stalled = threading.Event()
        self.release = threading.Event()
        self.address = ""
        self._lock = threading.Lock()

    # --- GraphQL ----------------------------------------------------------------------------------------------------

    def answer(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        (operation,) = re.findall(r"^\s*(?:query|mutation)\s+(\w+)", query, re.MULTILINE)[:1]
        with self._lock:
            self.operations.append(operation)
            return getattr(self, f"_{operation}", lambda _: {})(given)

    def _ServerFeaturesQuery(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"serverInfo": {"features": []}}

    def _Viewer(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        viewer = {"id": "VQ==", "entity": "lab", "username": "me", "email": "", "flags": "{}", "teams": {"edges": []}}
        return {"viewer": viewer}

    def _RunResumeStatus(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run = self.runs.get(given["name"])
        model = {"id": "UA==", "name": given["project"], "entity": _entity("lab")}
        return {"model": {**model, "bucket": None if run is None else self._bucket(run)}}

    def _bucket(self, run: ServedRun) -> dict[str, Any]:
        """What a run that is resumed is told of its past."""
        history = run.lines.get("wandb-history.jsonl", {})
        return {
            "id": f"id-{run.run_id}",
            "name": run.run_id,
            "displayName": run.settings.get("displayName"),
            "summaryMetrics": json.dumps(run.summary),
            "logLineCount": 0,
            "historyLineCount": len(history),
            "eventsLineCount": 0,
            "historyTail": json.dumps([history[max(history)]] if history else []),
            "eventsTail": "[]",
            "config": run.settings["config"],
            "tags": run.settings.get("tags", []),
            "notes": "",
            "wandbConfig": "{}",
        }

    def _UpsertBucket(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run = self.runs.setdefault(given["name"], ServedRun(given["name"]))
        run.inserted += 1
        run.settings.update({key: value for key, value in given.items() if value is not None})
        if given.get("config"):
            run.config = {key: one["value"] for key, one in json.loads(given["config"]).items()}
        project = {"id": "UA==", "name": given.get("project") or "fairloop", "entity": _entity("lab")}
        bucket = {
            "id": f"id-{run.run_id}",
            "name": run.run_id,
            "displayName": run.settings.get("displayName", run.run_id),
            "description": "",
            "config": given.get("config") or "{}",
            "sweepName": run.settings.get("sweep", ""),
            "project": project,
            "historyLineCount": 0,
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": run.inserted == 1}}

    def _CreateRunFiles(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        files = [
            {"name": name, "uploadUrl": f"{self.address}/storage/run/{given['run']}/{name}"} for name in given["files"]
        ]
        return {"createRunFiles": {"runID": f"id-{given['run']}", "uploadHeaders": [], "files": files}}

    def _CreateArtifact(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        chosen = given["input"]
        names = chosen["artifactCollectionName"], chosen["artifactTypeName"], chosen["digest"]
        for found in self.artifacts.values():
            if (found.collection, found.kind, found.digest) == names:
                break
        else:
            number = f"artifact-{len(self.artifacts)}"
            aliases = [one["alias"] for one in chosen.get("aliases") or []]
            metadata = json.loads(chosen.get("metadata") or "{}")
            found = ServedArtifact(number, *names, aliases, metadata, chosen.get("runName"))
            self.artifacts[number] = found
        artifact = {"id": found.number, "state": found.state, "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": artifact}}

    def _CreateArtifactFiles(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        nodes = []
        for spec in given["input"]["artifactFiles"]:
            place = f"artifact/{spec['artifactID']}/{spec['name']}"
            artifact = self.artifacts[spec["artifactID"]]
            kept = spec["name"] in artifact.files
            nodes.append(
                {
                    "storagePath": f"wandb_artifacts/{place}",
                    "uploadUrl": None if kept else f"{self.address}/storage/{place}",
                    "uploadHeaders": [],
                    "uploadMultipartUrls": None,
                    "artifact": {"id": spec["artifactID"]},
                }
            )
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _CreateArtifactManifest(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"createArtifactManifest": {"artifactManifest": self._manifest(given["artifactID"], given)}}

    def _UpdateArtifactManifest(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        number = given["artifactManifestID"].removeprefix("manifest-")
        return {"updateArtifactManifest": {"artifactManifest": self._manifest(number, given)}}

    def _manifest(self, number: str, given: dict[str, Any]) -> dict[str, Any]:
        file: dict[str, Any] = {"id": f"file-{number}"}
        if given["includeUpload"]:
            file |= {"uploadUrl": f"{self.address}/storage/manifest/{number}", "uploadHeaders": []}
        return {"id": f"manifest-{number}", "file": file}

    def _ArtifactType(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        kinds = [one.kind for one in self.artifacts.values() if one.collection == given["name"].partition(":")[0]]
        return {"project": {"artifact": {"artifactType": {"name": kinds[0]}} if kinds else None}}

    def _CommitArtifact(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        artifact = self.artifacts[given["artifactID"]]
        artifact.state = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": artifact.number, "digest": artifact.digest}}}

    def _UseArtifact(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        chosen = given["input"]
        self.artifacts[chosen["artifactID"]].used_by.append(chosen["runName"])
        return {"useArtifact": {"artifact": {"id": chosen["artifactID"]}}}

    # --- reports and saved views ------------------------------------------------------------------------------------

    def _GetViewer(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        keys = {"edges": []}
        viewer = {"id": "VQ==", "name": "me", "username": "me", "email": "", "admin": False, "flags": "{}"}
        return {"viewer": {**viewer, "entity": "lab", "deletedAt": None, "apiKeys": keys, "teams": keys}}

    def _GetDefaultEntity(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"viewer": {"id": "VQ==", "entity": "lab"}}

    def _GetProjects(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        project = {"__typename": "Project", "id": "UA==", "name": "fairloop", "entityName": given["entity"]}
        node = {**project, "createdAt": "2026-01-01T00:00:00Z", "isBenchmark": False, "user": None}
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        return {"models": {"pageInfo": page, "edges": [{"node": node}]}}

    def _ProjectInternalId(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        found = given["projectName"] == "fairloop"
        return {"project": {"id": "UA==", "internalId": "UHJvamVjdA=="} if found else None}

    def _Runs(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        """The runs of a job type and a sweep, of those that were put into `listed`."""
        asked = json.loads(given["filters"])
        found = [
            (run, number)
            for number, run in enumerate(self.listed)
            if run["jobType"] == asked["jobType"]
            and run["config"].get("sweep") == asked.get("config.sweep", run["config"].get("sweep"))
        ]
        empty = {"summaryMetrics": "{}", "systemMetrics": "{}", "tags": [], "state": "finished", "sweepName": None}
        nodes = [
            {
                **dict.fromkeys(("description", "notes", "commit", "heartbeatAt", "group", "historyKeys")),
                **{"id": f"r{number}", "name": f"r{number}", "displayName": f"r{number}", "projectId": "1"},
                **{"readOnly": False, "createdAt": "2026-01-01T00:00:00Z", "historyLineCount": 0},
                **{**empty, "user": {"name": "me", "username": "me"}, "jobType": run["jobType"]},
                "config": json.dumps({key: {"value": value} for key, value in run["config"].items()}),
            }
            for run, number in found
        ]
        edges = [{"node": node, "cursor": node["id"]} for node in nodes]
        runs = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
        return {"project": {"internalId": "1", "runCount": len(edges), "readOnly": False, "runs": runs}}

    def _upsertView(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self.views.append({**given, "spec": json.loads(given["spec"])})
        project = {"id": "UA==", "name": given["projectName"], "entityName": given["entityName"]}
        view = {"id": f"Vmlldzo{len(self.views)}", "type": given["type"], "name": given["name"], "project": project}
        more = {"displayName": given["displayName"], "description": "", "spec": given["spec"], "updatedAt": None}
        return {"upsertView": {"view": {**view, **more}, "inserted": True}}

    _UpsertView2 = _upsertView

    # --- file stream and storage ------------------------------------------------------------------------------------

    def stream(self, run_id: str, sent: dict[str, Any]) -> None:
        with self._lock:
            run = self.runs[run_id]
            for name, chunk in (sent.get("files") or {}).items():
                lines = run.lines.setdefault(name, {})
                lines.update({chunk["offset"] + place: line for place, line in enumerate(chunk["content"])})
            if sent.get("complete"):
                run.exit_code = sent.get("exitcode")

    def store(self, place: str, data: bytes) -> None:
        with self._lock:
            hang = self.stall_after is not None and len(self.uploads) >= self.stall_after
        if hang:
            self.stalled.set()
            self.release.wait(60)
            return
        kind, owner, *rest = place.split("/", 2)
        with self._lock:
            self.uploads.append(place)
            if kind == "run":
                self.runs[owner].files[rest[0]] = data
            elif kind == "artifact":
                self.artifacts[owner].files[rest[0]] = data
            else:
                self.artifacts[owner].manifest = json.loads(data)


def _entity(name: str) -> dict[str, str]:
    return {"id": "RQ==", "name": name}


@contextmanager
def serving():
    """Run the stand-in; yields its `Service`."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self._body()
            path = urlsplit(self.path).path
            streamed = re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", path)
            if streamed:
                service.stream(unquote(streamed[1]), json.loads(body))
                self._reply({"limits": {}})
            elif path == "/graphql" and body:
                asked = json.loads(body)
                self._reply({"data": service.answer(asked["query"], asked.get("variables") or {})})
            else:
                self._reply({})

        def do_PUT(self) -> None:
            service.store(unquote(urlsplit(self.path).path.removeprefix("/storage/")), self._body())
            self._reply({})

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "") == "chunked":
                chunks = []
                while size := int(self.rfile.readline(), 16):
                    chunks.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                data = b"".join(chunks)
            else:
                data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                data = gzip.decompress(data)
            return data

        def _reply(self, answer: dict[str, Any]) -> None:
            data = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that was killed leaves its connections; nothing to report."""

    server = Server(("127.0.0.1", 0), Handler)
    service.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.release.set()
        server.shutdown()
        server.server_close()
