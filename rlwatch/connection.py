"""The way to a Ray cluster; what is needed here and there loads meanwhile."""

import gc
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any

from rlwatch.loading import loaded

LOCAL = "local"
"""The address that stands for a cluster of this machine's cores, which is started and ended here."""
ANSWER = 10.0
"""Seconds for a cluster's machine to be reached, and for the cluster to answer; Ray itself tries for minutes."""
HERE, THERE = "rlwatch.offline", "rlwatch.questions"
"""What is loaded while a cluster is reached, and in its processes while this one loads and plans."""
EARLY = 16
"""Processes of a cluster that load at most before it is known how many are needed."""
GREETING, SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]), b"\x04"
"""What is said to a gRPC server, as a cluster has, and the fourth byte of its answer: frames of settings (RFC 9113)."""
ADMITTED = "set RAY_AUTH_MODE=token where it was started with a token, which must be here too"
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
    loading = Thread(target=loaded, args=[HERE], daemon=True)
    loading.start()
    try:
        _connect(ray, address)
        if address == LOCAL:
            _forgo_scaling(ray)
        load = ray.remote(num_cpus=1)(_load)
        for _ in range(min(EARLY, int(ray.cluster_resources().get("CPU", 1)))):
            load.remote()
        loading.join()
        yield ray
    finally:
        ray.shutdown()


def _forgo_scaling(ray: Any) -> None:
    """End what would add machines to a cluster of our own, as `ray start --no-monitor` does: Ray's end waits for it."""
    with suppress(AttributeError):  # Ray has no public name for it
        ray._private.worker._global_node.kill_monitor()  # noqa: SLF001


def _load() -> None:
    loaded(THERE)
    gc.freeze()  # nor is any of it looked at again between checkpoints


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
    except (ray.exceptions.RayError, ConnectionError, ValueError) as error:
        raise ConnectionError(
            f"expected a Ray cluster at {address}, got none ({error}): {ADMITTED}, {REMEDY}"
        ) from error
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]


def _check_answer(address: str) -> None:
    """Raises: ConnectionError when nothing answers as a cluster does."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit():
        return  # Ray says at once what is wrong with it
    greets = "://" not in address and os.environ.get("RAY_USE_TLS", "0") == "0"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), ANSWER) as asked:
            asked.sendall(GREETING if greets else b"")
            got = "something else" if greets and asked.recv(4, socket.MSG_WAITALL)[3:] != SETTINGS else ""
    except TimeoutError:
        got = f"no answer in {ANSWER:.0f} s"
    except (OSError, OverflowError) as error:
        got = str(error)
    if got:
        raise ConnectionError(f"expected a Ray cluster at {address}, got {got}: {REMEDY}")
