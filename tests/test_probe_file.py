"""A probe comes back from its file as it was, and from no other file."""

import json
import pickle
import resource
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from rlwatch.atari import probe_file
from rlwatch.atari.probe import Probe


@pytest.fixture
def file(probe, tmp_path):
    probe.save(tmp_path / "probe.npz")
    return tmp_path / "probe.npz"


def rewrite(file, **members):
    """The file anew, with some members replaced by arrays, or left out where the array is None."""
    with np.load(file) as archive:
        old = {name: archive[name] for name in archive.files}
    np.savez_compressed(file, **{name: array for name, array in (old | members).items() if array is not None})


def words(file, **changes):
    """The words of the file with some changed, as the array that holds them."""
    with np.load(file) as archive:
        return np.frombuffer(json.dumps(json.loads(archive["words"].tobytes()) | changes).encode(), np.uint8)


@pytest.mark.real
def test_a_saved_probe_comes_back_whole_and_nothing_else_is_left(probe, file):
    loaded = Probe.load(file)
    assert loaded.digest == probe.digest
    assert (loaded.game, loaded.actions, loaded.situations) == (probe.game, probe.actions, probe.situations)
    assert loaded.metadata == probe.metadata
    for name, array in probe.arrays().items():
        np.testing.assert_array_equal(getattr(loaded, name), array)
    assert [entry.name for entry in file.parent.iterdir()] == ["probe.npz"]


@pytest.mark.real
def test_saving_twice_writes_the_same_bytes(probe, file):
    before = file.read_bytes()
    probe.save(file)
    assert file.read_bytes() == before


@pytest.mark.real
def test_a_save_that_fails_halfway_leaves_the_file_that_was_there_and_nothing_else(probe, file):
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            probe.save(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_bytes() == before
    assert [entry.name for entry in file.parent.iterdir()] == ["probe.npz"]


@pytest.mark.real
@pytest.mark.parametrize("name", ["screens", "ram", "states", "led_by", "stack", "reward", "palette", "background"])
def test_the_digest_depends_on_every_array(probe, name):
    array = getattr(probe, name).copy()
    array.ravel()[0] = 0 if array.ravel()[0] else 1
    assert replace(probe, **{name: array}).digest != probe.digest


@pytest.mark.real
def test_the_digest_depends_on_the_words(probe):
    assert replace(probe, metadata={**probe.metadata, "seed": "77"}).digest != probe.digest


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("stack", np.full((64, 4), 99_999), "stack must hold numbers from 0"),
        ("stack", np.full((64, 4), -1), "stack must hold numbers from 0"),
        ("action", np.full(64, 4), "action must hold numbers from 0 to 3"),
        ("held", np.full(88, 1000), "held must hold numbers from 0 to 4"),
        ("segment", np.zeros(64, int), "a segment must be a run"),
        ("step", np.zeros(64, int), "a segment must be a run"),
    ],
)
def test_numbers_that_point_nowhere_are_refused_in_a_probe_and_in_a_file(probe, file, name, values, message):
    with pytest.raises(ValueError, match=message):
        replace(probe, **{name: values})
    rewrite(file, **{name: values})
    with pytest.raises(ValueError, match=f"no whole probe .*{message}.*{probe_file.REMEDY}"):
        Probe.load(file)


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("action", np.zeros(63, int), r"must be Int64.*got int64 \(6"),
        ("ram", np.zeros((3, 3, 128), np.uint8), r"must be UInt8.*got uint8 \("),
        ("screens", np.zeros((1, 2, 210, 160), np.int16), "expected entries of bytes, got int16"),
        ("reward", np.zeros(64, np.float32), "reward must be Float64.*got float32"),
        ("extra", np.zeros(1), "expected the arrays palette, .*extra"),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(file, name, values, message):
    rewrite(file, **{name: values})
    with pytest.raises(ValueError, match=f"probe .*{message}.*{probe_file.REMEDY}"):
        Probe.load(file)


@pytest.mark.real
def test_another_content_than_the_digest_says_is_refused(file, probe):
    rewrite(file, reward=probe.reward + 1)
    with pytest.raises(ValueError, match=f"expected digest {probe.digest}, got .*rlwatch record GAME --out FILE"):
        Probe.load(file)


@pytest.mark.real
@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"actions": 7},
        {"metadata": ["a"]},
        {"metadata": {"seed": 3}},
        {"game": None},
        {"situations": []},
        {"unknown": "x"},
    ],
)
def test_words_that_are_not_a_probes_are_refused(file, changes):
    rewrite(file, words=words(file, **changes))
    with pytest.raises(ValueError, match=r"rlwatch record GAME --out FILE"):
        Probe.load(file)


@pytest.mark.real
@pytest.mark.parametrize("name", ["words", "screens", "episode"])
def test_a_file_that_lacks_a_part_is_refused(file, name):
    rewrite(file, **{name: None})
    with pytest.raises(ValueError, match=name):
        Probe.load(file)


class Explosive:
    def __reduce__(self):
        return (pytest.fail, ("a probe file was unpickled",))


@pytest.mark.real
def test_a_pickle_within_the_file_is_refused_and_never_run(file):
    with zipfile.ZipFile(file, "a") as archive:
        bomb = pickle.dumps(Explosive())
        header = {"descr": "|O", "fortran_order": False, "shape": (-(-len(bomb) // 8),)}
        with archive.open("evil.npy", "w") as member:
            np.lib.format.write_array_header_1_0(member, header)
            member.write(bomb.ljust(8 * header["shape"][0], b"."))
    with pytest.raises(ValueError, match="expected a plain array of object"):
        Probe.load(file)


@pytest.mark.real
def test_a_bare_pickle_is_refused_and_never_run(tmp_path):
    file = tmp_path / "evil.npz"
    file.write_bytes(pickle.dumps(Explosive()))
    with pytest.raises(ValueError, match="no readable probe"):
        Probe.load(file)


def test_a_file_that_inflates_to_too_much_is_refused_before_it_does(tmp_path):
    file = tmp_path / "bomb.npz"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("screens.npy", "w") as member:
        for _ in range(257):
            member.write(bytes(2**20))
    with pytest.raises(ValueError, match="expected at most 268,435,456 bytes once inflated"):
        Probe.load(file)


def test_a_header_that_promises_more_than_its_bytes_is_refused(tmp_path):
    file = tmp_path / "promise.npz"
    with zipfile.ZipFile(file, "w") as archive, archive.open("screens.npy", "w") as member:
        header = {"descr": "|u1", "fortran_order": False, "shape": (10**15,)}
        np.lib.format.write_array_header_1_0(member, header)
    with pytest.raises(ValueError, match=r"expected a plain array of uint8 .*got 0 bytes"):
        Probe.load(file)


def refusal(file):
    """What is said when a file is not loaded; "" when it is."""
    try:
        Probe.load(file)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.real
def test_truncated_and_corrupted_files_are_refused_with_a_reason(file):
    whole = np.frombuffer(file.read_bytes(), np.uint8)
    generator = np.random.default_rng(0)
    refusals = []
    for attempt in range(200):
        damaged = whole.copy()
        if attempt % 2:
            damaged = damaged[: generator.integers(len(whole))]
        else:
            places = generator.integers(len(whole), size=generator.integers(1, 20))
            damaged[places] = generator.integers(256, size=len(places))
        file.write_bytes(damaged.tobytes())
        refusals.append(refusal(file))
    assert all(str(file) in one and probe_file.REMEDY in one for one in refusals if one)
    assert sum(map(bool, refusals)) >= 190
