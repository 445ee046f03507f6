"""The records of a checkpoint, as tags, as JSON and in words."""

import json
from dataclasses import replace

import pytest

from tests.fixtures.logs import REPORT


def test_the_json_holds_the_target_asked_for_and_the_others_beside_it():
    record = json.loads(json.dumps(REPORT.as_json("greedy"), allow_nan=False))
    assert record["step"] == 18_000
    assert record["checkpoint"] == "x.pt"
    assert record["q"]["greedy"] == 1.0
    expected = {"lift", "share", "share_negative", "low", "high", "frames"}
    assert expected <= record["objects"]["ball"].keys()
    assert record["objects"]["ball"]["lift"] == 6.3
    assert record["stack"] == [0.1, 0.2, 0.3, 0.4]
    assert record["conservation"] == 0.3
    assert record["absorbed"] == 0.7
    assert record["score"] == 1.0
    assert record["contrast"]["score"] == 0.1
    assert REPORT.as_json("contrast")["greedy"]["score"] == 1.0


def test_what_was_not_measured_is_null_in_json():
    record = REPORT.as_json("greedy")
    assert record["objects"]["ghost"]["lift"] is None
    assert record["returns"] is None


def test_every_number_has_a_tag_of_the_grammar():
    tags = REPORT.scalars()
    assert tags["rlwatch/lift/greedy/ball"] == 6.3
    assert tags["rlwatch/lift_low/contrast/ball"] == 5.1
    assert tags["rlwatch/share_negative/greedy/ball"] == 0.5
    assert tags["rlwatch/stack/greedy/+0"] == 0.4
    assert tags["rlwatch/stack/greedy/-3"] == 0.1
    assert tags["rlwatch/untrained/greedy/ball"] == 6.3
    assert tags["rlwatch/q/gap"] == 0.1
    assert tags["rlwatch/cost/explain"] == 0.3
    assert tags["rlwatch/map/greedy/centre_y"] == 40.0


def test_the_words_begin_with_the_findings_and_list_objects_by_lift():
    words = REPORT.markdown()
    assert words.index("looks at the ball") < words.index("| ball |") < words.index("| ghost |")
    assert "what the choice between actions rests on" in words
    assert f"{REPORT}" == words


def test_a_small_share_is_not_told_as_none():
    little = replace(REPORT.targets["greedy"].objects["ball"], share=0.004, share_negative=0.0)
    report = replace(REPORT, targets={"greedy": replace(REPORT.targets["greedy"], objects={"ball": little})})
    ((*_, share, negative, _frames),) = report.rows("greedy")
    assert (share, negative) == ("0.4 %", "0 %")
    assert "25 %" in REPORT.rows("greedy")[0]


@pytest.mark.parametrize(
    ("without", "words"),
    [
        ({}, "nothing has stood above its untrained baseline in two checkpoints in a row"),
        ({"untrained": {}}, "no findings: there is no untrained baseline"),
        (
            {"targets": {"greedy": replace(REPORT.targets["greedy"], objects={})}, "untrained": {"greedy": {}}},
            "no findings: no objects are known in the probe, name places of your own under [regions]",
        ),
    ],
)
def test_without_a_finding_the_words_say_why(without, words):
    assert words in replace(REPORT, findings=(), **without).markdown()
