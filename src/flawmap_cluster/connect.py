"""A Ray cluster, only where its addresses are private: whoever reaches one can run programs on it."""

import ipaddress
import logging
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from flawmap.engine.cores import usable_cores
from flawmap.errors import UserError
from flawmap.extras import needs

LOCAL = "local"
REMEDY = "start Ray with --node-ip-address=PRIVATE_ADDRESS on each node, behind a firewall"


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Within it, ``ray`` is connected.

    Args:
        address: ``local`` starts a cluster of this machine, which nothing else reaches and which ends with the context;
            ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT`` is one that is there.

    Raises:
        UserError: Ray is not installed, there is no cluster, or one of its nodes has a public address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == LOCAL:  # Ray then takes 127.0.0.1 on all systems, also for its servers' sockets
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    with needs("ray", "--cluster"):
        import ray
    of_this_machine: dict[str, Any] = {}
    if address == LOCAL:
        of_this_machine = {"num_cpus": usable_cores(), "_node_ip_address": "127.0.0.1", "include_dashboard": False}
    elif address != "auto":
        refuse_public([_host_of(address)])
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **of_this_machine)
    except Exception as error:  # ConnectionError, ValueError, ImportError of its client: it depends on the address
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        remedy = "start one: ray start --head --node-ip-address=PRIVATE_ADDRESS"
        raise UserError(f"there is no Ray cluster to connect to ({reason})", address, remedy) from error
    try:
        addresses = [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]
        refuse_public(addresses)
        if address == LOCAL and not all(ipaddress.ip_address(found).is_loopback for found in addresses):
            problem = "Ray took an address that other machines reach, because it was imported before"
            raise UserError(problem, addresses[0], "start a new Python, and import ray after this")
        yield
    finally:
        ray.shutdown()


def refuse_public(addresses: Iterable[str]) -> None:
    """Raises: UserError: one of the addresses is public, or stands for all of a machine's."""
    for address in addresses:
        found = ipaddress.ip_address(address)
        if found.is_unspecified or not found.is_private:
            problem = "a Ray cluster must have private addresses, because whoever reaches it can run programs on it"
            raise UserError(problem, address, REMEDY)


def _host_of(address: str) -> str:
    host = address.removeprefix("ray://").rpartition(":")[0].strip("[]") or address.removeprefix("ray://")
    try:
        return str(socket.getaddrinfo(host, None)[0][4][0])
    except OSError as error:
        raise UserError(
            f"this host is not known: {error.strerror or error}", address, "local, auto, or HOST:PORT"
        ) from error
