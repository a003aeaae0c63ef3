"""Messages to a real broker: receipts, rights, restarts, the last will, TLS."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from mosquitto import Subscriber, free_port, running

from flawmap.errors import UserError
from flawmap.watch.delivery import Failed
from flawmap.watch.journal import Outgoing
from flawmap.watch.mqtt import BrokerAccess, BrokerAddress, MqttBroker

MESSAGES = [Outgoing(number, f"id-{number}", f'{{"id": "id-{number}"}}') for number in range(8)]
PUBLISHER = """
import sys
from flawmap.watch.journal import Outgoing
from flawmap.watch.mqtt import BrokerAccess, BrokerAddress, MqttBroker
broker = MqttBroker(BrokerAddress("127.0.0.1", int(sys.argv[1]), False), "line", BrokerAccess())
assert broker.deliver([Outgoing(1, "1", "x")]) == [None]
print("sent", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("broker", BrokerAddress("broker", 1883, False)),
        ("broker:1999", BrokerAddress("broker", 1999, False)),
        ("[::1]:1999", BrokerAddress("::1", 1999, False)),
        ("mqtt://10.0.0.1", BrokerAddress("10.0.0.1", 1883, False)),
        ("mqtts://broker", BrokerAddress("broker", 8883, True)),
    ],
)
def test_addresses_are_understood(text, address):
    assert BrokerAddress.of(text) == address


@pytest.mark.parametrize("text", ["", "http://broker", "broker:port", "broker/topic", "mqtt://me:geheim@broker"])
def test_addresses_that_are_none_are_refused_without_showing_a_password(text):
    with pytest.raises(UserError) as caught:
        BrokerAddress.of(text)
    assert caught.value.place == "--mqtt" and "geheim" not in str(caught.value)


@pytest.mark.parametrize("topic", ["", "/", "a/#", "a/+/b", "$SYS/a"])
def test_topics_that_nobody_may_publish_to_are_refused(topic):
    pytest.importorskip("paho.mqtt")
    with pytest.raises(UserError, match="no topic to publish to"):
        MqttBroker(BrokerAddress("x", 1, False), topic, BrokerAccess())


def test_no_broker_is_a_failure_and_certificates_are_read_at_the_start(tmp_path):
    pytest.importorskip("paho.mqtt")
    broker = MqttBroker(BrokerAddress("127.0.0.1", free_port(), False), "line", BrokerAccess())
    (outcome,) = broker.deliver(MESSAGES[:1])
    assert isinstance(outcome, Failed) and outcome.reason.startswith("cannot be reached")
    broker.close()
    with pytest.raises(UserError, match="a certificate cannot be read"):
        MqttBroker(BrokerAddress("x", 1, True), "line", BrokerAccess(ca_file=str(tmp_path / "none.pem")))


def test_a_missing_package_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("paho")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "paho", None)
    with pytest.raises(UserError, match="--mqtt needs the package paho-mqtt") as caught:
        MqttBroker(BrokerAddress("x", 1, False), "line", BrokerAccess())
    assert "paho-mqtt" in caught.value.remedy or "[watch]" in caught.value.remedy


def test_messages_arrive_in_order_and_the_watch_says_that_it_comes_and_goes(tmp_path):
    pytest.importorskip("paho.mqtt")
    with running(tmp_path) as server:
        reader = Subscriber(server.port, "line/#")
        broker = MqttBroker(BrokerAddress("127.0.0.1", server.port, False), "line/", BrokerAccess())
        assert broker.tend() is None and broker.deliver(MESSAGES) == [None] * 8
        reader.wait_for(lambda got: len(got) == 9)
        broker.close()
        reader.wait_for(lambda got: len(got) == 10)
        bodies = [message.body for message in MESSAGES]
        assert [body for topic, body in reader.got if topic == "line/verdict"] == bodies
        assert [body for topic, body in reader.got if topic == "line/availability"] == ["online", "offline"]
        reader.close()


def test_after_a_restart_of_the_broker_messages_go_on(tmp_path):
    pytest.importorskip("paho.mqtt")
    with running(tmp_path) as server:
        broker = MqttBroker(BrokerAddress("127.0.0.1", server.port, False), "line", BrokerAccess())
        assert broker.deliver(MESSAGES[:2]) == [None, None]
        server.stop()
        outcomes = broker.deliver(MESSAGES[2:4])
        assert all(isinstance(outcome, Failed) for outcome in outcomes)
        assert isinstance(broker.tend(), Failed)
        server.start()
        assert broker.tend() is None and broker.deliver(MESSAGES[2:4]) == [None, None]
        broker.close()


def test_a_killed_watch_is_reported_as_offline_by_its_last_will(tmp_path):
    pytest.importorskip("paho.mqtt")
    with running(tmp_path) as server:
        reader = Subscriber(server.port, "line/#")
        command = [sys.executable, "-c", PUBLISHER, str(server.port)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as publisher:
            assert publisher.stdout is not None and publisher.stdout.readline() == b"sent\n"
            os.kill(publisher.pid, signal.SIGKILL)
        reader.wait_for(lambda got: ("line/availability", "offline") in got)
        reader.close()


def test_wrong_passwords_and_missing_rights_are_failures_that_say_so(tmp_path):
    pytest.importorskip("paho.mqtt")
    passwords = shutil.which("mosquitto_passwd")
    if passwords is None:
        pytest.skip("mosquitto_passwd is not installed")
    subprocess.run([passwords, "-c", "-b", tmp_path / "users", "line", "geheim"], check=True)
    (tmp_path / "rights").write_text("user line\ntopic write allowed/#\n")
    settings = f"allow_anonymous false\npassword_file {tmp_path}/users\nacl_file {tmp_path}/rights"
    with running(tmp_path / "broker", settings) as server:
        address = BrokerAddress("127.0.0.1", server.port, False)
        for access, topic, reason in (
            (BrokerAccess("line", "wrong"), "allowed", "Not authorized"),
            (BrokerAccess("line", "geheim"), "forbidden", "refused a message to forbidden/verdict: Not authorized"),
        ):
            broker = MqttBroker(address, topic, access)
            (outcome,) = broker.deliver(MESSAGES[:1])
            assert isinstance(outcome, Failed) and reason in outcome.reason
            assert "geheim" not in outcome.reason
            broker.close()
        broker = MqttBroker(address, "allowed", BrokerAccess("line", "geheim"))
        assert broker.deliver(MESSAGES[:1]) == [None]
        broker.close()


@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket")  # paho leaves it to the collector
def test_tls_checks_the_certificate_of_the_broker(tmp_path):
    pytest.importorskip("paho.mqtt")
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run([*words.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    with running(tmp_path / "b", f"allow_anonymous true\ncertfile {certificate}\nkeyfile {key}") as server:
        address = BrokerAddress("localhost", server.port, True)
        broker = MqttBroker(address, "line", BrokerAccess(ca_file=str(certificate)))
        assert broker.deliver(MESSAGES) == [None] * 8
        started = time.monotonic()
        broker.close()
        assert time.monotonic() - started < 10
        stranger = MqttBroker(address, "line", BrokerAccess())
        (outcome,) = stranger.deliver(MESSAGES[:1])
        assert isinstance(outcome, Failed) and "certificate verify failed" in outcome.reason
        stranger.close()
