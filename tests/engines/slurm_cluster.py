"""A SLURM of two nodes on this machine, in a folder of its own: munged, slurmctld, two slurmd, and slurmdbd if asked.

Needs root, and Debian's packages `slurm-wlm` and `munge`; with accounting also `slurmdbd` and `mariadb-server`.
"""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

NODES = ("one", "two")

CONFIGURATION = """
ClusterName=trial
SlurmctldHost=localhost
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.sock,cred_expire=10
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
KillWait=3
NodeName=one NodeHostName=localhost NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=4000
NodeName=two NodeHostName=localhost NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=4000
PartitionName=small Nodes=one,two Default=YES MaxTime=60 State=UP
{accounting}
"""
ACCOUNTING = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={port}
AccountingStoragePass={folder}/run/munge.sock
"""
DATABASE = """
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.sock
DbdHost=localhost
DbdPort={port}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
"""


def missing(*, accounting: bool) -> str:
    """Return why such a cluster cannot be set up here; empty if it can."""
    needed = {"slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "sbatch": "slurm-wlm", "munged": "munge"}
    if accounting:
        needed |= {"slurmdbd": "slurmdbd", "mariadbd": "mariadb-server"}
    lacks = sorted({package for command, package in needed.items() if shutil.which(command) is None})
    if lacks:
        return f"not installed: {' '.join(lacks)} (apt-get install --no-install-recommends {' '.join(lacks)})"
    return "" if os.getuid() == 0 else "SLURM's daemons are started by root"


@dataclass
class Cluster:
    """A cluster that runs."""

    folder: Path
    environment: dict[str, str]

    def ask(self, *command: str, check: bool = True) -> str:
        environment = {**os.environ, **self.environment}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
        assert not check or done.returncode == 0, (command, done.stderr)
        return done.stdout.strip()

    def states(self) -> dict[str, tuple[str, str]]:
        """Return state and node of every job by its number (`12_3`), as the queue has them."""
        lines = self.ask("squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%N").splitlines()
        return {job: (state, node) for job, state, node in (line.split("|") for line in lines)}

    def wait_for(self, said, seconds: float = 900):
        """Return what `said()` returns as soon as that is something."""
        end = time.monotonic() + seconds
        while not (found := said()):
            assert time.monotonic() < end, self.logs()
            time.sleep(0.1)
        return found

    def logs(self) -> str:
        tails = [f"{path.name}: {path.read_text(errors='replace')[-600:]}" for path in self.folder.glob("*.log")]
        return "\n".join([*tails, self.ask("squeue", "--array", "--states=all", check=False)])


@contextmanager
def cluster(folder: Path, *, accounting: bool):
    """Start a cluster below an empty folder, and stop all of it at the end."""
    ports = _ports(4)
    run = folder / "run"
    run.mkdir()
    (folder / "state").mkdir()
    for node in NODES:
        (folder / f"spool-{node}").mkdir()
    stored = (
        ACCOUNTING.format(port=ports[3], folder=folder)
        if accounting
        else "AccountingStorageType=accounting_storage/none"
    )
    (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder, ports=ports, accounting=stored))
    made = Cluster(folder, {"SLURM_CONF": str(folder / "slurm.conf")})
    with ExitStack() as daemons:
        _munged(daemons, run)
        if accounting:
            _database(daemons, folder, ports[3])
        _start(daemons, made, "slurmctld", "-D")
        if accounting:
            made.wait_for(lambda: "trial" in made.ask("sacctmgr", "-n", "list", "cluster", check=False))
        for node in NODES:
            _start(daemons, made, "slurmd", "-D", "-N", node)
        made.wait_for(lambda: made.ask("sinfo", "-h", "-t", "idle", "-o", "%D", check=False) == str(len(NODES)))
        yield made
        made.ask("scancel", "--partition=small", "--signal=KILL", "--full", check=False)
        made.ask("scancel", "--partition=small", check=False)
        made.wait_for(lambda: not made.ask("squeue", "-h"), 300)


def _ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _start(daemons: ExitStack, made: Cluster, *command: str, **options) -> subprocess.Popen:
    """Start a daemon in the foreground, ended with its children when the cluster is."""
    environment = {**os.environ, **made.environment}
    log = daemons.enter_context((made.folder / f"{command[0]}-{len(list(made.folder.glob('*.out')))}.out").open("wb"))
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **options)
    daemons.callback(_stop, process)
    return process


def _stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _munged(daemons: ExitStack, run: Path) -> None:
    """Start munged as its own user, with a key of its own."""
    user = pwd.getpwnam("munge")
    (run / "munge.key").write_bytes(secrets.token_bytes(128))
    for place in (run, run / "munge.key"):
        os.chown(place, user.pw_uid, user.pw_gid)
    (run / "munge.key").chmod(0o400)
    run.chmod(0o755)
    for folder in run.parents:  # pytest's are for their owner alone
        if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    files = [f"--{name}-file={run}/munged.{name}" for name in ("pid", "log", "seed")]
    command = ["munged", "--foreground", f"--key-file={run}/munge.key", f"--socket={run}/munge.sock", *files]
    _start(daemons, Cluster(run.parent, {}), *command, user=user.pw_uid, group=user.pw_gid, extra_groups=[])
    _until(lambda: (run / "munge.sock").exists())


def _database(daemons: ExitStack, folder: Path, port: int) -> None:
    """Start a database that only its socket leads to, and slurmdbd on it."""
    home, socket_file = folder / "database", folder / "run" / "mariadb.sock"
    options = [f"--datadir={home}", "--user=root"]
    subprocess.run(
        ["mariadb-install-db", "--no-defaults", *options, "--auth-root-authentication-method=normal"],
        check=True,
        capture_output=True,
    )
    os.chmod(folder / "run", 0o777)  # noqa: PTH101
    plain = Cluster(folder, {})
    buffer = "--innodb-buffer-pool-size=64M"
    _start(
        daemons, plain, "mariadbd", "--no-defaults", *options, "--skip-networking", buffer, f"--socket={socket_file}"
    )
    _until(lambda: socket_file.exists())
    configuration = folder / "slurmdbd.conf"
    configuration.write_text(DATABASE.format(folder=folder, port=port))
    configuration.chmod(0o600)
    _start(daemons, Cluster(folder, {"SLURM_CONF": str(folder / "slurm.conf"), "MYSQL_UNIX_PORT": str(socket_file)}),
           "slurmdbd", "-D")  # fmt: skip
    _until(lambda: "started" in _read(folder / "slurmdbd.log"))


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _until(true, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)
