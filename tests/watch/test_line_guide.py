"""What docs/line.md says: its commands, its function, its example of a message; and the files for services."""

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import yaml
from bright_line import DEFECT, GOOD, BrightModel, gray, receiving

from flawmap.cli import main
from flawmap.cli.arguments import parse
from flawmap.cli.watch import add_arguments
from flawmap.watch import session
from flawmap.watch.journal import Outgoing
from flawmap.watch.message import Message
from flawmap.watch.webhook import Webhook

REPO = Path(__file__).parents[2]
GUIDE, EXAMPLES = REPO / "docs" / "line.md", REPO / "examples" / "line"
SCHEMA = REPO / "docs" / "watch-message.schema.json"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


def commands(language: str) -> list[list[str]]:
    """Words after ``flawmap`` of each command."""
    lines = [line.rpartition("flawmap watch")[2] for block in blocks(language) for line in block.splitlines()]
    return [["watch", *shlex.split(line, comments=True)] for line in lines]


def test_the_commands_do_what_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("flawmap.deploy.opened_model.open_model", lambda *_, **__: BrightModel())
    monkeypatch.setattr(session, "LOOK_EVERY_S", 0.02)
    with receiving() as receiver:
        for number, words in enumerate(commands("bash")):
            place = tmp_path / str(number)
            gray(place / "in" / "a" / "good.png", GOOD)
            gray(place / "in" / "a" / "bad.png", DEFECT)
            monkeypatch.chdir(place)
            words = [receiver.address if word.startswith("http://") else word for word in words]
            assert main([*words, "--once", "--settle", "0.02"]) == 0
            assert Path("defect/a/bad.png").exists() == ("--defect-to" in words)
    assert len(commands("bash")) == 4 and len(receiver.got) == 2


def test_the_commands_for_cameras_are_understood():
    found = [parse("watch", add_arguments, words[1:]) for words in commands("text")]
    assert [one.source for one in found] == ["camera:0", "rtsp://10.0.0.7/live", "camera:0"]
    assert [(one.every, one.trigger) for one in found] == [(0.5, False), (None, True), (None, True)]


def test_its_function_knows_genuine_messages():
    names: dict = {}
    exec(blocks("python")[0], names)
    with receiving() as receiver:
        webhook = Webhook(receiver.address, "a secret")
        assert webhook.deliver([Outgoing(1, "an-id", '{"id": "an-id"}')]) == [None]
        webhook.close()
    headers, body = receiver.got[0]
    assert names["is_genuine"](headers, body, b"a secret")
    assert not names["is_genuine"](headers, body, b"another")
    assert not names["is_genuine"](headers, body + b" ", b"a secret")
    assert not names["is_genuine"](headers | {"webhook-timestamp": str(int(time.time()) - 999)}, body, b"a secret")


def test_the_example_is_a_message_and_the_schema_is_that_of_the_code():
    example = msgspec.json.decode(blocks("json")[0], type=Message, strict=True)
    assert json.loads(example.to_text()) == json.loads(blocks("json")[0])
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == msgspec.json.schema(Message)


def test_queries_fit_the_journal(tmp_path):
    from flawmap.watch.journal import Journal

    journal = Journal(tmp_path / "j.sqlite")
    for line in blocks("sql")[0].splitlines():
        assert journal._db.execute(line).fetchall() == []
    journal.close()


def unit() -> configparser.RawConfigParser:
    text = (EXAMPLES / "flawmap-watch.service").read_text(encoding="utf-8").replace("\\\n", " ")
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment]
    parser.read_string(text)
    return parser


def test_the_unit_starts_a_command_that_exists(tmp_path):
    service = unit()["Service"]
    program, verb, *words = shlex.split(service["ExecStart"])
    assert (Path(program).name, verb) == ("flawmap", "watch")
    arguments = parse("watch", add_arguments, words)
    assert arguments.journal == "/var/lib/flawmap/line1.sqlite" and service["StateDirectory"] == "flawmap"
    assert all(Path(one).is_relative_to(service["ReadWritePaths"]) for one in (arguments.ok_to, arguments.defect_to))
    if shutil.which("systemd-analyze") is None:
        return
    text = (EXAMPLES / "flawmap-watch.service").read_text(encoding="utf-8")
    copy = tmp_path / "flawmap-watch.service"
    copy.write_text(text.replace("/opt/flawmap/bin/flawmap", os.path.realpath(sys.executable)), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True)
    assert done.returncode == 0 and "flawmap" not in done.stderr, done.stderr


def test_the_compose_file_starts_a_command_that_exists():
    services = yaml.safe_load((EXAMPLES / "compose.yaml").read_text(encoding="utf-8"))["services"]
    watch = services["watch"]
    arguments = parse("watch", add_arguments, watch["command"][1:])
    assert watch["command"][0] == "watch" and arguments.mqtt in services
    targets = [volume.split(":")[1] for volume in watch["volumes"]]
    for path in (arguments.source, arguments.model, arguments.ok_to, arguments.defect_to, arguments.journal):
        assert any(Path(path).is_relative_to(target) for target in targets)
    assert (EXAMPLES / watch["build"]["context"] / watch["build"]["dockerfile"]).is_file()
    assert watch["cap_drop"] == ["ALL"] and watch["read_only"] is True
    docker = shutil.which("docker")
    if docker and subprocess.run([docker, "compose", "version"], capture_output=True).returncode == 0:
        done = subprocess.run([docker, "compose", "-f", EXAMPLES / "compose.yaml", "config"], capture_output=True)
        assert done.returncode == 0, done.stderr
