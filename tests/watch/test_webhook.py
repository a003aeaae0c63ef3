"""What a web server gets: the message, its id and a signature; and what becomes of its answers."""

import base64
import hashlib
import hmac
import json
import os
import socket

import pytest
from bright_line import receiving

from flawmap.errors import UserError
from flawmap.watch.delivery import Failed, Refused
from flawmap.watch.journal import Outgoing
from flawmap.watch.secret import secret
from flawmap.watch.webhook import Webhook, signature, signing_key

MESSAGES = [Outgoing(number, f"id-{number}", json.dumps({"id": f"id-{number}"})) for number in range(3)]


@pytest.fixture(scope="module")
def receiver():
    with receiving() as found:
        yield found


def test_the_signature_is_that_of_the_specification():
    """The example of its own documentation."""
    key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    found = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_each_message_is_posted_with_its_id_and_signature(receiver):
    receiver.got.clear()
    webhook = Webhook(receiver.address, "a secret", "Bearer token", clock=lambda: 1_700_000_000.9)
    assert webhook.deliver(MESSAGES) == [None] * 3
    webhook.close()
    assert sorted(receiver.ids) == ["id-0", "id-1", "id-2"]
    for headers, body in receiver.got:
        assert headers["content-type"] == "application/json" and headers["authorization"] == "Bearer token"
        signed = f"{json.loads(body)['id']}.1700000000.".encode() + body
        digest = base64.b64encode(hmac.new(b"a secret", signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-id"] == json.loads(body)["id"] and headers["webhook-timestamp"] == "1700000000"
        assert headers["webhook-signature"] == f"v1,{digest}"


@pytest.mark.parametrize("status", [302, 401, 404, 408, 429, 500, 503])
def test_what_may_be_put_right_is_tried_again_and_no_redirect_is_followed(receiver, status):
    receiver.answers[:] = [status]
    webhook = Webhook(receiver.address)
    (outcome,) = webhook.deliver(MESSAGES[:1])
    assert isinstance(outcome, Failed) and str(status) in outcome.reason
    receiver.got.clear()
    assert webhook.deliver(MESSAGES[:1]) == [None] and "webhook-signature" not in receiver.got[0][0]
    webhook.close()


def test_a_message_that_is_not_wanted_is_refused(receiver):
    receiver.answers[:] = [422]
    webhook = Webhook(receiver.address)
    assert webhook.deliver(MESSAGES[:1]) == [Refused("answered 422 Unprocessable Entity")]
    webhook.close()


def test_no_answer_and_no_server_are_failures():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        webhook = Webhook(f"http://127.0.0.1:{port}/", timeout_s=0.05)
        assert webhook.deliver(MESSAGES[:1]) == [Failed("no answer within 0.05 s")]
    (outcome,) = webhook.deliver(MESSAGES[:1])
    assert isinstance(outcome, Failed) and outcome.reason.startswith("cannot be reached")
    webhook.close()


def test_its_name_shows_no_secret():
    webhook = Webhook("https://example.org:8443/hook/geheim?token=geheim")
    assert webhook.name == "webhook https://example.org:8443"
    webhook.close()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://host/x", "must begin with http"),
        ("host/x", "must begin with http"),
        ("http://", "must begin with http"),
        ("http://host:port/", "no web address"),
        ("https://user:pass@host/", "password does not belong"),
    ],
)
def test_addresses_that_cannot_be_used_are_refused(url, problem):
    with pytest.raises(UserError, match=problem) as caught:
        Webhook(url)
    assert "pass@" not in str(caught.value)


def test_a_secret_comes_from_the_environment_or_a_file(tmp_path, monkeypatch):
    monkeypatch.delenv("FLAWMAP_TRIAL", raising=False)
    assert secret("FLAWMAP_TRIAL") == ""
    (tmp_path / "key").write_text("from a file\n")
    monkeypatch.setenv("FLAWMAP_TRIAL_FILE", str(tmp_path / "key"))
    assert secret("FLAWMAP_TRIAL") == "from a file"
    monkeypatch.setenv("FLAWMAP_TRIAL", "direct")
    assert secret("FLAWMAP_TRIAL") == "direct"
    monkeypatch.delenv("FLAWMAP_TRIAL")
    os.unlink(tmp_path / "key")
    with pytest.raises(UserError, match="cannot be read"):
        secret("FLAWMAP_TRIAL")
    with pytest.raises(UserError, match="not base64"):
        signing_key("whsec_*")
