"""Jobs run apart from the studio, one at a time, and a new studio finds them as they are."""

import time
from pathlib import Path

import pytest

from flawmap.errors import UserError
from flawmap_studio.jobs import Job, Jobs, Order, is_held
from flawmap_studio.lists import manifest, places_of, planned
from flawmap_studio.progress import STAGES, LogLine, progress_of, read_log
from flawmap_studio.studio import Studio

FAKE = """
import json, sys, time
print("data       3 good images", file=sys.stderr, flush=True)
if "fail" in sys.argv:
    print("error: one image is broken\\n  at: good/1.png\\nremedy: remove it", file=sys.stderr)
    sys.exit(2)
try:
    time.sleep(float(sys.argv[-1]))
except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
    sys.exit(130)
print(json.dumps({"run": "runs/a"}))
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that stands in for flawmap."""
    (tmp_path / "fake_command.py").write_text(FAKE, encoding="utf-8")
    import os

    paths = [str(tmp_path), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    import flawmap_studio

    paths.append(str(Path(flawmap_studio.__file__).parents[1]))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    return "fake_command"


def ended(jobs: Jobs, number: int, seconds: float = 30.0) -> Job:
    deadline = time.monotonic() + seconds
    while (job := jobs.of(number)).state == "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return job


def test_a_job_gives_what_its_command_printed_or_why_it_failed(studio: Studio, fake: str):
    done = ended(studio.jobs, studio.jobs.start(Order("train", "Train", [fake, "0"], {"run": "runs/a"})).id)
    assert (done.state, done.answer, done.problem, done.facts) == ("done", {"run": "runs/a"}, None, {"run": "runs/a"})
    assert done.lines[0] == "data       3 good images"
    failed = ended(studio.jobs, studio.jobs.start(Order("train", "Train", [fake, "fail", "0"])).id)
    assert failed.state == "failed"
    assert failed.problem == {"problem": "one image is broken", "place": "good/1.png", "remedy": "remove it"}


def test_a_job_outlives_the_studio_and_can_then_be_cancelled(studio: Studio, fake: str):
    job = studio.jobs.start(Order("train", "Train", [fake, "60"]))
    with pytest.raises(UserError, match="a job runs already"):
        studio.jobs.start(Order("train", "Another", [fake, "0"]))
    later = Jobs(studio.place, studio.state)  # as after a restart
    found = later.running()
    assert found is not None and found.id == job.id and is_held(studio.place.own / "jobs" / str(job.id))
    while not (found := later.of(job.id)).lines:
        time.sleep(0.05)
    assert found.progress is not None and found.progress.step == "data       3 good images"
    later.cancel(job.id)
    cancelled = ended(later, job.id)
    assert cancelled.state == "cancelled" and cancelled.lines[-1] == "interrupted"
    assert later.running() is None and not is_held(studio.place.own / "jobs" / str(job.id))


def test_a_job_that_was_killed_is_failed(studio: Studio):
    number = studio.state.insert("INSERT INTO jobs VALUES (NULL, 'train', 'Train', 'flawmap train', '{}', 0)", ())
    killed = studio.jobs.of(number)
    assert killed.state == "failed" and killed.problem is not None and "from outside" in killed.problem["problem"]


def test_a_second_studio_in_the_same_folder_is_refused(studio: Studio):
    with pytest.raises(UserError, match="another studio works in this folder"), Studio(studio.place.root):
        pass


def test_lists_name_the_images_and_are_named_by_their_content(studio: Studio):
    learn, test = studio.images.chosen("learn"), studio.images.chosen("test")
    listed = manifest("images", learn[:1], test[:1])
    assert listed.content.decode() == "image,split,label\ngood/0.png,train,good\ntest/0.png,test,\n"
    assert listed.name == planned("images", ".csv", listed.content).name != manifest("images", learn).name
    assert not (studio.place.root / listed.name).exists()
    listed.write(studio.place)
    assert (studio.place.root / listed.name).read_bytes() == listed.content


def test_folders_stand_for_images_only_where_all_of_them_are_meant(studio: Studio):
    everything = studio.images.all()
    assert places_of(studio.images.chosen("test"), everything) == ["test"]
    assert places_of(everything, everything) == ["good", "test"]
    assert places_of(studio.images.chosen("test")[:1], everything) == ["test/0.png"]


def test_progress_goes_on_and_its_time_left_follows_the_pace():
    """A training twice as slow as another takes twice as long to its end."""

    def log(pace: float) -> list[LogLine]:
        texts = ["data       3", *(f"{stage.sign} x" for stage in STAGES[1:5])]
        costs = [0.0, *(stage.fixed + stage.per_image * 60 for stage in STAGES[:4])]
        return [LogLine(pace * sum(costs[: number + 1]), False, text) for number, text in enumerate(texts)]

    shares = [progress_of("train", log(1.0)[:n], {"n_images": 60}, log(1.0)[n - 1].seconds).share for n in range(1, 6)]
    assert shares == sorted(shares) and shares[0] >= 0 and shares[-1] < 1
    slow, fast = (progress_of("train", log(p), {"n_images": 60}, log(p)[-1].seconds).left for p in (2.0, 1.0))
    rest = sum(stage.fixed + stage.per_image * 60 for stage in STAGES[4:])
    assert (seconds_of(slow), seconds_of(fast)) == (pytest.approx(2 * rest, abs=1), pytest.approx(rest, abs=1))


def seconds_of(words: str) -> int:
    minutes, _, seconds = words.rstrip("s").rpartition("m")
    return 60 * int(minutes or 0) + int(seconds)


def test_a_tests_progress_counts_its_verdicts(tmp_path: Path):
    log = tmp_path / "log"
    log.write_text("1.0\te\tthreshold 3\n2.0\to\ta ok\n3.0\to\tb ok\nhalf a li", encoding="utf-8")
    progress = progress_of("test", read_log(log), {"n_images": 10}, 3.0)
    assert (progress.share, progress.step, progress.left) == (0.2, "2 of 10 images", "8s")
    assert read_log(tmp_path / "none") == []
