"""Messages to an MQTT broker: quality of service 1, and a topic that says whether the watch is there."""

import socket
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flawmap.advice import install
from flawmap.errors import UserError
from flawmap.watch.delivery import Failed, Outcome, Refused
from flawmap.watch.journal import Outgoing

if TYPE_CHECKING:
    from paho.mqtt.client import Client

PORT, TLS_PORT = 1883, 8883
KEEPALIVE_S = 15  # a broker that hears nothing for 1.5 times as long tells everybody that we are offline
TIMEOUT_S = 10.0  # for the connection, and for the receipts of a batch
USER_VARIABLE, PASSWORD_VARIABLE = "FLAWMAP_MQTT_USER", "FLAWMAP_MQTT_PASSWORD"
PATH_VARIABLES = "FLAWMAP_MQTT_CA", "FLAWMAP_MQTT_CERTIFICATE", "FLAWMAP_MQTT_KEY"
ONLINE, OFFLINE = "online", "offline"
REFUSED_FROM = 0x80  # reason codes
REFUSING = {0x95, 0x99}  # packet too large, payload format invalid: of this message, and not of the state of the broker


@dataclass(frozen=True)
class BrokerAddress:
    """Where a broker is.

    Attributes:
        host: its name or address.
        port: 1883, or 8883 with TLS, unless given.
        tls: whether the connection is encrypted and the broker's certificate is checked.
    """

    host: str
    port: int
    tls: bool

    @classmethod
    def of(cls, text: str) -> "BrokerAddress":
        """Of ``HOST``, ``HOST:PORT``, ``mqtt://...`` or ``mqtts://...``.

        Raises:
            UserError: it is none of these.
        """
        remedy = "--mqtt HOST, --mqtt HOST:PORT or --mqtt mqtts://HOST"
        try:
            parts = urlsplit(text if "://" in text else f"mqtt://{text}")
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise UserError(f"this is no address of a broker: {error}", "--mqtt", remedy) from error
        if parts.scheme not in ("mqtt", "mqtts") or not host or parts.path.strip("/") or parts.query:
            raise UserError("this is no address of a broker", "--mqtt", remedy)
        if parts.username or parts.password:
            problem = "a password does not belong on a command line"
            raise UserError(problem, "--mqtt", f"put it into {PASSWORD_VARIABLE}, and the name into {USER_VARIABLE}")
        tls = parts.scheme == "mqtts"
        return cls(host, port or (TLS_PORT if tls else PORT), tls)


@dataclass(frozen=True)
class BrokerAccess:
    """How the broker knows us, and we know it.

    Attributes:
        user: empty for none.
        password: of the user.
        ca_file: with the certificates that are trusted; empty for those of the system.
        certificate_file: our own, where the broker wants one; else empty.
        key_file: of our certificate.
    """

    user: str = ""
    password: str = ""
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""


class MqttBroker:
    """A broker. Verdicts go to ``TOPIC/verdict``; ``TOPIC/availability`` is retained: ``online`` or ``offline``.

    Each connection is a client of its own, so that nothing of an earlier one is sent by itself. It is MQTT 5, because
    with 3.1.1 a broker also confirms what it throws away for want of rights.

    Args:
        address: of the broker.
        topic: what ours begin with.
        access: names, passwords, certificates.

    Raises:
        UserError: paho-mqtt is not installed, the topic cannot be published to, or a certificate cannot be read.
    """

    key = "mqtt"

    def __init__(self, address: BrokerAddress, topic: str, access: BrokerAccess) -> None:
        try:
            import paho.mqtt.client  # noqa: F401
        except ModuleNotFoundError as error:
            raise UserError("--mqtt needs the package paho-mqtt", "", install("watch")) from error
        if not topic.strip("/") or set(topic) & set("+#\0") or topic.startswith("$"):
            raise UserError("this is no topic to publish to", "--mqtt-topic", "--mqtt-topic line1/camera2")
        self._address, self._access = address, access
        self._topic, self._availability = f"{topic.rstrip('/')}/verdict", f"{topic.rstrip('/')}/availability"
        host = f"[{address.host}]" if ":" in address.host else address.host
        self.name = f"mqtt{'s' if address.tls else ''}://{host}:{address.port}"
        self._tls = _tls_context(access) if address.tls else None
        self._client: Client | None = None
        self._changed = threading.Condition()
        self._connected_as: str | None = None  # None: not answered yet; empty: connected; else why not
        self._receipts: dict[int, int] = {}  # reason code by message id
        self._refusal = ""

    def deliver(self, messages: Sequence[Outgoing]) -> list[Outcome]:
        """Publish them, and wait for the broker's receipts."""
        if failure := self.tend():
            return [failure] * len(messages)
        assert self._client is not None
        self._receipts.clear()
        infos = [self._client.publish(self._topic, message.body, qos=1) for message in messages]
        awaited = {info.mid for info in infos if info.rc == 0}
        with self._changed:
            self._changed.wait_for(lambda: awaited <= self._receipts.keys() or self._connected_as != "", TIMEOUT_S)
            outcomes = [self._outcome(info.mid) for info in infos]
        if any(isinstance(outcome, Failed) for outcome in outcomes):
            self._drop()
        return outcomes

    def _outcome(self, mid: int) -> Outcome:
        code = self._receipts.get(mid)
        if code is None:
            return Failed(self._refusal or self._connected_as or f"no receipt within {TIMEOUT_S:g} s")
        if code < REFUSED_FROM:
            return None
        return Refused(self._refusal) if code in REFUSING else Failed(self._refusal)

    def tend(self) -> Failed | None:
        """Connect where there is no connection."""
        if self._client is not None and self._client.is_connected():
            return None
        self._drop()
        try:
            client = self._client = self._new_client()
            client.connect(self._address.host, self._address.port, KEEPALIVE_S)
        except (OSError, ValueError) as error:
            self._drop()
            return Failed(f"cannot be reached: {error}")
        client.loop_start()
        with self._changed:
            self._changed.wait_for(lambda: self._connected_as is not None, TIMEOUT_S)
            problem = f"no answer within {TIMEOUT_S:g} s" if self._connected_as is None else self._connected_as
        if problem:
            self._drop()
            return Failed(problem)
        client.publish(self._availability, ONLINE, qos=1, retain=True)
        return None

    def _new_client(self) -> "Client":
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

        client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5, reconnect_on_failure=False)
        client.connect_timeout = TIMEOUT_S
        client.will_set(self._availability, OFFLINE, qos=1, retain=True)
        if self._access.user:
            client.username_pw_set(self._access.user, self._access.password or None)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        self._connected_as, self._refusal = None, ""

        def connected(_: object, __: object, ___: object, reason: Any, ____: object) -> None:
            self._note_connection(client, f"refused: {reason}" if reason.is_failure else "")

        def disconnected(_: object, __: object, ___: object, reason: Any, ____: object) -> None:
            self._note_connection(client, f"the connection broke: {reason}")

        def published(_: object, __: object, mid: int, reason: Any, ___: object) -> None:
            with self._changed:
                self._receipts[mid] = reason.value
                if reason.value >= REFUSED_FROM:  # some brokers then also cut the connection
                    self._refusal = f"the broker refused a message to {self._topic}: {reason}"
                self._changed.notify_all()

        client.on_connect, client.on_disconnect, client.on_publish = connected, disconnected, published
        return client

    def _note_connection(self, client: "Client", problem: str) -> None:
        with self._changed:
            if client is self._client and not (problem and self._connected_as):  # the first reason says most
                self._connected_as = problem
                self._changed.notify_all()

    def _drop(self) -> None:
        """Forget a connection as it is; the broker publishes our last will."""
        client, self._client = self._client, None
        if client is not None:
            if isinstance(connection := client.socket(), socket.socket):  # as it always is over TCP
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)  # the client's thread then ends, whatever it waits for
            client.loop_stop()

    def close(self) -> None:
        """Say that we go, and disconnect."""
        client = self._client
        if client is not None and client.is_connected():
            info = client.publish(self._availability, OFFLINE, qos=1, retain=True)
            until = time.monotonic() + 2.0
            with self._changed:
                self._changed.wait_for(lambda: info.mid in self._receipts, until - time.monotonic())
            client.disconnect()
            client.loop_stop()
            self._client = None
        self._drop()


def _tls_context(access: BrokerAccess) -> ssl.SSLContext:
    """Raises: UserError: a certificate cannot be read."""
    try:
        context = ssl.create_default_context(cafile=access.ca_file or None)
        if access.certificate_file:
            context.load_cert_chain(access.certificate_file, access.key_file or None)
        return context
    except (OSError, ssl.SSLError) as error:
        problem = f"a certificate cannot be read: {error}"
        raise UserError(problem, ", ".join(PATH_VARIABLES), "check the paths of these files") from error
