"""A stand-in for the Hugging Face Hub on the loopback: enough of its API to create a repository and commit a folder.

What is kept is what was received: files in a commit, and large ones through the storage of Git LFS ("basic"). Xet
storage, permissions of organisations and pages are not there.
"""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from huggingface_hub import ModelCard

KEY = "hf_secret_of_the_test"


@dataclass
class Hub:
    """What the Hub has.

    Attributes:
        url: its address.
        repositories: the files of each by path.
        private: whether each was created as a private one.
        stored: what lies in the storage for large files, by SHA-256.
        refuses: every request is answered with this status; 0: none.
    """

    url: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    refuses: int = 0

    def answer(self, method, path, body, key):
        """Return status and what is answered."""
        if method == "PUT":
            self.stored[hashlib.sha256(body).hexdigest()] = body
            return 200, {}
        if self.refuses:
            return self.refuses, {"error": f"refused, {key}"}
        if key != f"Bearer {KEY}" and not path.startswith("/api/validate-yaml"):
            return 401, {"error": "Invalid username or password."}
        if path.startswith("/api/repos/create"):
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            if name in self.repositories:
                return 409, {"url": f"{self.url}/{name}", "error": "You already created this model repo"}
            self.repositories[name], self.private[name] = (
                {},
                asked.get("private") or asked.get("visibility") == "private",
            )
            return 200, {"url": f"{self.url}/{name}", "name": name, "id": name}
        if path.startswith("/api/validate-yaml"):
            card = ModelCard(json.loads(body)["content"])
            errors = [] if card.data.library_name == "transformers" else [{"message": "no library_name"}]
            return 200, {"errors": errors, "warnings": []}
        return self.commit(path, body)

    def commit(self, path, body):
        parts = path.partition("?")[0].strip("/").split("/")
        name = "/".join(parts[2:4]) if parts[0] == "api" else "/".join(parts[:2]).removesuffix(".git")
        files = self.repositories.get(name)
        if files is None:
            return 404, {"error": "Repository not found"}
        if "preupload" in parts:
            return 200, {"files": [self.way(one, files) for one in json.loads(body)["files"]], "commitOid": "0" * 40}
        if parts[-1] == "batch":
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.url}/storage/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return 200, {"transfer": "basic", "objects": objects}
        if "commit" in parts:
            for line in map(json.loads, body.decode().splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.stored[value["oid"]]
            return 200, {"commitUrl": f"{self.url}/{name}/commit/1", "commitOid": "1" * 40, "hookOutput": ""}
        return 200, {"id": name, "sha": "0" * 40, "siblings": []}

    def way(self, asked, files):
        """Say how a file is to be uploaded, and what is there under its name."""
        path = asked["path"]
        found = files.get(path)
        oid = hashlib.sha1(b"blob %d\0" % len(found) + found).hexdigest() if found is not None else None
        large = path.endswith(".safetensors")
        return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid}


@contextmanager
def served():
    """Yield a Hub that listens on the loopback."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, found = hub.answer(self.command, self.path, body, self.headers.get("Authorization", ""))
            data = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_HEAD = do  # noqa: N815

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
