"""The way to a Ray cluster; what is needed here and there loads meanwhile."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from threading import Thread
from typing import Any

LOCAL = "local"
"""The address that stands for a cluster of this machine's cores, which is started and ended here."""
CONNECT, ANSWER = 5.0, 20.0
"""Seconds for a cluster's machine to be reached, and for the cluster to answer; Ray itself tries for minutes."""
HERE, THERE = "rlwatch.offline", "rlwatch.questions"
"""What is loaded while a cluster is reached, and in its processes while this one loads and plans."""
EARLY = 16
"""Processes of a cluster that load at most before it is known how many are needed."""
REMEDY = "`ray status --address ADDRESS` says more; leave ADDRESS out for this machine's cores"


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Ray, connected to the cluster at an address, None where there is no address.

    A cluster that is connected already is used and left as it is.

    Raises: ValueError when Ray is missing; ConnectionError when there is no cluster at the address.
    """
    if address is None:
        yield None
        return
    try:
        import ray  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ValueError("--ray needs Ray, which is not installed: pip install 'rlwatch[ray]'") from error
    if ray.is_initialized():
        yield ray
        return
    loading = Thread(target=import_module, args=[HERE], daemon=True)
    loading.start()
    try:
        _connect(ray, address)
        for _ in range(min(EARLY, int(ray.cluster_resources().get("CPU", 1)))):
            ray.remote(num_cpus=1)(_load).remote()
        loading.join()
        yield ray
    finally:
        ray.shutdown()


def _load() -> None:
    import_module(THERE)


def _connect(ray: Any, address: str) -> None:
    address = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    alone: dict[str, Any] = {"include_dashboard": False} if address == LOCAL else {}
    before = dict(os.environ)
    if alone:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody unless asked for
        os.environ.setdefault("RAY_preload_python_modules", THERE)
    else:
        _check_answer(address)
    try:
        ray.init(address, log_to_driver=False, logging_level="warning", **alone)
    except ray.exceptions.RayError as error:
        raise ConnectionError(f"expected a Ray cluster at {address}, got none ({error}): {REMEDY}") from error
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]


def _check_answer(address: str) -> None:
    """Raises: ConnectionError when nothing answers as a cluster does."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit():
        return  # Ray says at once what is wrong with it
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"expected a Ray cluster at {address}, got {error}: {REMEDY}") from error
    if "://" in address:
        return
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER, check=False)  # noqa: S603 - ours
    except subprocess.TimeoutExpired as error:
        raise ConnectionError(
            f"expected a Ray cluster at {address}, got no answer in {ANSWER:.0f} s: {REMEDY}"
        ) from error
    if told.returncode:
        said = (told.stderr.strip() or f"status {told.returncode}").splitlines()[-1]
        raise ConnectionError(f"expected a Ray cluster at {address}, got none ({said}): {REMEDY}")
