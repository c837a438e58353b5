"""A PostgreSQL of its own on this machine, in a folder, with a password."""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

from fairloop.packages import is_installed

OWNER = "postgres"
"""Who runs it where the tests are root's: it refuses to be."""


def programs() -> Path | None:
    """Return the folder of initdb and postgres: Debian puts them on no path."""
    found = [place for place in Path("/usr/lib/postgresql").glob("*/bin") if (place / "initdb").exists()]
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else max(found, default=None)


def missing() -> str:
    """Return why it cannot be set up here; empty if it can."""
    if programs() is None:
        return "not installed: postgresql (apt-get install --no-install-recommends postgresql)"
    return "" if is_installed("psycopg") else "not installed: psycopg (pip install 'psycopg[binary]')"


@contextmanager
def database(folder: Path):
    """Start it below an empty folder; yield the address of an empty database, and stop it at the end."""
    place, password = programs(), secrets.token_hex(8)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    user = {"user": OWNER, "group": pwd.getpwnam(OWNER).pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
    (folder / "password").write_text(password)
    if user:
        for one in (folder, folder / "password"):
            shutil.chown(one, OWNER)
        for above in folder.parents:  # pytest's are for their owner alone
            if above.stat().st_uid == os.getuid() and not above.stat().st_mode & 0o001:
                above.chmod(above.stat().st_mode | 0o011)
    made = ["-D", folder / "data", "-U", "fair", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}", "--no-sync"]
    subprocess.run([place / "initdb", *made], check=True, capture_output=True, cwd=folder, **user)
    command = [place / "postgres", "-D", folder / "data", "-p", str(port), "-k", folder]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "-c", "listen_addresses=127.0.0.1"], stdout=log, stderr=log, cwd=folder, **user
        )
    address = f"postgresql://fair:{password}@127.0.0.1:{port}/postgres"
    try:
        _wait_for(address, folder / "log")
        yield address
    finally:
        process.terminate()  # waits for nobody's connection to end by itself
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(address: str, log: Path) -> None:
    import psycopg

    end = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(address, connect_timeout=5).close()
        except psycopg.OperationalError:
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        else:
            return
