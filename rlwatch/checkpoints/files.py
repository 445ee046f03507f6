"""Checkpoint files: where they are, and what is in them, read as data whoever wrote them."""

import glob
import io
import json
import os.path
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from rlwatch.atari.probe_file import members
from rlwatch.checkpoints import plain_pickle
from rlwatch.checkpoints.inside import number, step_in
from rlwatch.checkpoints.steps import Placed, placed
from rlwatch.folders import files_below

SUFFIXES = (".pt", ".pth", ".cleanrl_model", ".zip", ".d3")
OTHERS = {"resume.pt", "target_model.pt", "optimizer.pt"}
"""Files beside a checkpoint that have its suffix."""
MAX_BYTES = 2**30
"""Bytes that a file may hold once inflated; a Nature DQN holds 7 MB, a Rainbow 60 MB."""

LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""What torch's own form without an archive begins with: a pickle of its magic number."""

Content = Mapping[str, Any]


def placed_files(paths: Iterable[str | Path]) -> list[Placed]:
    """The checkpoint files named, matched by a pattern, or held by a folder or run, in the order of `steps.placed`.

    Raises: FileNotFoundError when a pattern matches nothing, or a folder holds none; PermissionError when one cannot be
    looked into; ValueError when a path is empty, or one folder holds a step twice.
    """
    found = {os.path.abspath(file): file for file in _found(paths)}  # noqa: PTH100 - a link is a file of its own
    return placed({file: step_inside(file) for file in found.values()})


def _found(paths: Iterable[str | Path]) -> Iterator[Path]:
    for told in paths:
        if not str(told).strip():
            raise ValueError(f"expected files, folders or patterns, got {told!r}: name one, this folder is '.'")
        path = Path(told)
        if path.is_dir():
            yield from _inside(path)
        elif path.exists() or not glob.has_magic(str(path)):
            yield path
        else:
            matched = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - patterns may be absolute
            yield from _found(matched or [_nothing(path)])


def read(path: Path) -> Content:
    """What a checkpoint file holds: tensors, arrays and plain values by name. Nothing of it is executed.

    Raises: ValueError when it cannot be read so, or inflates to more than MAX_BYTES.
    """
    try:
        content = _content(path)
    except PermissionError as error:
        raise ValueError(f"{path} cannot be opened ({error.strerror}): allow it to be read") from error
    except Exception as error:
        raise ValueError(
            f"{path} is no readable checkpoint ({_reason(error)}): expected a file of torch.save that holds only "
            "tensors and plain values, or a checkpoint of a known framework; copy it again if it is truncated, or save "
            "network.state_dict()"
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(  # noqa: TRY004 - it is the file that is wrong, not the caller's type
            f"{path} holds a {type(content).__name__}, expected a state dict: save network.state_dict()"
        )
    return content


def step_inside(path: Path) -> int:
    """The step that a file says, -1 where it says none or is no whole file, which is told when it is read."""
    try:
        return int(number(int, "step", _described(path)))
    except Exception:  # noqa: BLE001 - a broken file raises whatever its first broken part raises
        return -1


def _described(path: Path) -> Any:
    if not path.is_file() or path.stat().st_size > MAX_BYTES:  # a pipe can be read but once
        return -1
    if not zipfile.is_zipfile(path):
        return step_in(dict(plain_pickle.loads(path.read_bytes())))
    with zipfile.ZipFile(path) as archive:
        if sum(info.file_size for info in archive.infolist()) > MAX_BYTES or _is_script(archive):
            return -1
        if "data" in archive.namelist():
            return json.loads(archive.read("data")).get("num_timesteps", -1)
    told = step_in(_loaded(path, "meta"))  # all but the tensors, in a millisecond
    return step_in(_loaded(path, "cpu")) if isinstance(told, Tensor) else told


def torch_content(data: bytes) -> Any:
    """What a file of torch.save holds.

    Raises: ValueError when it is none, holds more than weights and plain values, or too much.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check(archive)
        content = _loaded(io.BytesIO(data), "cpu")
    except Exception as error:  # a broken archive raises whatever its first broken part raises
        raise ValueError(_reason(error)) from error
    tensors = [leaf for leaf in plain_pickle.leaves(content) if isinstance(leaf, Tensor)]
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if total > MAX_BYTES:  # a view may be larger than what it looks at
        raise ValueError(f"its tensors would take {total:,} bytes, expected at most {MAX_BYTES:,}")
    return content


def _loaded(file: Path | io.BytesIO, device: str) -> Any:
    """What torch loads, NumPy's arrays and numbers included, whose names stand for harmless ones meanwhile.

    Torch can be told so from 2.6 on; before, it refuses them.
    """
    stand_ins: list[Any] = [(stand_in, name) for name, stand_in in plain_pickle.NUMPY.items()]
    with torch.serialization.safe_globals(stand_ins) if torch.__version__ >= "2.6" else nullcontext():
        content = torch.load(file, weights_only=True, map_location=device)
    plain_pickle.leaves(content)
    return plain_pickle.filled(content)


def _reason(error: Exception) -> str:
    """What an exception says, where torch's advice is to open the file regardless."""
    named = re.search(r"Unsupported (?:global: GLOBAL|class) (\S+)", str(error))
    if named:
        return f"it names {named[1]}, which is no tensor and no plain value"
    lines = [line.strip() for line in str(error).splitlines() if line and "weights_only" not in line]
    lines.sort(key=lambda line: "WeightsUnpickler error" not in line)  # which torch 2.4 says last
    return lines[0][:200] if lines else type(error).__name__


def _refuse_others(data: bytes) -> None:
    """Raises: ValueError when this is a file of another kind that can be turned into a readable one, with how."""
    if data.startswith(LEGACY):
        raise ValueError("it is as torch saved before 1.6: torch.save(torch.load(FILE), 'model.pt') makes it anew")
    if data[8:10] == b'{"':
        raise ValueError(
            "it is of safetensors: torch.save(safetensors.torch.load_file(FILE), 'model.pt') makes it anew"
        )
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            script = _is_script(archive)
        if script:
            raise ValueError(
                "it is TorchScript: torch.save(torch.jit.load(FILE).state_dict(), 'model.pt') makes it anew"
            )


def _is_script(archive: zipfile.ZipFile) -> bool:
    return any(PurePosixPath(name).name == "constants.pkl" for name in archive.namelist())


def _content(path: Path) -> Any:
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"it holds {path.stat().st_size:,} bytes, expected at most {MAX_BYTES:,}")
    data = path.read_bytes()
    _refuse_others(data)
    if not data.startswith(b"PK"):
        if not data.startswith(b"\x80"):
            raise ValueError("it is neither a zip archive nor a pickle")
        return plain_pickle.loads(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        if "policy.pth" in names:
            _check(archive)
            about = archive.read("data") if "data" in names else b"{}"
            return {"policy": torch_content(archive.read("policy.pth")), "data": about}
        if any(name.endswith(".npy") for name in names):
            _check(archive)
            return members(archive)
    return torch_content(data)


def _check(archive: zipfile.ZipFile) -> None:
    """Look at what torch does not.

    Raises: ValueError when it inflates to too much, a name leads out of it, or a checksum is not that of the bytes.
    """
    infos = archive.infolist()
    total = sum(info.file_size for info in infos)
    if total > MAX_BYTES:
        raise ValueError(f"it inflates to {total:,} bytes, expected at most {MAX_BYTES:,}")
    for info in infos:
        name = PurePosixPath(info.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts:
            raise ValueError(f"its member {info.filename!r} leads out of the archive")
    broken = archive.testzip()
    if broken is not None:
        raise ValueError(f"its member {broken!r} is corrupt: expected other bytes by its checksum")


def _inside(folder: Path) -> list[Path]:
    files = [file for file in files_below(folder) if _is_checkpoint(file)]
    if not files:
        raise FileNotFoundError(
            f"no checkpoint in {folder}: expected files that end in {', '.join(SUFFIXES)}, RLlib's module_state.pkl or "
            "Dopamine's ckpt.N; name files that are called otherwise themselves"
        )
    return files


def _is_checkpoint(file: Path) -> bool:
    if file.name == "module_state.pkl":  # the learner's; there is a copy for each kind of worker
        return file.parent.parent.name == "rl_module" and "learner_group" in file.parts
    named = file.suffix in SUFFIXES or re.fullmatch(r"ckpt\.\d+", file.name) is not None
    return named and file.name not in OTHERS and file.is_file()


def _nothing(pattern: Path) -> Path:
    raise FileNotFoundError(f"nothing matches {pattern}: give files, folders or another pattern")
