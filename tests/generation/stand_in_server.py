"""A server on the loopback that answers as a test says, and remembers what it was asked."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Asked:
    """One request as it arrived."""

    def __init__(self, handler):
        length = int(handler.headers.get("Content-Length", 0))
        self.path, self.headers, self.time = handler.path, dict(handler.headers), time.monotonic()
        self.body = json.loads(handler.rfile.read(length) or "{}")
        self.handler = handler

    @property
    def prompt(self):
        return self.body["prompt"] if "prompt" in self.body else self.body["messages"][-1]["content"]


class StandIn(ThreadingHTTPServer):
    """`answer(asked)` returns a text, (status, headers, body), or None if it wrote the response itself.

    With `models`, questions for the list of models are answered by these names, and not remembered.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer, models=()):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.models, self.asked, self.most = answer, models, [], 0
        self.lock, self.at_work = threading.Lock(), 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request, client_address):
        pass  # clients that hang up are part of the tests


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        server, asked = self.server, Asked(self)
        if server.models and asked.path == "/v1/models":
            self.respond(200, {}, json.dumps({"data": [{"id": name} for name in server.models]}).encode())
            return
        with server.lock:
            server.asked.append(asked)
            server.at_work += 1
            server.most = max(server.most, server.at_work)
        try:
            answer = server.answer(asked)
        finally:
            with server.lock:
                server.at_work -= 1
        if answer is None:
            self.close_connection = True
            return
        self.respond(*(answer if isinstance(answer, tuple) else (200, {}, completion(asked, answer))))

    do_GET = do_POST  # noqa: N815

    def respond(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def completion(asked, text, finish="stop", prompt_tokens=100, tokens=7):
    """Build the body of an answer as the servers word it."""
    chat = asked.path.endswith("/chat/completions")
    said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": tokens, "total_tokens": prompt_tokens + tokens}
    return json.dumps({"choices": [{"index": 0, "finish_reason": finish, **said}], "usage": usage}).encode()


@contextmanager
def serving(answer, models=()):
    """Run a stand-in while the block runs."""
    server = StandIn(answer, models)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
