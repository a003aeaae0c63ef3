"""Frames by rate and by trigger from a camera that does as it is told, and from a real stream."""

import io
import json
import os
import random
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from bright_line import DEFECT, GOOD, gray, inspector_of
from PIL import Image as Picture

import flawmap
from flawmap.data.images.files import read_image
from flawmap.errors import UserError
from flawmap.watch.backoff import Backoff
from flawmap.watch.frames import MOST_TRIGGERED, FrameAddress, FrameSource, FrameWork, is_frames, open_capture
from flawmap.watch.inspector import Places
from flawmap.watch.journal import Journal
from flawmap.watch.rate import Rate


class Camera:
    """Gives frames of one colour; each grab is a new number, which is the blue value."""

    def __init__(self, n_frames: int = 1000) -> None:
        self.n, self.n_frames = 0, n_frames

    def grab(self) -> bool:
        self.n += 1
        return self.n <= self.n_frames

    def retrieve(self):
        return True, np.full((2, 3, 3), (self.n, 1, 2), np.uint8)

    def release(self) -> None:
        pass


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def source_of(every_s: float | None, said: list[str]) -> tuple[FrameSource, Camera, Clock]:
    clock = Clock()
    backoff = Backoff(random.Random(0))
    return FrameSource("camera:0", lambda: None, every_s, backoff, said.append, clock), Camera(), clock


def run(source: FrameSource, camera: Camera, clock: Clock, n_frames: int) -> None:
    """So many frames, ten in a second."""
    for _ in range(n_frames):
        assert camera.grab()
        source.note_frame(camera)
        clock.now_s = round(clock.now_s + 0.1, 6)


def test_by_rate_the_newest_frame_wins_and_the_others_are_counted():
    source, camera, clock = source_of(0.5, [])
    run(source, camera, clock, 3)
    frame = source.take(0.0)
    assert frame is not None and frame.pixels[0, 0].tolist() == [2, 1, 1] and frame.trigger is None  # RGB
    assert source.take(0.0) is None
    run(source, camera, clock, 23)  # due at .5, 1, 1.5, 2 and 2.5 s
    frame = source.take(0.0)
    assert frame is not None and frame.pixels[0, 0, 2] == 26 and source.n_dropped == 4


def test_after_a_pause_of_the_camera_the_rate_does_not_catch_up():
    source, camera, clock = source_of(1.0, [])
    run(source, camera, clock, 1)
    clock.now_s = 100.0
    run(source, camera, clock, 20)
    assert source.n_dropped == 2  # the first, and that of 100 s


def test_each_trigger_gets_the_next_frame_and_what_is_dropped_is_named():
    said: list[str] = []
    source, camera, clock = source_of(None, said)
    run(source, camera, clock, 5)
    assert source.take(0.0) is None
    source.trigger("part 7")
    source.trigger("part 8")
    run(source, camera, clock, 5)
    frames = [source.take(0.0), source.take(0.0)]
    assert [(frame.trigger, int(frame.pixels[0, 0, 2])) for frame in frames if frame] == [("part 7", 6), ("part 8", 6)]
    assert frames[0].time_ns != frames[1].time_ns  # two rows
    for number in range(MOST_TRIGGERED + 1):
        source.trigger(f"lost {number}")
    assert said == ["dropped    trigger 'lost 0': the camera gives no frames"] and source.n_dropped == 1
    run(source, camera, clock, 1)
    source.trigger("one more")
    run(source, camera, clock, 1)
    assert said[1:] == ["dropped    the frame of trigger 'lost 1': judging is too slow"]


def test_a_camera_that_fails_is_opened_again_and_a_driver_that_raises_ends_nothing(monkeypatch):
    monkeypatch.setattr("flawmap.watch.backoff.FIRST_S", 0.01)
    opened: list[object] = []

    class Broken(Camera):
        def grab(self):
            raise RuntimeError("of a driver")

    def open_():
        opened.append((None, Broken(), Camera(3), Camera(0), OSError("no driver"), Camera(4))[min(len(opened), 5)])
        if isinstance(opened[-1], OSError):
            raise opened[-1]
        return opened[-1]

    said: list[str] = []
    source = FrameSource("camera:0", open_, 1e-6, Backoff(random.Random(0)), said.append)
    source.start()
    until = time.monotonic() + 10
    while len(opened) < 8:
        assert time.monotonic() < until
        time.sleep(0.01)
    source.stop()
    assert said[:3] == [
        "waiting    camera:0 cannot be opened; trying again until it works",
        "waiting    camera:0: of a driver",
        "watching   camera:0 gives frames again",
    ]


def test_frames_get_rows_and_are_saved_by_verdict(tmp_path):
    journal = Journal(tmp_path / "j.sqlite", ["webhook"])
    source, _, clock = source_of(None, [])
    inspector = inspector_of(journal, Places(defect=tmp_path / "defect"))
    work = FrameWork("camera:0", source, inspector, Rate(0.0), clock=clock)

    class Bright(Camera):
        def retrieve(self):
            return True, np.full((4, 4, 3), DEFECT if self.n == 2 else GOOD, np.uint8)

    camera = Bright()
    for name in ("a", "b"):
        source.trigger(name)
        run(source, camera, clock, 1)
        work.step(0.0)
    sql = "SELECT kind, image, triggered_by, is_anomalous, moved_to FROM images ORDER BY number"
    first, second = journal._db.execute(sql).fetchall()
    assert first == ("frame", "camera:0", "a", 0, None) and second[:4] == ("frame", "camera:0", "b", 1)
    assert np.array_equal(read_image(second[4]), np.full((4, 4, 3), DEFECT, np.uint8))
    assert journal.waiting() == {"webhook": 2}
    journal.close()


def test_addresses_of_cameras_and_streams(monkeypatch):
    for name in ("USER", "PASSWORD"):
        monkeypatch.delenv(f"FLAWMAP_STREAM_{name}", raising=False)
    assert FrameAddress.of("camera:2") == FrameAddress("camera:2", 2)
    address = FrameAddress.of("rtsp://cam.local:554/live?key=geheim")
    assert address == FrameAddress("rtsp://cam.local:554/live", "rtsp://cam.local:554/live?key=geheim")
    monkeypatch.setenv("FLAWMAP_STREAM_USER", "me")
    monkeypatch.setenv("FLAWMAP_STREAM_PASSWORD", "p@ss/w")
    address = FrameAddress.of("rtsp://[::1]/live")
    assert address == FrameAddress("rtsp://[::1]/live", "rtsp://me:p%40ss%2Fw@[::1]/live")
    assert is_frames("camera:x") and is_frames("RTSP://h/x") and not is_frames("folder") and not is_frames("c:\\x")
    for wrong in ("camera:x", "rtsp://", "rtsp://me:geheim@host/live", "rtsp://host:port/"):
        with pytest.raises(UserError) as caught:
            FrameAddress.of(wrong)
        assert "geheim" not in str(caught.value)


def test_a_video_file_that_opencv_wrote_is_read_frame_by_frame(tmp_path):
    cv2 = pytest.importorskip("cv2")
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (32, 24))
    for value in (10, 120, 240):
        writer.write(np.full((24, 32, 3), value, np.uint8))
    writer.release()
    capture = open_capture(FrameAddress("v", str(tmp_path / "v.avi")))
    values = []
    while capture is not None and capture.grab():
        values.append(capture.retrieve()[1].mean())
    assert np.allclose(values, (10, 120, 240), atol=3)
    assert open_capture(FrameAddress("none", str(tmp_path / "none.avi"))) is None


@contextmanager
def mjpeg_stream(pixels: np.ndarray, n_frames: int):
    """As network cameras send it: one JPEG after the other, 20 in a second; then the connection ends."""
    buffer = io.BytesIO()
    Picture.fromarray(pixels).save(buffer, "JPEG", quality=95)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(buffer.getvalue())}\r\n\r\n".encode()
            try:
                for _ in range(n_frames):
                    self.wfile.write(head + buffer.getvalue() + b"\r\n")
                    time.sleep(0.05)
            except OSError:
                pass  # the reader has gone

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/video"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


COMMAND = """
import sys
sys.path[:0] = sys.argv[1:3]
import flawmap.deploy.opened_model
from bright_line import BrightModel
flawmap.deploy.opened_model.open_model = lambda *_, **__: BrightModel()
from flawmap.cli import main
sys.exit(main(sys.argv[3:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("n_frames", [10_000, 30])  # a stream that stays, and one that breaks off all the time
def test_a_stream_by_trigger_until_standard_input_ends(tmp_path, n_frames):
    pytest.importorskip("cv2")
    here = Path(__file__).parent
    with mjpeg_stream(np.full((48, 64, 3), DEFECT, np.uint8), n_frames) as address:
        words = ["watch", address, "--model", "m", "--trigger", "--json", "--defect-to", "defect"]
        command = [sys.executable, "-c", COMMAND, str(here), str(here.parent), *words]
        environment = os.environ | {"PYTHONPATH": str(Path(flawmap.__file__).parents[1])}
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path, env=environment
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            found = []
            for number in range(5):
                process.stdin.write(f"part {number}\n".encode())
                process.stdin.flush()
                found.append(json.loads(process.stdout.readline()))
                time.sleep(0.4)
            process.stdin.close()
            assert process.wait(30) == 0
    assert [(one["trigger"], one["kind"], one["is_anomalous"]) for one in found] == [
        (f"part {number}", "frame", True) for number in range(5)
    ]
    assert {one["image"] for one in found} == {address} and len(list((tmp_path / "defect").glob("*.png"))) == 5


@pytest.mark.slow
def test_a_stream_by_rate_with_once_judges_one_frame(tmp_path):
    pytest.importorskip("cv2")
    here = Path(__file__).parent
    with mjpeg_stream(np.full((48, 64, 3), GOOD, np.uint8), 10_000) as address:
        command = [sys.executable, "-c", COMMAND, str(here), str(here.parent)]
        words = ["watch", address, "--model", "m", "--once"]
        environment = os.environ | {"PYTHONPATH": str(Path(flawmap.__file__).parents[1])}
        done = subprocess.run([*command, *words], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == "ok" and done.stderr.splitlines()[-1].startswith("done: 1 judged, 0 anomalous")


def test_options_of_files_and_cameras_are_told_apart(tmp_path, monkeypatch, capsys):
    pytest.importorskip("cv2")
    from flawmap.cli import main

    monkeypatch.chdir(tmp_path)
    gray(Path("in/a.png"), GOOD)
    for words, problem in (
        (["in", "--trigger"], "--trigger is for cameras"),
        (["in", "--every", "2"], "--every is for cameras"),
        (["camera:0", "--unread-to", "x"], "a camera has no unreadable files"),
        (["camera:one"], "neither a camera nor a stream"),
    ):
        assert main(["watch", *words, "--model", "m.onnx"]) == 2
        assert problem in capsys.readouterr().err
