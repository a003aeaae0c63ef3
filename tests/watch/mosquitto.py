"""A real MQTT broker, and a subscriber that is told what came while it was away."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PATIENCE_S = 20.0


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


class Mosquitto:
    """The broker of Debian on a port of its own; what it has confirmed survives an ordered restart.

    Args:
        folder: for its files.
        settings: further lines of its configuration.
    """

    def __init__(self, folder: Path, settings: str = "allow_anonymous true") -> None:
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            pytest.skip("mosquitto is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self._program, self._config = free_port(), program, folder / "mosquitto.conf"
        lines = [
            *("user root", f"listener {self.port} 127.0.0.1", "persistence true", f"persistence_location {folder}/"),
            *("max_queued_messages 0", f"log_dest file {folder}/log", settings),
        ]
        self._config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen([self._program, "-c", self._config], stderr=subprocess.DEVNULL)
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            assert self._process.poll() is None, "mosquitto has ended"
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError("mosquitto does not listen")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE_S)
            self._process = None


@contextmanager
def running(folder: Path, settings: str = "allow_anonymous true") -> Iterator[Mosquitto]:
    broker = Mosquitto(folder, settings)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


class Subscriber:
    """Reads everything below a topic; the broker keeps for it what comes while it is not connected.

    Attributes:
        got: (topic, body) in the order of arrival.
    """

    def __init__(self, port: int, topic: str, user: str = "", password: str = "") -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        self.got: list[tuple[str, str]] = []
        self._client = client = Client(CallbackAPIVersion.VERSION2, "reader", protocol=MQTTProtocolVersion.MQTTv5)
        if user:
            client.username_pw_set(user, password)
        client.on_connect = lambda *_: client.subscribe(topic, qos=1)
        client.on_message = lambda _, __, message: self.got.append((message.topic, message.payload.decode()))
        client.reconnect_delay_set(1, 1)
        stays = Properties(PacketTypes.CONNECT)
        stays.SessionExpiryInterval = 3600
        client.connect("127.0.0.1", port, clean_start=False, properties=stays)
        client.loop_start()

    def wait_for(self, condition) -> None:
        until = time.monotonic() + PATIENCE_S
        while not condition(self.got):
            assert time.monotonic() < until, self.got[-3:]
            time.sleep(0.01)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
