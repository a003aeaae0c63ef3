"""Ray clusters with private addresses only."""

import sys

import pytest

from flawmap.errors import UserError
from flawmap_cluster.connect import _host_of, connected, refuse_public


@pytest.mark.parametrize("address", ["127.0.0.1", "10.77.0.2", "192.168.1.5", "172.16.0.9", "::1", "fd00::1"])
def test_private_addresses_are_taken(address):
    refuse_public([address])


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "8.8.8.8", "2001:4860:4860::8888"])
def test_public_ones_and_all_of_them_are_refused(address):
    with pytest.raises(UserError, match="must have private addresses") as caught:
        refuse_public(["10.0.0.1", address])
    assert caught.value.place == address


@pytest.mark.parametrize("address", ["ray://10.1.2.3:10001", "10.1.2.3:6379", "ray://10.1.2.3"])
def test_the_host_of_an_address(address):
    assert _host_of(address) == "10.1.2.3"


def test_nothing_is_connected_to_a_public_address(monkeypatch):
    pytest.importorskip("ray")
    with pytest.raises(UserError, match="private"), connected("0.0.0.0:6379"):
        raise AssertionError("connected")


def test_without_ray_one_sentence_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="the package ray is not installed"), connected("auto"):
        raise AssertionError("connected")
