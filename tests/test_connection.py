"""The way to a cluster, where there is no Ray; tests/frameworks/test_ray.py has real ones."""

import sys

import pytest

from rlwatch.connection import connected


def test_without_an_address_there_is_no_cluster():
    with connected(None) as ray:
        assert ray is None


def test_without_ray_the_remedy_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'rlwatch\[ray\]'"), connected("local"):
        pass
