"""Onsets by hand."""

import math
from dataclasses import replace

import pytest

from rlwatch.measures.onset import Spell, sentence, spells, threshold
from rlwatch.measures.relevance import ObjectRelevance

UNTRAINED = ObjectRelevance(lift=0.7, low=0.5, high=0.9, share=0.0, share_negative=0.0, relevance=0.0, frames=9)


def history(*lows):
    return [replace(UNTRAINED, lift=low + 1.0, low=float(low), high=low + 2.0) for low in lows]


def test_looking_means_twice_chance_or_twice_the_untrained_bound():
    assert threshold(UNTRAINED) == 2
    assert threshold(replace(UNTRAINED, high=1.5)) == 3
    assert threshold(replace(UNTRAINED, lift=math.nan, high=math.nan)) == 2


def test_an_onset_is_the_first_of_two_checkpoints_in_a_row():
    assert spells(history(0, 0, 3, 4, 5), 2.0) == (Spell(2, None),)


def test_one_lucky_checkpoint_is_no_onset_and_one_unlucky_one_no_end():
    assert spells(history(0, 3, 0, 0, 3), 2.0) == ()
    assert spells(history(3, 3, 0, 3, 3), 2.0) == (Spell(0, None),)


def test_a_spell_ends_at_the_first_of_two_checkpoints_below():
    assert spells(history(3, 3, 0, 0, 3, 3), 2.0) == (Spell(0, 2), Spell(4, None))


def test_what_was_not_measured_counts_as_below():
    assert spells(history(math.nan, math.nan), 2.0) == ()


def test_the_sentence_says_when_how_much_and_against_what():
    words = sentence("ball", "greedy", Spell(1, None), [0, 18_000, 20_000], history(0, 5.3, 8.8), UNTRAINED)
    assert words == "from step 18,000 the agent looks at the ball: lift 6.3 [5.3, 7.3], untrained 0.7, now 9.8"


@pytest.mark.parametrize(("target", "verb"), [("greedy", "looked at"), ("contrast", "chose by")])
def test_the_sentence_of_a_spell_that_ended_is_in_the_past(target, verb):
    words = sentence("paddle", target, Spell(0, 2), [10, 20, 30], history(3, 3, 0), UNTRAINED)
    assert words.startswith(f"from step 10 to 30 the agent {verb} the paddle: lift 4.0 [3.0, 5.0]")
    assert words.endswith("now 1.0 [0.0, 2.0]")
