"""The worker's process: how it begins, and how much of the machine it uses."""

import os
import subprocess
import sys
import time
from pathlib import Path


def launched(*descriptors: int) -> subprocess.Popen[bytes]:
    """The worker's process, which gets these files. Not by multiprocessing, which would run the training's script anew.

    Raises: OSError when it cannot be started.
    """
    import fcntl  # noqa: PLC0415 - Unix has it, and checkpoints inline are for all

    own = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 3) for one in descriptors]  # 0 to 2 are the worker's streams
    told = (*own, os.getpid())
    code = "import sys; sys.path[:] = filter(None, sys.path)"  # the training's own path, without where it stands
    command = [sys.executable, "-c", f"{code}; from rlwatch.monitor.worker import serve; serve{told}"]
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    try:
        return subprocess.Popen(  # noqa: S603 - our own code
            command,
            pass_fds=own,
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # an interrupt at the keyboard is the training's
        )
    finally:
        for one in own:
            os.close(one)


def seconds_of_all() -> float:
    """What this process has used of the processor, as a part of all cores: so far it can slow a training beside it."""
    return time.process_time() / cores()


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
