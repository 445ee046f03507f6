"""The way to a cluster, where there is no Ray; tests/frameworks/test_ray.py has real ones."""

import socket
import sys
from threading import Thread
from types import SimpleNamespace

import pytest

from rlwatch import connection
from rlwatch.connection import _check_answer, connected


def test_without_an_address_there_is_no_cluster():
    with connected(None) as ray:
        assert ray is None


def test_without_ray_the_remedy_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'rlwatch\[ray\]'"), connected("local"):
        pass


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request", b""])
def test_what_does_not_answer_as_a_cluster_is_refused(said):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def answer():
            with server.accept()[0] as asked:
                asked.recv(100)
                asked.sendall(said)

        Thread(target=answer, daemon=True).start()
        with pytest.raises(ConnectionError, match=f"at {address}, got something else: `ray status"):
            _check_answer(address)


@pytest.mark.parametrize("error", [ConnectionError, LookupError, ValueError])  # the last one of what is no address
def test_a_cluster_that_lets_nobody_in_without_its_token_is_refused_with_the_remedy(monkeypatch, error):
    def init(*_, **__):
        raise error("Failed to connect to Ray cluster")  # Ray's own words when it has no token to show

    ray = SimpleNamespace(
        init=init, exceptions=SimpleNamespace(RayError=LookupError), is_initialized=bool, shutdown=lambda: None
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    for name in ("_check_answer", "loaded"):
        monkeypatch.setattr(connection, name, lambda _: None)
    with (
        pytest.raises(ConnectionError, match=r"got none \(Failed.*\): set RAY_AUTH_MODE=token .* `ray status"),
        connected("host:1"),
    ):
        pass
