import numpy as np
import pytest
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow

from rlwatch.tensorboard.checksum import masked_crc32c


@pytest.mark.parametrize("length", [0, 1, 8, 32767, 32768, 32769, 50_000, 131_072, 300_001])
def test_the_checksum_is_tensorboards_own(length):
    data = np.random.default_rng(length).bytes(length)

    assert masked_crc32c(data) == pywrap_tensorflow.masked_crc32c(data)


def test_zeros_at_the_beginning_count():
    data = bytes(40_000) + b"data"

    assert masked_crc32c(data) == pywrap_tensorflow.masked_crc32c(data)
    assert masked_crc32c(data) != masked_crc32c(data[1:])
