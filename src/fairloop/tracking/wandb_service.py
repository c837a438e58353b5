"""The W&B service: where it is, whether it can be reached, and what every run of Fairloop is begun with."""

import base64
import json
import logging
import os
import socket
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from fairloop.errors import UserError
from fairloop.tracking.settings import TrackingSettings

SERVICE = "https://api.wandb.ai"
REACH_SECONDS = 5.0
INIT_SECONDS = 30.0
FINISH_SECONDS = 120.0
ONLINE = "Weights & Biases: online"
OFFLINE_ASKED = "tracking.mode=offline"
NOT_USED = "not used"
MOST_ANSWERED = 65_536

MODES = ("online", "offline", "disabled", "dryrun", "run", "shared")
"""What W&B takes for WANDB_MODE."""

SETTLED = "FAIRLOOP_WANDB_OFFLINE"
"""The environment variable that tells the cells of a command, in any process, why their runs are offline."""

SAID = "FAIRLOOP_WANDB_SAID"
"""The environment variable that tells the cells of a sweep whether one of them has said where its run is."""

_log = logging.getLogger("fairloop.tracking")


def check_variables(mode: str) -> None:
    """Refuse variables of the environment that W&B would stumble over in each cell; any will do without W&B.

    Raises:
        UserError: WANDB_MODE is no mode, or WANDB_BASE_URL is no address.
    """
    if mode == "none":
        return
    chosen, address = os.environ.get("WANDB_MODE"), os.environ.get("WANDB_BASE_URL")
    if chosen and chosen not in MODES:
        raise UserError.of("WANDB_MODE", chosen, f"allowed is one of {', '.join(MODES)}")
    if address:
        try:
            parts = urlsplit(address)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise UserError.of("WANDB_BASE_URL", address, f"allowed is an address such as {SERVICE}")


def settle_offline(mode: str, runs_dir: str) -> None:
    """Find out once, for all cells of a command, whether their runs are offline, and say so in one line."""
    os.environ[SAID] = ""
    if agents_run() is not None:
        return
    unused = reason_not_to_track(mode)
    reason = unused or reason_to_stay_offline(mode)
    if reason is None:
        return
    os.environ[SETTLED] = reason
    if unused is not None:
        _log.info("Weights & Biases: %s", unused)
        return
    places = f"{runs_dir}/*/*/wandb {runs_dir}/.sweeps/wandb"
    level = logging.INFO if reason == OFFLINE_ASKED else logging.WARNING
    _log.log(level, "Weights & Biases: offline (%s); upload with: wandb sync %s", reason, places)


def reason_not_to_track(mode: str) -> str | None:
    """Return why nothing at all is written for Weights & Biases, None if something is.

    `WANDB_MODE=disabled` is the switch of W&B itself, and goes before `tracking.mode`.
    """
    if os.environ.get("WANDB_MODE") == "disabled":
        return f"{NOT_USED} (WANDB_MODE=disabled)"
    return f"{NOT_USED} (tracking.mode=none)" if mode == "none" else None


def reason_to_stay_offline(mode: str) -> str | None:
    """Return why a run is logged offline, None if it can be online. Asks the network for five seconds at most.

    The service is asked who the user is: one that answers and refuses (a wrong key, an error, a page of a proxy) would
    otherwise be found only after half a minute in each cell.
    """
    if mode == "offline":
        return OFFLINE_ASKED
    if mode == "auto" and os.environ.get("WANDB_MODE") in ("offline", "dryrun"):
        return f"WANDB_MODE={os.environ['WANDB_MODE']}"
    if SETTLED in os.environ:
        return os.environ[SETTLED]
    address = service_address()
    key = _key_of(address)
    if key is None and not os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return "no API key"
    if not _is_reachable(address):
        return f"{address} cannot be reached"
    return None if key is None else _refusal(address, key)


def _refusal(address: str, key: str) -> str | None:
    """Return why the service takes no run from the owner of a key, None if it says who that is."""
    query = json.dumps({"query": "query Viewer { viewer { id } }", "variables": {}}).encode()
    credentials = base64.b64encode(f"api:{key}".encode()).decode()
    headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json", "User-Agent": "fairloop"}
    try:
        request = Request(f"{address}/graphql", query, headers)
        with urlopen(request, timeout=REACH_SECONDS) as answer:
            body = answer.read(MOST_ANSWERED)
    except HTTPError as error:
        return f"{address} refused: HTTP {error.code}" + (", is the API key right?" if error.code in (401, 403) else "")
    except TimeoutError:
        return f"{address} did not answer within {REACH_SECONDS:g} s"
    except (OSError, HTTPException, ValueError) as error:
        silent = isinstance(getattr(error, "reason", None), TimeoutError)
        return f"{address} did not answer" + (f" within {REACH_SECONDS:g} s" if silent else f": {in_one_line(error)}")
    try:
        data = json.loads(body)["data"]
        return None if data["viewer"] else f"{address} does not know the API key"
    except (ValueError, LookupError, TypeError):
        return f"{address} did not answer as W&B does"


def service_address() -> str:
    """Return the address of the service, as W&B itself finds it."""
    address = os.environ.get("WANDB_BASE_URL")
    if not address:
        import configparser

        parser = configparser.ConfigParser(interpolation=None)
        folder = Path(os.environ.get("WANDB_CONFIG_DIR") or Path.home() / ".config" / "wandb")
        try:
            parser.read(folder / "settings")
            address = parser.get("default", "base_url", fallback="")
        except configparser.Error:
            address = ""
    return (address or SERVICE).rstrip("/")


def is_first_rank() -> bool:
    """Tell whether this process is the one of a distributed job that tracks."""
    return all(os.environ.get(rank, "0") in ("", "0") for rank in ("RANK", "LOCAL_RANK"))


def agents_run() -> str | None:
    """Return the id of the run that a `wandb agent` made for this process; None outside a W&B sweep."""
    return os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None


def run_settings(chosen: TrackingSettings, *, of_a_cell: bool = True) -> Any:
    """Return the settings of a run: no console, no code, no host name, bounded waiting, and what was chosen to be kept.

    A run that is not of a cell is over at once: it has no load to show, and nothing to be installed for.
    """
    import wandb

    return wandb.Settings(
        silent=True,
        console="off",
        save_code=False,
        disable_code=True,
        host="",
        disable_git=not chosen.git,
        x_disable_stats=not (chosen.system_metrics and of_a_cell),
        x_disable_machine_info=not chosen.command,
        x_save_requirements=chosen.packages and of_a_cell,
        init_timeout=INIT_SECONDS,
        finish_timeout=FINISH_SECONDS,
    )


def end_streams() -> None:
    """End W&B's service process, and with it the stream that a refused `init` left open: it would hold the run's id."""
    import wandb

    wandb.teardown()


def in_one_line(error: BaseException) -> str:
    """Return an error's message as one line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:300]


def _key_of(address: str) -> str | None:
    if os.environ.get("WANDB_API_KEY"):
        return os.environ["WANDB_API_KEY"]
    import netrc

    places = [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]
    for place in places:
        try:
            found = netrc.netrc(Path(place).expanduser()).authenticators(urlsplit(address).netloc)
        except (OSError, netrc.NetrcParseError):
            continue
        if found and found[2]:
            return found[2]
    return None


def _is_reachable(address: str) -> bool:
    from urllib.request import getproxies, proxy_bypass

    url = urlsplit(address)
    proxy = getproxies().get(url.scheme)
    if proxy and not proxy_bypass(url.netloc):
        url = urlsplit(proxy if "//" in proxy else f"//{proxy}", scheme="http")
    try:
        port = url.port or (443 if url.scheme == "https" else 80)
        with socket.create_connection((url.hostname or "", port), timeout=REACH_SECONDS):
            return True
    except (OSError, ValueError):
        return False
