"""What is written to the log is read back, on a full disk too."""

import contextlib
import io
import math
import resource

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from torch.utils.tensorboard import SummaryWriter

from rlwatch.tensorboard.writer import RunWriter
from tests.fixtures.clips import clip


def events_of(logdir):
    accumulator = EventAccumulator(str(logdir), size_guidance={"scalars": 0, "tensors": 0}, purge_orphaned_data=True)
    return accumulator.Reload()


def curve(logdir, tag):
    return [(event.step, event.value) for event in events_of(logdir).Scalars(tag)]


def texts(logdir, tag):
    return [(event.step, list(event.tensor_proto.string_val)) for event in events_of(logdir).Tensors(tag)]


@contextlib.contextmanager
def disk_with_room_for(size):
    """Files of this process cannot grow beyond `size` bytes: writing fails as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_scalars_are_read_back_at_their_steps(tmp_path):
    writer = RunWriter(logdir=tmp_path / "run")
    writer.scalars(1000, {"rlwatch/lift/greedy/ball": 0.75, "rlwatch/q/gap": np.float32(0.5)})
    writer.scalars(2000, {"rlwatch/lift/greedy/ball": 8.5})
    writer.close()

    assert curve(tmp_path / "run", "rlwatch/lift/greedy/ball") == [(1000, 0.75), (2000, 8.5)]
    assert curve(tmp_path / "run", "rlwatch/q/gap") == [(1000, 0.5)]


@pytest.mark.parametrize("unknown", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_is_a_gap(tmp_path, unknown):
    writer = RunWriter(logdir=tmp_path)
    writer.scalars(0, {"rlwatch/lift/greedy/ball": unknown, "rlwatch/lift/greedy/paddle": 1.0})
    writer.scalars(1, {"rlwatch/lift/greedy/ball": unknown})
    writer.scalars(2, {"rlwatch/lift/greedy/ball": 2.0})
    writer.close()

    assert curve(tmp_path, "rlwatch/lift/greedy/ball") == [(2, 2.0)]
    assert curve(tmp_path, "rlwatch/lift/greedy/paddle") == [(0, 1.0)]


def test_a_tag_explains_itself_from_its_first_value_on(tmp_path):
    writer = RunWriter(logdir=tmp_path)
    for step in range(2):
        writer.scalars(step, {"rlwatch/lift/greedy/ball": 1.0, "charts/return": 2.0})
    writer.close()

    records = RawEventFileLoader(str(next(tmp_path.iterdir()))).Load()
    values = [value for record in records for value in Event.FromString(record).summary.value]
    told = [value.metadata.summary_description for value in values]
    assert "ball" in told[0]
    assert "1: no preference" in told[0]
    assert told[1:] == ["", "", ""]


def test_a_clip_is_read_back_pixel_for_pixel(tmp_path):
    gif, expected = clip()
    writer = RunWriter(logdir=tmp_path)
    writer.clips(3000, {"greedy": gif})
    writer.close()

    ((step, (width, height, stored)),) = texts(tmp_path, "rlwatch/clip/greedy")
    image = Image.open(io.BytesIO(stored))
    assert (step, width, height) == (3000, b"24", b"30")
    for index, frame in enumerate(expected):
        image.seek(index)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), frame)
    metadata = events_of(tmp_path).SummaryMetadata("rlwatch/clip/greedy")
    assert metadata.plugin_data.plugin_name == "images"


def test_a_clip_says_what_its_colours_mean_and_how_to_keep_more_of_them(tmp_path):
    writer = RunWriter(logdir=tmp_path)
    writer.clips(0, {"greedy": clip()[0]})
    writer.close()

    told = events_of(tmp_path).SummaryMetadata("rlwatch/clip/greedy").summary_description
    assert "Red pixels speak for" in told
    assert "--samples_per_plugin images=1000" in told


def test_bytes_that_are_no_gif_are_refused(tmp_path):
    writer = RunWriter(logdir=tmp_path)

    with pytest.raises(ValueError, match="must be a GIF"):
        writer.clips(0, {"greedy": b"\x89PNG and so on"})
    writer.close()


def test_findings_are_read_back_as_text(tmp_path):
    writer = RunWriter(logdir=tmp_path)
    writer.findings(10, "**looks at the ball** · ±")
    writer.findings(20, "| a |\n|---|\n| b |")
    writer.close()

    assert texts(tmp_path, "rlwatch/findings") == [
        (10, ["**looks at the ball** · ±".encode()]),
        (20, [b"| a |\n|---|\n| b |"]),
    ]
    assert events_of(tmp_path).SummaryMetadata("rlwatch/findings").plugin_data.plugin_name == "text"


def layout_of(logdir):
    ((_, (stored,)),) = texts(logdir, "custom_scalars__config__")
    return Layout.FromString(stored)


def test_charts_have_at_most_four_lines_and_show_every_object(tmp_path):
    objects = ["ball", "paddle", "bricks", "tunnel", "score", "lives"]
    writer = RunWriter(logdir=tmp_path)
    writer.layout(objects, ["greedy", "contrast"])
    writer.close()

    first, baseline, interval = layout_of(tmp_path).category
    shown = [tag for chart in first.chart for tag in chart.multiline.tag]
    assert sorted(shown) == sorted(
        f"^rlwatch/lift/{target}/{name}$" for target in ("greedy", "contrast") for name in objects
    )
    assert max(len(chart.multiline.tag) for chart in (*first.chart, *baseline.chart)) == 4
    assert list(baseline.chart[0].multiline.tag) == ["^rlwatch/lift/greedy/ball$", "^rlwatch/untrained/greedy/ball$"]
    (series,) = interval.chart[0].margin.series
    assert (series.value, series.lower, series.upper) == (
        "rlwatch/lift/greedy/ball",
        "rlwatch/lift_low/greedy/ball",
        "rlwatch/lift_high/greedy/ball",
    )


def test_a_pattern_of_a_chart_matches_its_tag_only(tmp_path):
    writer = RunWriter(logdir=tmp_path)
    writer.layout(["ghost (red)"], ["action=1"])
    writer.close()

    (pattern,) = layout_of(tmp_path).category[0].chart[0].multiline.tag
    assert pattern == r"^rlwatch/lift/action=1/ghost\ \(red\)$"


def test_hyperparameters_belong_to_the_run_itself(tmp_path):
    writer = RunWriter(logdir=tmp_path)
    writer.hparams(
        {"game": "breakout", "lr": 1e-4, "seed": 3, "watch": True, "out": tmp_path, "none": None}, ["rlwatch/q/gap"]
    )
    writer.close()

    assert len(list(tmp_path.iterdir())) == 1
    assert "hparams" in events_of(tmp_path).summary_metadata["_hparams_/session_start_info"].plugin_data.plugin_name


def test_a_writer_of_the_training_gets_all_and_stays_open(tmp_path):
    training = SummaryWriter(str(tmp_path))
    writer = RunWriter(writer=training)
    writer.scalars(1, {"rlwatch/q/gap": 0.25})
    writer.clips(1, {"greedy": clip()[0]})
    writer.close()

    assert len(list(tmp_path.iterdir())) == 1
    assert curve(tmp_path, "rlwatch/q/gap") == [(1, 0.25)]
    training.add_scalar("loss", 0.5, 2)
    training.close()
    assert len(list(tmp_path.iterdir())) == 1
    assert curve(tmp_path, "loss") == [(2, 0.5)]


def test_what_is_flushed_is_on_disk_at_once(tmp_path):
    writer = RunWriter(logdir=tmp_path)
    writer.scalars(1, {"rlwatch/q/gap": 0.25})
    writer.flush()

    assert curve(tmp_path, "rlwatch/q/gap") == [(1, 0.25)]
    writer.close()
    writer.close()


def test_a_resumed_run_hides_the_steps_that_a_crash_left_behind(tmp_path):
    first = RunWriter(logdir=tmp_path, purge_step=0)
    for step in range(6):
        first.scalars(step, {"rlwatch/q/gap": 1.0})
    first.close()
    resumed = RunWriter(logdir=tmp_path, purge_step=3)
    resumed.scalars(3, {"rlwatch/q/gap": 2.0})
    resumed.close()

    assert curve(tmp_path, "rlwatch/q/gap") == [(0, 1.0), (1, 1.0), (2, 1.0), (3, 2.0)]


def test_a_full_disk_is_told_and_the_next_checkpoint_is_written(tmp_path):
    writer = RunWriter(logdir=tmp_path)
    writer.scalars(1, {"rlwatch/q/gap": 1.0})
    writer.flush()
    size = next(tmp_path.iterdir()).stat().st_size

    writer.scalars(2, {"rlwatch/q/gap": 2.0, "rlwatch/q/greedy": 2.0})
    with (
        disk_with_room_for(size + 100),
        pytest.raises(OSError, match=r"must fit onto the disk.*free some space; only what they hold is lost$"),
    ):
        writer.flush()
    assert next(tmp_path.iterdir()).stat().st_size == size
    writer.scalars(3, {"rlwatch/q/gap": 3.0, "rlwatch/q/greedy": 3.0})
    writer.close()

    assert curve(tmp_path, "rlwatch/q/gap") == [(1, 1.0), (3, 3.0)]
    assert "best action" in events_of(tmp_path).SummaryMetadata("rlwatch/q/greedy").summary_description


def test_an_event_file_that_was_deleted_is_told(tmp_path):
    writer = RunWriter(logdir=tmp_path)
    next(tmp_path.iterdir()).unlink()
    writer.scalars(1, {"rlwatch/q/gap": 1.0})

    with pytest.raises(FileNotFoundError, match="start a new run"):
        writer.flush()
    writer.close()


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(OSError, match=r"logdir must be a folder that can be written, got .*choose another"):
        RunWriter(logdir=tmp_path / "file" / "run")


@pytest.mark.parametrize("both", [True, False])
def test_one_of_writer_and_logdir_is_needed(tmp_path, both):
    parts = {"writer": SummaryWriter(str(tmp_path)), "logdir": tmp_path} if both else {}

    with pytest.raises(ValueError, match="got both or neither: pass one"):
        RunWriter(**parts)
    if both:
        parts["writer"].close()


def test_purging_is_left_to_the_owner_of_a_writer(tmp_path):
    with SummaryWriter(str(tmp_path)) as training, pytest.raises(ValueError, match="pass it to that SummaryWriter"):
        RunWriter(writer=training, purge_step=3)


def test_two_writers_of_one_second_get_two_files(tmp_path):
    writers = [RunWriter(logdir=tmp_path) for _ in range(3)]
    for writer in writers:
        writer.close()

    assert len(list(tmp_path.iterdir())) == 3
