"""The user's own names for what was found."""

import numpy as np
import pytest
from PIL import Image

from rlwatch.atari import edits, probe_file
from rlwatch.atari.probe import Probe


@pytest.fixture(scope="module")
def probe():
    return Probe.load("pong")


@pytest.fixture
def named(probe, tmp_path):
    """The probe as a TOML file of that text names its objects."""

    def name(text):
        (tmp_path / "names.toml").write_text(text)
        return probe.edited(tmp_path / "names.toml")

    return name


def test_objects_are_renamed_merged_and_dropped_and_the_rest_stays(probe, named):
    masks = named('drop = ["ball"]\n[objects]\nme = "player"\nscores = ["player_score", "enemy_score"]').masks()
    before = probe.masks()
    assert list(masks) == ["me", "scores", "enemy"]
    np.testing.assert_array_equal(masks["me"], before["player"])
    np.testing.assert_array_equal(masks["scores"], before["player_score"] | before["enemy_score"])
    np.testing.assert_array_equal(masks["enemy"], before["enemy"])


def test_a_region_by_box_and_the_same_by_picture_are_one(named, tmp_path):
    picture = np.zeros((210, 160), np.uint8)
    picture[34:64, 20:100] = 255
    Image.fromarray(picture).save(tmp_path / "region.png")
    masks = named('[regions]\nby_box = [20, 34, 80, 30]\nby_picture = "region.png"').masks()
    np.testing.assert_array_equal(masks["by_box"], masks["by_picture"])
    assert masks["by_box"].all(axis=(0, 1)).sum() == masks["by_box"][0, 0].sum() > 0


def test_names_change_neither_the_digest_nor_the_file(probe, named, tmp_path):
    edited = named("drop = ['ball']")
    assert edited.digest == probe.digest
    edited.save(tmp_path / "saved.npz")
    assert Probe.load(tmp_path / "saved.npz").masks().keys() == probe.masks().keys()


def test_the_file_beside_a_probe_is_found_and_another_can_be_given(probe, tmp_path):
    probe.save(tmp_path / "mine.npz")
    (tmp_path / "mine.toml").write_text("drop = ['ball']")
    (tmp_path / "other.toml").write_text("drop = ['enemy']")
    assert "ball" not in Probe.load(tmp_path / "mine.npz").masks()
    assert "enemy" not in Probe.load(tmp_path / "mine.npz", objects=tmp_path / "other.toml").masks()
    assert "enemy" not in Probe.load("pong", objects=tmp_path / "other.toml").visible()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('drop = ["bal"]', r"names\.toml: expected objects out of those found \(ball, player, .*got 'bal'"),
        ('[objects]\na = "ball"\nb = "ball"', "ball is used twice: let it belong to one object"),
        ('[objects]\nenemy = "ball"', "enemy would be the name of two things: take another"),
        ("[regions]\nball = [0, 0, 5, 5]", "ball would be the name of two things"),
        ("[regions]\na = [0, 0, 200, 5]", r"expected a to lie on the screen of 160 × 210 pixels, got \[0, 0, 200, 5\]"),
        ("[regions]\na = [0, 0, 5.5, 5]", r"expected a to be \[x, y, width, height\] in pixels"),
        ("[regions]\na = [0, 0, 0, 5]", "expected a to lie on the screen"),
        ('[regions]\na = "nowhere.png"', r"names\.toml: .*nowhere\.png"),
        ('[regions]\na = "names.toml"', "cannot identify image file"),
        ('[objects]\n"a/b" = "ball"', r"expected a name of letters, digits, - and _ in \[objects\], got 'a/b'"),
        ("[objects]\na = []", "expected a to be a name or a list of names"),
        ("[objects]\na = 3", "expected a to be a name or a list of names"),
        ("objects = 3", r"expected a table \[objects\], got 3"),
        ("[object]\na = 'ball'", r"expected drop, \[objects\] and \[regions\], got object"),
        ("drop = [", r"names\.toml: "),
    ],
)
def test_what_does_not_fit_is_refused_with_the_file_and_the_reason(named, text, message):
    with pytest.raises(ValueError, match=message):
        named(text)


def test_a_picture_of_another_size_is_refused(named, tmp_path):
    Image.new("L", (84, 84)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match=r"expected a to be a picture of 160 × 210 pixels, got \(84, 84\)"):
        named('[regions]\na = "small.png"')


def test_a_picture_that_is_too_large_to_be_opened_is_refused(named, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 160 * 210)
    Image.new("1", (1600, 2100)).save(tmp_path / "large.png")
    with pytest.raises(ValueError, match=r"expected a to be a picture beside the TOML file, got .*exceeds limit"):
        named('[regions]\na = "large.png"')


@pytest.mark.parametrize("colour", [(255, 255, 255, 255), (0, 0, 2, 255)])
def test_what_is_transparent_in_a_picture_is_no_region_and_what_is_dark_is(named, tmp_path, colour):
    picture = Image.new("RGBA", (160, 210), (255, 255, 255, 0))
    picture.paste(colour, (40, 60, 48, 64))
    picture.save(tmp_path / "mine.png")
    painted = named('[regions]\na = "mine.png"').masks()["a"]
    assert np.array_equal(painted, named("[regions]\na = [40, 60, 8, 4]").masks()["a"])


def test_a_picture_that_is_black_all_over_is_refused(named, tmp_path):
    Image.new("RGB", (160, 210)).save(tmp_path / "black.png")
    with pytest.raises(ValueError, match="a picture that is black all over"):
        named('[regions]\na = "black.png"')


def test_a_file_of_another_encoding_is_refused_by_its_name(tmp_path):
    (tmp_path / "names.toml").write_bytes("drop = ['é']".encode("latin-1"))
    with pytest.raises(ValueError, match=r"names\.toml: .*utf-8"):
        edits.read(tmp_path / "names.toml", 210)


def test_a_file_that_is_not_there_is_told_as_such(tmp_path):
    with pytest.raises(FileNotFoundError):
        edits.read(tmp_path / "nowhere.toml", 210)


def test_no_toml_lies_beside_a_shipped_probe_whose_objects_are_exact():
    assert not probe_file.locate("pong").with_suffix(".toml").exists()


def test_a_mark_of_the_byte_order_as_editors_put_it_before_the_text_is_no_fault(probe, tmp_path):
    (tmp_path / "names.toml").write_bytes('drop = ["ball"]'.encode("utf-8-sig"))
    assert "ball" not in probe.edited(tmp_path / "names.toml").masks()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('drop = ["ball"]'.encode("utf-16"), r"names.toml: expected text in UTF-8, got .*: save it as UTF-8"),
        (b"drop = [", r"names.toml: expected TOML, such as drop = .*hud.*mend it there"),
        (b"drop = " + b"[" * 9999, r"names.toml: expected TOML, .*(recursion|nested).*mend it there"),
        (b'[regions]\npit = "no.png"', r"expected pit to be a picture beside the TOML file, got .*no.png \(No such"),
        (b'[regions]\npit = "names.toml"', r"got .*names.toml \(cannot identify .*\): a PNG"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_remedy(probe, tmp_path, content, message):
    (tmp_path / "names.toml").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        probe.edited(tmp_path / "names.toml")
