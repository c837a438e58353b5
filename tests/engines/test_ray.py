"""A sweep over a Ray of three nodes on this machine, one of which dies in the middle."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import slow_cells
from slow_cells import start

from fairloop.packages import is_installed

OPEN = {"RAY_AUTH_MODE": "disabled", **slow_cells.PATIENT_RAY}
"""A head asks for a token unless it is told not to, and nodes and commands have one only if they are told so."""

pytestmark = [
    pytest.mark.skipif(not is_installed("hydra_plugins.hydra_ray_launcher"), reason="the extra `ray` is not installed"),
]


def processes(*marks):
    """Return the processes whose command lines hold all of these, by their numbers."""
    found = {}
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            line = place.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if all(mark in line for mark in marks):
                found[int(place.parent.name)] = line
    return found


def parent(process):
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def until(true, seconds=900):
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def cells_of(node):
    """Return the processes in which a node runs cells now."""
    return [worker for worker in processes("ray::_run_job") if parent(worker) in raylet(node)]


def raylet(node):
    return list(processes("raylet/raylet ", f"{node},1"))


@pytest.fixture
def address(tmp_path):
    """Start a head without processors and two nodes with one each, in a folder of their own; yield the address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    home = Path(f"/tmp/fl-ray-{os.getpid()}")  # the names of its sockets may not be long
    ray = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
    size = ["--object-store-memory=80000000", f"--temp-dir={home}"]
    with ExitStack() as stack, (tmp_path / "ray.log").open("wb") as log:
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        stack.callback(lambda: [os.kill(left, signal.SIGKILL) for left in processes(str(home))])

        def node(*options):
            environment = {**os.environ, **OPEN}
            command = [*ray, *size, *options]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
            stack.callback(process.wait, 60)
            stack.callback(process.terminate)

        node("--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false")
        # Its port answers before it knows itself, and a node that asks for it then ends.
        until(lambda: "Ray runtime started" in (tmp_path / "ray.log").read_text())
        for name in ("left", "right"):
            node(f"--address=127.0.0.1:{port}", "--num-cpus=1", f'--resources={{"{name}": 1}}')
            until(lambda name=name: raylet(name))
        yield f"127.0.0.1:{port}"


def test_a_node_dies_and_its_cell_is_computed_by_another(address, grid, finished, tmp_path):
    launcher = ["hydra/launcher=fairloop_ray", f"hydra.launcher.ray.init.address={address}"]
    process = start("-m", *grid, *launcher, cwd=tmp_path, env=OPEN)
    until(lambda: cells_of("left") and cells_of("right") and len(slow_cells.locked(tmp_path / "runs")) == 2)
    (doomed,) = raylet("left")
    os.kill(doomed, signal.SIGKILL)
    out, err = process.communicate(timeout=1800)
    assert process.returncode == 0, err
    assert not raylet("left")
    assert slow_cells.complete(tmp_path / "runs") == finished
    assert slow_cells.locked(tmp_path / "runs") == []
    assert len(re.findall(r" complete ", out[out.index("Cells") :])) == 6
    assert "as many cells at once as there is room for, 1 processor thread each" in out


def test_an_address_where_nobody_answers_is_one_line(grid, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    key = "hydra.launcher.ray.init.address"
    process = start("-m", *grid, "hydra/launcher=fairloop_ray", f"{key}=127.0.0.1:{port}", cwd=tmp_path)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 2
    assert re.fullmatch(rf"fairloop: {key}=127\.0\.0\.1:{port}: nobody answers there \(.*\); is `ray start .*\n", err)
    assert not (tmp_path / "runs").exists()
    process = start("-m", *grid, "hydra/launcher=fairloop_ray", f"{key}=auto", cwd=tmp_path)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 2
    assert err.count("\n") == 1
    assert f"{key}=auto: Could not find any running Ray instance" in err
