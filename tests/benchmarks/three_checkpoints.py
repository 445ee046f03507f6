"""README's picture: the clip of a run's first, middle and last checkpoint side by side.

python -m tests.benchmarks.three_checkpoints RUN OUT.gif
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlwatch.pictures import panel

WIDTH = 400
FRAMES = 48


def clips(run):
    """Each checkpoint's clip of the value, as bytes."""
    accumulator = EventAccumulator(str(run), size_guidance={"tensors": 0})
    accumulator.Reload()
    return [event.tensor_proto.string_val[2] for event in accumulator.Tensors("rlwatch/clip/greedy")]


def shrunk(gif):
    """The clip's pictures at README's width."""
    image = Image.open(io.BytesIO(gif))
    height = round(image.height * WIDTH / image.width)
    return [
        frame.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS)
        for frame in ImageSequence.Iterator(image)
    ]


def palette_of_clips():
    """The colours of the clips, those of outlines also as thin lines have them once they are shrunk.

    A palette made of how often colours occur has none for thin outlines, and shows some of them red or blue.
    """
    outlines = np.array(panel.OUTLINES)
    paper = np.array([22, 24, 29])
    colours = np.concatenate([panel.palette(), *(part * outlines + (1 - part) * paper for part in (0.7, 0.45))])
    image = Image.new("P", (1, 1))
    image.putpalette(colours.astype(np.uint8).tobytes())
    return image


def main(run, out):
    every = clips(run)
    columns = [shrunk(every[index])[:FRAMES] for index in (0, len(every) // 2, len(every) - 1)]
    rows = [
        Image.fromarray(np.concatenate([np.asarray(one) for one in beside], axis=1))
        for beside in zip(*columns, strict=True)
    ]
    palette = palette_of_clips()
    first, *rest = [row.quantize(palette=palette, dither=Image.Dither.NONE) for row in rows]
    first.save(out, save_all=True, append_images=rest, duration=120, loop=0, optimize=True)
    print(f"{out}: {Path(out).stat().st_size // 1024} KiB, {len(rows)} frames")


if __name__ == "__main__":
    main(*sys.argv[1:])
