"""A W&B service that answers and refuses: a real server on the loopback that misbehaves; the runs are kept offline."""

import json
import logging
import os
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from test_tracking_wandb import check_run, said, study
from wandb_reader import offline_runs

from fairloop.catalogue import catalogue
from fairloop.tracking import wandb_service
from fairloop.tracking.settings import TrackingSettings
from fairloop.tracking.store import Cell
from fairloop.tracking.wandb_run import WandbTracker
from fairloop.tracking.wandb_sweep import begin_sweep, log_sweep

VIEWER = {"data": {"viewer": {"id": "VQ==", "entity": "lab", "username": "me", "flags": "{}", "teams": {"edges": []}}}}
PAGE = b"<html><title>Sign in to the hotel's network</title></html>"

# What a service does with a request: status and body; None closes the connection, "silent" never answers.
KINDS = {
    "a wrong key": ((401, b'{"errors":[{"message":"permission denied"}]}'), "HTTP 401, is the API key right?"),
    "an error of its own": ((500, b"Internal Server Error"), "HTTP 500"),
    "a page": ((200, PAGE), "did not answer as W&B does"),
    "an unknown key": ((200, b'{"data": {"viewer": null}}'), "does not know the API key"),
    "a closed connection": (None, "did not answer"),
    "silence": ("silent", "did not answer within 1 s"),
}


@contextmanager
def misbehaving(first, later=None):
    """Serve on the loopback: `first` to the question who the user is, `later` (default: the same) to all else."""
    released, asked = threading.Event(), []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked.append(body)
            kind = first if later is None or b"viewer {" in body else later
            if kind == "silent":
                released.wait(60)
            if kind in (None, "silent"):
                self.close_connection = True
                return
            status, answer = kind
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_PUT = do_POST  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        released.set()
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def account(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    for name in ("CONFIG", "DATA", "CACHE"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name.lower()))
    monkeypatch.setattr(wandb_service, "REACH_SECONDS", 1.0)
    monkeypatch.setattr(wandb_service, "INIT_SECONDS", 4.0)


def cells(tmp_path):
    return [Cell.open(tmp_path / "runs", "recursion", {"seed": 1, "cell": n}, {"seed": 1}) for n in range(2)]


@pytest.mark.parametrize(("kind", "says"), KINDS.values(), ids=KINDS.keys())
def test_a_service_that_refuses_is_found_at_once_and_the_run_is_offline(tmp_path, monkeypatch, caplog, kind, says):
    caplog.set_level(logging.INFO, "fairloop.tracking")
    with misbehaving(kind) as (address, asked):
        monkeypatch.setenv("WANDB_BASE_URL", address)
        began = time.monotonic()
        study(cells(tmp_path)[0], TrackingSettings(sweep="sweep-1"))
        assert len(asked) == 1
        assert time.monotonic() - began < 20
    check_run(cells(tmp_path)[0])
    (line,) = said(caplog)
    assert line.startswith(f"Weights & Biases: offline ({address} ")
    assert says in line


def test_a_service_that_knows_the_user_and_takes_no_run_costs_one_attempt_and_no_run(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "fairloop.tracking")
    refusal = (403, json.dumps({"errors": [{"message": "permission denied"}]}).encode())
    with misbehaving((200, json.dumps(VIEWER).encode()), refusal) as (address, asked):
        monkeypatch.setenv("WANDB_BASE_URL", address)
        for cell in cells(tmp_path):
            study(cell, TrackingSettings(sweep="sweep-1"))
            tries = len(asked)
        assert len(asked) == tries
    for cell in cells(tmp_path):
        check_run(cell)
    (line,) = said(caplog)
    assert "offline (the service refused: " in line


def test_a_command_asks_once_for_all_its_cells(monkeypatch, caplog, tmp_path):
    caplog.set_level(logging.INFO, "fairloop.tracking")
    with misbehaving((500, b"")) as (address, asked):
        monkeypatch.setenv("WANDB_BASE_URL", address)
        wandb_service.settle_offline("auto", "runs")
        for cell in cells(tmp_path):
            study(cell, TrackingSettings(sweep="sweep-1"))
        assert len(asked) == 1
    (line,) = said(caplog)
    assert line.endswith("HTTP 500); upload with: wandb sync runs/*/*/wandb runs/.sweeps/wandb")


def test_a_sweep_names_the_run_of_one_of_its_cells_where_the_service_is_online(monkeypatch, caplog, tmp_path):
    monkeypatch.setenv(wandb_service.SAID, "")  # as `settle_offline` leaves it
    caplog.set_level(logging.INFO, "fairloop.tracking")
    run = SimpleNamespace(url="https://wandb.example/lab/fairloop/runs/1")
    monkeypatch.setattr(WandbTracker, "_begin", lambda tracker, mode: setattr(tracker, "_run", run))
    for cell in cells(tmp_path):
        WandbTracker(cell, TrackingSettings(), {}, catalogue(), (), cell.key, "a group").start(None)
    assert said(caplog) == [f"Weights & Biases: online, {run.url}"]
    monkeypatch.delenv(wandb_service.SAID)
    for cell in cells(tmp_path):
        WandbTracker(cell, TrackingSettings(), {}, catalogue(), (), cell.key, "a group").start(None)
    assert len(said(caplog)) == 3  # commands of one cell each say so


def test_a_service_that_takes_no_run_is_found_before_the_cells_of_a_sweep(tmp_path, monkeypatch, caplog):
    """In whatever processes the cells run: they find it settled in their environment, and all runs are offline."""
    caplog.set_level(logging.INFO, "fairloop.tracking")
    refusal = (403, json.dumps({"errors": [{"message": "permission denied"}]}).encode())
    settings, both = TrackingSettings(sweep="sweep-1"), cells(tmp_path)
    with misbehaving((200, json.dumps(VIEWER).encode()), refusal) as (address, asked):
        monkeypatch.setenv("WANDB_BASE_URL", address)
        wandb_service.settle_offline("auto", "runs")
        begin_sweep(settings, both)
        assert "WANDB_SERVICE" not in os.environ
        tries = len(asked)
        for cell in both:
            study(cell, settings)
        log_sweep(settings, both, catalogue())
        assert len(asked) == tries
    (line,) = said(caplog)
    assert "offline (the service refused: " in line
    folders = offline_runs(tmp_path / "runs")
    assert [folder.name.partition("-")[0] for folder in folders] == ["offline"] * 3
