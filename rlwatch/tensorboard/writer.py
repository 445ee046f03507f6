"""What a checkpoint yields, in TensorBoard: scalars, clips, findings, charts and hyperparameters."""

import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsFloat

from tensorboard.compat.proto.summary_pb2 import (
    DATA_CLASS_BLOB_SEQUENCE,
    DATA_CLASS_SCALAR,
    DATA_CLASS_TENSOR,
    DataClass,
    Summary,
    SummaryMetadata,
)
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.plugins.text import metadata as text_metadata
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import custom_scalars
from torch.utils.tensorboard.summary import hparams as hyperparameters

from rlwatch.report import Report
from rlwatch.tensorboard import tags
from rlwatch.tensorboard.blobs import ACTIONS, MAPS, PLUGIN, PROBE, REPORT, Blobs, compact, rounded
from rlwatch.tensorboard.events import EventFile

_KEPT = (
    "TensorBoard keeps a hundred checkpoints of a clip where rlwatch is installed beside it, else ten: start it with "
    "`--samples_per_plugin images=1000` for more."
)


class RunWriter:
    """Writes one run: into `writer`, which stays its owner's, or into an event file of its own in `logdir`.

    Where a `SummaryWriter` writes the run already, pass it: without its data server, TensorBoard reads the event files
    of a folder one after the other and shows nothing more of an earlier one. For runs that resume, open with
    `purge_step=0` and resume with `purge_step=k`: the steps from k on that a crash left behind are then hidden.

    Raises: OSError when the folder cannot be written; ValueError or TypeError when it is not one of the two.
    """

    def __init__(
        self, writer: SummaryWriter | None = None, logdir: str | Path | None = None, purge_step: int | None = None
    ) -> None:
        if (writer is None) == (logdir is None):
            raise ValueError("RunWriter needs either a writer or a logdir, got both or neither: pass one")
        if isinstance(logdir, str) and not logdir.strip():
            raise ValueError(f"logdir must be a folder, got {logdir!r}: this one is '.'")
        if writer is not None and purge_step is not None:
            raise ValueError("purge_step is for a file of our own, got it with a writer: pass it to that SummaryWriter")
        if writer is not None and not isinstance(writer, SummaryWriter):
            raise TypeError(f"writer must be torch's SummaryWriter, got {type(writer).__name__}: pass logdir instead")
        self._writer = writer
        self._file = EventFile(Path(logdir), purge_step=purge_step) if logdir is not None else None
        self._described: set[str] = set()

    def checkpoint(self, report: Report, clips: Mapping[str, bytes], blobs: Blobs | None = None) -> None:
        """Adds all that a checkpoint yields, and puts it on disk.

        Raises: OSError as `flush` does.
        """
        self.scalars(report.step, report.scalars())
        self.clips(report.step, clips)
        self.findings(report.step, report.markdown())
        self.tab(report, blobs)
        self.flush()

    def completion(self, report: Report) -> None:
        """Adds the costly parts of a checkpoint that is written already, and puts them on disk.

        Raises: OSError as `flush` does.
        """
        known = "rlwatch/validity/", "rlwatch/cost/validity", "rlwatch/cost/actions"
        self.scalars(report.step, {tag: value for tag, value in report.scalars().items() if tag.startswith(known)})
        self.revision(report, report.step)

    def revision(self, report: Report, step: int) -> None:
        """Adds anew what the tab says of a checkpoint that is written already, and in words at `step`; on disk, too.

        Raises: OSError as `flush` does.
        """
        self.findings(step, report.markdown())
        self.tab(report)
        self.flush()

    def retold(self, record: Mapping[str, Any], notes: Sequence[str], step: int) -> None:
        """Adds anew what the tab says of a checkpoint, as it was read, with other notes, and these at `step`; on disk.

        Raises: OSError as `flush` does.
        """
        self.findings(step, "\n".join([f"**step {record['step']:,}**", "", *(f"- note: {note}" for note in notes)]))
        self._own(REPORT, record["step"], [compact({**record, "notes": list(notes)})], DATA_CLASS_TENSOR)
        self.flush()

    def scalars(self, step: int, values: Mapping[str, SupportsFloat]) -> None:
        """Adds one number per tag; NaN and infinity are left out: a gap in the curve, and not a 0."""
        finite = {tag: float(value) for tag, value in values.items() if math.isfinite(value)}
        if finite:
            self._add(
                [Summary.Value(tag=tag, simple_value=value, **self._once(tag)) for tag, value in finite.items()], step
            )

    def clips(self, step: int, gifs: Mapping[str, bytes]) -> None:
        """Adds animated GIFs, each under `rlwatch/clip/<target>`, with what to see in them.

        Raises: ValueError on bytes that are not a GIF.
        """
        for target, gif in gifs.items():
            if not gif.startswith(b"GIF8"):
                raise ValueError(f"clip {target!r} must be a GIF, got bytes beginning with {gif[:4]!r}: use encode_gif")
            width, height = struct.unpack_from("<HH", gif, 6)
            tag = f"rlwatch/clip/{target}"
            metadata = image_metadata.create_summary_metadata(tag, f"{tags.clip_description(target)} {_KEPT}")
            metadata.data_class = DATA_CLASS_BLOB_SEQUENCE
            tensor = _tensor([str(width).encode(), str(height).encode(), gif])
            self._add([Summary.Value(tag=tag, tensor=tensor, metadata=metadata)], step)

    def findings(self, step: int, markdown: str) -> None:
        """Adds a text under `rlwatch/findings`, which the Text tab renders as Markdown, tables too."""
        metadata = text_metadata.create_summary_metadata(
            "rlwatch/findings", "What the monitor found at each checkpoint."
        )
        metadata.data_class = DATA_CLASS_TENSOR
        tensor = TensorProto(dtype=DT_STRING, string_val=[markdown.encode()], tensor_shape=TensorShapeProto())
        self._add([Summary.Value(tag="rlwatch/findings", tensor=tensor, metadata=metadata)], step)

    def tab(self, report: Report, blobs: Blobs | None = None) -> None:
        """Adds what the RLWATCH tab reads: the report, the maps, and with this writer's first maps their probe.

        A writer that resumes a run writes the probe again, at its own first step: a purge may have hidden the first.
        """
        self._own(REPORT, report.step, [compact(record_of(report))], DATA_CLASS_TENSOR)
        if blobs is None:
            return
        if PROBE not in self._described:
            self._described.add(PROBE)
            self._own(PROBE, report.step, blobs.probe, DATA_CLASS_BLOB_SEQUENCE)
        self._own(MAPS, report.step, [blobs.maps], DATA_CLASS_BLOB_SEQUENCE)

    def actions(self, step: int, maps: bytes) -> None:
        """Adds the maps of every action, which only the RLWATCH tab reads."""
        self._own(ACTIONS, step, [maps], DATA_CLASS_BLOB_SEQUENCE)

    def layout(self, objects: Sequence[str], targets: Sequence[str] = ("greedy", "contrast")) -> None:
        """Adds the charts of the Custom Scalars tab, at most four lines in each."""
        self._add(custom_scalars(tags.layout(objects, targets)).value)  # type: ignore[no-untyped-call] # torch's

    def hparams(self, values: Mapping[str, object], metrics: Sequence[str] = ()) -> None:
        """Adds a row of the HParams tab to this run; `metrics` are tags of scalars that stand beside the values."""
        plain = {
            name: value if isinstance(value, bool | int | float | str) else str(value) for name, value in values.items()
        }
        for summary in hyperparameters(plain, dict.fromkeys(metrics, 0.0)):  # type: ignore[no-untyped-call] # torch's
            self._add(summary.value)

    def flush(self) -> None:
        """Puts on disk what was added.

        Raises: OSError when the disk is full or the file is gone; an own file goes on at the next checkpoint.
        """
        if self._file is not None:
            self._flush_own(self._file)
        elif self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Flushes, and closes what this writer has opened; a `SummaryWriter` that was passed in stays open.

        Raises: OSError as `flush` does.
        """
        if self._file is not None:
            self._file.close()
        else:
            self.flush()

    def _flush_own(self, file: EventFile) -> None:
        try:
            file.flush()
        except OSError:
            self._described.clear()  # what is lost may hold the first, described values of a tag
            raise

    def _own(self, tag: str, step: int, strings: Sequence[bytes], kind: "DataClass.ValueType") -> None:
        """Adds strings that only the RLWATCH tab reads."""
        plugin = SummaryMetadata.PluginData(plugin_name=PLUGIN)
        metadata = SummaryMetadata(plugin_data=plugin, data_class=kind)
        self._add([Summary.Value(tag=tag, tensor=_tensor(strings), metadata=metadata)], step)

    def _once(self, tag: str) -> dict[str, SummaryMetadata]:
        """The description of a tag, the first time that it is written: readers keep the first."""
        text = tags.description(tag)
        if tag in self._described or not text:
            return {}
        self._described.add(tag)
        metadata = scalar_metadata.create_summary_metadata(None, text)
        metadata.data_class = DATA_CLASS_SCALAR
        return {"metadata": metadata}

    def _add(self, values: Sequence[Summary.Value], step: int | None = None) -> None:
        summary = Summary(value=values)
        if self._file is not None:
            self._file.add(summary, step)
        elif self._writer is not None:
            file = self._writer._get_file_writer()  # type: ignore[no-untyped-call] # noqa: SLF001 - no public way
            file.add_summary(summary, step)


def _tensor(strings: Sequence[bytes]) -> TensorProto:
    """A row of strings."""
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=len(strings))])
    return TensorProto(dtype=DT_STRING, string_val=strings, tensor_shape=shape)


def record_of(report: Report) -> dict[str, Any]:
    """What the RLWATCH tab reads of a report beside the maps."""
    record: dict[str, Any] = rounded(report.as_json() | {"all_actions": report.all_actions})
    return record
