"""Every tag says what it means."""

import pytest

from rlwatch.tensorboard import tags


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("rlwatch/share_negative/contrast/enemy", "negative relevance"),
        ("rlwatch/share_negative/contrast/enemy", "the choice, best action minus the mean"),
        ("rlwatch/untrained/greedy/ball", "random weights"),
        ("rlwatch/stack/greedy/+0", "newest"),
        ("rlwatch/map/greedy/conservation", "1: the maps tell all of it"),
        ("rlwatch/lift/action=2/ball", "Explained: action=2"),
        ("rlwatch/q/churn", "checkpoint before"),
        ("rlwatch/cost/explain", "Seconds"),
        ("rlwatch/cost/fraction", "0.01: one percent"),
    ],
)
def test_each_family_of_tags_has_its_unit_and_meaning(tag, expected):
    assert expected in tags.description(tag)


@pytest.mark.parametrize(
    "tag", ["charts/lift", "rlwatch", "rlwatch/lift", "rlwatch/map/greedy/unheard", "rlwatch/x/y/z"]
)
def test_a_tag_that_nobody_knows_is_not_explained(tag):
    assert tags.description(tag) == ""
