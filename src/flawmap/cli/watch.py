"""flawmap watch FOLDER|PATTERN|STREAM --model MODEL."""

import os
import random
import signal
import sys
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from flawmap.advice import command
from flawmap.cli.arguments import (
    add_device_argument,
    add_json_argument,
    add_threshold_arguments,
    amount,
    threshold_choice,
)
from flawmap.errors import UserError
from flawmap.plural import plural

if TYPE_CHECKING:
    from flawmap.deploy.opened_model import OpenedModel
    from flawmap.watch.delivery import Delivery, Destination
    from flawmap.watch.folder import WatchedFolder
    from flawmap.watch.frames import FrameAddress
    from flawmap.watch.inspector import Counts, Inspector, Places
    from flawmap.watch.journal import Journal
    from flawmap.watch.message import Message
    from flawmap.watch.rate import Rate
    from flawmap.watch.session import Work

EVERY_S = 1.0  # between two frames


def add_arguments(parser: ArgumentParser) -> None:
    """What is watched, the model, and where verdicts and files go."""
    parser.add_argument("source", metavar="SOURCE", help="a folder, a pattern in quotes, camera:0, or rtsp://HOST/PATH")
    parser.add_argument("--model", required=True, help="a run or model folder, or an exported file")
    parser.add_argument("--webhook", metavar="URL", help="post each verdict there, signed with FLAWMAP_WEBHOOK_SECRET")
    parser.add_argument(
        "--mqtt", metavar="HOST[:PORT]", help="publish each verdict there; mqtts://HOST with TLS. Needs paho-mqtt"
    )
    parser.add_argument(
        "--mqtt-topic",
        metavar="TOPIC",
        default="flawmap",
        help="publish to TOPIC/verdict and TOPIC/availability (default: flawmap)",
    )
    parser.add_argument("--ok-to", metavar="FOLDER", help="move good images there (default: they stay)")
    parser.add_argument("--defect-to", metavar="FOLDER", help="move anomalous images there (default: they stay)")
    parser.add_argument("--unread-to", metavar="FOLDER", help="move unreadable files there (default: they stay)")
    parser.add_argument(
        "--journal",
        metavar="FILE",
        default="watch.sqlite",
        help="what was judged and delivered; a restart goes on from it (default: watch.sqlite)",
    )
    parser.add_argument(
        "--settle",
        type=amount,
        metavar="SECONDS",
        default=1.0,
        help="a file is complete when size and time have not changed for so long (default: 1)",
    )
    when = parser.add_mutually_exclusive_group()
    when.add_argument(
        "--every", type=amount, metavar="SECONDS", help="of a camera, judge a frame so often (default: 1)"
    )
    when.add_argument(
        "--trigger",
        action="store_true",
        help="of a camera, judge a frame for each line on standard input, which its message then names",
    )
    parser.add_argument("--once", action="store_true", help="judge what is there, deliver, and end")
    add_threshold_arguments(parser)
    add_device_argument(parser)
    add_json_argument(parser)


def run(arguments: Namespace) -> int:
    """Watch until a signal; prints a line per image, and now and then how it goes."""
    from flawmap.watch.inspector import Inspector, Places
    from flawmap.watch.journal import Journal
    from flawmap.watch.rate import Rate
    from flawmap.watch.session import Session

    folders = arguments.ok_to, arguments.defect_to, arguments.unread_to
    places = Places(*(Path(os.path.abspath(one)) if one else None for one in folders))
    if places.defect is not None and places.defect in (places.ok, places.unread):
        other = "--ok-to" if places.defect == places.ok else "--unread-to"
        problem = f"anomalous images would go among those of {other}"
        raise UserError(problem, f"--defect-to {arguments.defect_to}", "give it a folder of its own")
    watched = _watched(arguments, places)
    destinations = _destinations(arguments)
    journal_path = Path(arguments.journal)
    with _alone(journal_path), _set_by_signals() as stop:
        deliveries = [(one.key, _delivery(journal_path, one)) for one in destinations]
        model = _open(arguments, places)
        with closing(Journal(journal_path, [key for key, _ in deliveries])) as journal:
            tell = _teller(arguments, deliveries)
            inspector = Inspector(model, journal, places, tell, _say, source=Path(arguments.model))
            rate = Rate(time.monotonic())
            told = "".join(f", {one.name}" for one in destinations)
            _say(f"watching   {watched.name} -> journal {journal_path}{told}")
            _note_others(journal, [key for key, _ in deliveries])
            with _working(arguments, watched, inspector, rate) as work:
                n_waiting = Session(inspector, work, deliveries, rate, _say).run(stop, arguments.once)
            end = "done" if work.is_finished else "stopped"
    words = [*_counted(inspector.counts), *([work.words()] if work.words() else [])]
    words += [f"{plural(n_waiting, 'message')} to be delivered at the next start"] if n_waiting else []
    _say(f"{end}: {', '.join(words)}")
    return 2 if arguments.once and (inspector.counts.not_judged or n_waiting) else 0


def _watched(arguments: Namespace, places: "Places") -> "WatchedFolder | FrameAddress":
    """Raises: UserError: it is not there, or an option is for the other kind."""
    from flawmap.watch.folder import WatchedFolder
    from flawmap.watch.frames import FrameAddress, is_frames, refuse_without_opencv

    if is_frames(arguments.source):
        if arguments.unread_to:
            raise UserError("a camera has no unreadable files", "--unread-to", "leave it out")
        refuse_without_opencv()
        return FrameAddress.of(arguments.source)
    if arguments.trigger or arguments.every:
        option = "--trigger" if arguments.trigger else "--every"
        raise UserError(f"{option} is for cameras and streams; files are judged as they come", option, "leave it out")
    return WatchedFolder(arguments.source, places.folders)


@contextmanager
def _working(
    arguments: Namespace, watched: "WatchedFolder | FrameAddress", inspector: "Inspector", rate: "Rate"
) -> "Iterator[Work]":
    """The work, and its thread where it has one."""
    from flawmap.watch.backoff import Backoff
    from flawmap.watch.complete_files import CompleteFiles
    from flawmap.watch.folder import WatchedFolder
    from flawmap.watch.frames import FrameSource, FrameWork, lines_of_standard_input, open_capture
    from flawmap.watch.session import FolderWork

    backoff = Backoff(random.Random())
    if isinstance(watched, WatchedFolder):
        inspector.root = watched.root
        yield FolderWork(watched, inspector, CompleteFiles(arguments.settle), rate, backoff, _say, arguments.once)
        return
    every_s = None if arguments.trigger else arguments.every or EVERY_S
    source = FrameSource(watched.name, lambda: open_capture(watched), every_s, backoff, _say)
    source.start(lines_of_standard_input() if arguments.trigger else None)
    try:
        yield FrameWork(watched.name, source, inspector, rate, arguments.once)
    finally:
        source.stop()


def _destinations(arguments: Namespace) -> "list[Destination]":
    from flawmap.watch.secret import secret

    found: list[Destination] = []
    if arguments.webhook:
        from flawmap.watch.webhook import AUTHORIZATION_VARIABLE, SECRET_VARIABLE, Webhook

        key = secret(SECRET_VARIABLE)
        if not key:
            _say(f"note       messages are not signed: {SECRET_VARIABLE} is not set")
        found.append(Webhook(arguments.webhook, key, secret(AUTHORIZATION_VARIABLE)))
    if arguments.mqtt:
        from flawmap.watch import mqtt

        who = secret(mqtt.USER_VARIABLE), secret(mqtt.PASSWORD_VARIABLE)
        access = mqtt.BrokerAccess(*who, *(os.environ.get(name, "") for name in mqtt.PATH_VARIABLES))
        found.append(mqtt.MqttBroker(mqtt.BrokerAddress.of(arguments.mqtt), arguments.mqtt_topic, access))
    return found


def _delivery(journal: Path, destination: "Destination") -> "Delivery":
    from flawmap.watch.backoff import Backoff
    from flawmap.watch.delivery import Delivery

    return Delivery(journal, destination, Backoff(random.Random()), _say)


def _open(arguments: Namespace, places: "Places") -> "OpenedModel":
    """The model, which has passed its self-test.

    Raises:
        UserError: it cannot be opened or fails the self-test, or files are to be moved and it has no threshold.
    """
    from flawmap.cli.loading import without_collecting
    from flawmap.deploy.model_health import FailedModelError, ModelHealth
    from flawmap.deploy.opened_model import open_model
    from flawmap.detect.model_facts import NO_CHECKSUM

    path = Path(arguments.model)
    with without_collecting():
        model = open_model(path, arguments.device, choice=threshold_choice(arguments))
    health = ModelHealth(model.facts.self_test)
    health.run_self_test(model)
    try:
        health.refuse_failed()
    except FailedModelError as error:
        raise UserError(str(error), str(path), "copy the model again, or export it on this machine") from error
    if model.facts.self_test is None:
        _say(f"note       {NO_CHECKSUM}")
    if model.facts.calibration is None:
        remedy = command("flawmap", "calibrate", path, "GOOD_IMAGES")
        if places.ok or places.defect:
            raise UserError("without a threshold no file is good or anomalous, so none can be moved", str(path), remedy)
        _say(f"note       no threshold yet, so nothing is called anomalous: {remedy}")
    else:
        _say(f"threshold  {model.facts.threshold_words[0]}")
    return model


def _teller(arguments: Namespace, deliveries: "list[tuple[str, Delivery]]") -> "Callable[[Message], None]":
    """Prints a message, and wakes those who deliver it."""
    import msgspec

    from flawmap.cli.detect import as_line

    root = Path(os.path.abspath(arguments.source))

    def tell(message: "Message") -> None:
        for _, delivery in deliveries:
            delivery.wake()
        path = Path(message.image)
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else message.image
        if arguments.json:
            print(message.to_text(), flush=True)
        elif message.status == "judged":
            print(as_line({**msgspec.to_builtins(message), "image": name}, 0), flush=True)
        if message.problem:
            word = "unreadable" if message.status == "unreadable" else "not scored"
            _say(f"{word} {name}: {message.problem}")

    return tell


def _say(line: str) -> None:
    """To people, at once; what is judged counts more than a log that cannot be written."""
    with suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


def _note_others(journal: "Journal", keys: list[str]) -> None:
    """Say what an earlier call left for a destination that this one does not have."""
    for key, n in journal.waiting().items():
        if key not in keys:
            _say(f"note       the journal keeps {plural(n, 'message')} for --{key}; add it to deliver them")


def _counted(counts: "Counts") -> list[str]:
    words = [f"{counts.judged:,} judged", f"{counts.anomalous:,} anomalous"]
    words += [f"{counts.not_judged:,} not judged"] if counts.not_judged else []
    return [*words, *([f"{counts.left_out:,} left out"] if counts.left_out else [])]


def _alone(journal: Path) -> AbstractContextManager[None]:
    """Raises: UserError: the journal's folder is not there; or, on entering, another process uses the journal."""
    from flawmap.runs.result_folders import exclusive

    if not journal.parent.is_dir():
        raise UserError("the folder of the journal does not exist", str(journal.parent), "make it")
    return exclusive(journal, "another flawmap watch uses this journal", "stop it, or give each its own --journal")


@contextmanager
def _set_by_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; another one a second later or more ends the process at once.

    Less than a second apart, they are one: a terminal and a program that passes signals on send the same one twice.
    """
    stop, first_s = threading.Event(), float("inf")

    def note(_: int, __: object) -> None:
        nonlocal first_s
        if stop.is_set() and time.monotonic() > first_s + 1.0:
            raise KeyboardInterrupt
        if not stop.is_set():
            first_s = time.monotonic()
            stop.set()

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if threading.current_thread() is threading.main_thread():
        for number in before:
            signal.signal(number, note)
    try:
        yield stop
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
