import pytest

from rlwatch.tensorboard.plugin.cache import Cache


def making(value, size=10):
    return lambda: (value, size)


def never():
    pytest.fail("the value is kept, and is read again")


def test_a_value_is_kept_as_long_as_its_stamp_holds():
    cache = Cache(100)
    assert cache.get("run", 1, making("first")) == "first"
    assert cache.get("run", 1, never) == "first"
    assert cache.get("run", 2, making("second")) == "second"
    assert cache.get("run", 2, never) == "second"
    assert cache.size == 10


def test_the_longest_unused_goes_when_the_room_is_full():
    cache = Cache(20)
    cache.get("a", 0, making("a"))
    cache.get("b", 0, making("b"))
    cache.get("a", 0, never)
    cache.get("c", 0, making("c"))
    assert cache.size == 20
    cache.get("a", 0, never)
    assert cache.get("b", 0, making("b again")) == "b again"


def test_what_does_not_fit_at_all_is_handed_on_and_not_kept():
    cache = Cache(20)
    cache.get("small", 0, making("small"))
    assert cache.get("large", 0, making("large", 21)) == "large"
    assert cache.size == 10
    cache.get("small", 0, never)


def test_a_peek_gives_what_is_kept_whatever_its_stamp_and_makes_nothing():
    cache = Cache(100)
    assert cache.peek("run") is None
    cache.get("run", 1, making("first"))
    assert cache.peek("run") == "first"
