"""Real servers on the loopback: started, waited for, killed, started again; skipped where they are not installed."""

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-engines" / "bin" / "python"
CHAT, BASE = "embedded:smollm2-135m-instruct", "embedded:gemma-3-270m"
PATIENCE = 1200  # seconds until a server answers, on a busy machine


def engines_python(package):
    """Return the interpreter of the engines' environment, or skip with the reason."""
    if not PYTHON.exists():
        pytest.skip("make engines has not installed .venv-engines")
    found = subprocess.run([PYTHON, "-c", f"import importlib.util as u; assert u.find_spec('{package}')"], check=False)
    if found.returncode:
        pytest.skip(f".venv-engines has no {package}: make engines")
    return str(PYTHON)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    """A server's process, in a session of its own so that its workers end with it."""

    def __init__(self, command, port, log, **variables):
        self.command, self.port, self.log, self.variables = [*map(str, command)], port, Path(log), variables
        self.url, self.process = f"http://127.0.0.1:{port}/v1", None

    def start(self):
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OMP_NUM_THREADS")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**kept, "HF_HUB_OFFLINE": "1", **self.variables},
                start_new_session=True,
            )
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                # llama.cpp answers 503 while it loads.
                if httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=5.0, trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(1.0)
        raise AssertionError(f"no answer after {PATIENCE} s: {self.log.read_text()[-3000:]}")

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextmanager
def running(command, port, log, **variables):
    server = Server(command, port, log, **variables)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def converted(name):
    """Return the folder of a packaged model as Fairloop converts it, for servers that read safetensors."""
    from fairloop.plm.embedded import locate_embedded

    return locate_embedded(name)


def packed(name, folder):
    """Return a packaged model's GGUF file, put together from its parts, for servers that read that."""
    from fairloop.plm.embedded import embedded_model, find_part

    path = folder / f"{name.partition(':')[2]}.gguf"
    with path.open("wb") as whole:
        for part in embedded_model(name).parts:
            whole.write(find_part(part).read_bytes())
    return path


def on_path(name):
    return shutil.which(name)
