"""The W&B service: where it is, whether it can be reached, and what every run of Fairloop is begun with."""

import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SERVICE = "https://api.wandb.ai"
REACH_SECONDS = 3.0
INIT_SECONDS = 30.0
FINISH_SECONDS = 120.0


def reason_to_stay_offline(mode: str) -> str | None:
    """Return why a run is logged offline, None if it can be online. Asks the network for three seconds at most."""
    if mode == "offline":
        return "tracking.mode=offline"
    if mode == "auto" and os.environ.get("WANDB_MODE") in ("offline", "dryrun", "disabled"):
        return f"WANDB_MODE={os.environ['WANDB_MODE']}"
    address = service_address()
    if not _has_key(address):
        return "no API key"
    if not _is_reachable(address):
        return f"{address} cannot be reached"
    return None


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


def quiet_settings() -> Any:
    """Return the settings of a run: no console, no statistics of the machine, bounded waiting."""
    import wandb

    return wandb.Settings(
        silent=True,
        console="off",
        save_code=False,
        disable_code=True,
        disable_git=True,
        host="",
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        init_timeout=INIT_SECONDS,
        finish_timeout=FINISH_SECONDS,
    )


def in_one_line(error: BaseException) -> str:
    """Return an error's message as one line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:300]


def _has_key(address: str) -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    import netrc

    places = [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]
    for place in places:
        try:
            found = netrc.netrc(Path(place).expanduser()).authenticators(urlsplit(address).netloc)
        except (OSError, netrc.NetrcParseError):
            continue
        if found and found[2]:
            return True
    return False


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
