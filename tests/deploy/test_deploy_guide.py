"""The commands of docs/deploy.md, run as they stand, with a recipe that trains in seconds."""

import json
import re
import shlex
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from flawmap.cli import main
from flawmap.recipe.files import to_yaml
from images import write_good
from tiny_detector import tiny_recipe

GUIDE = Path(__file__).parents[2] / "docs" / "deploy.md"


def commands() -> list[list[str]]:
    """Words of each command in the guide's bash blocks."""
    blocks = re.findall(r"```bash\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]


def beside_the_file() -> list[list[str]]:
    """The commands of a threshold beside the exported file."""
    return commands()[5:11]


def python_with(word: str) -> str:
    """The guide's block of Python that has this word."""
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    (found,) = [block for block in blocks if word in block]
    return found


def test_the_guide_goes_the_whole_way():
    assert [words[1] for words in commands()[:5]] == ["train", "detect", "export", "detect", "serve"]
    assert [words[1] for words in beside_the_file()] == [
        *("calibrate", "detect", "evaluate", "detect", "detect", "calibrate"),
    ]
    assert [words[0] for words in commands()[-2:]] == ["curl", "flawmap"] and len(commands()) == 13


@pytest.mark.slow
def test_the_whole_way_works_as_it_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_good(Path("parts/good"))
    write_good(Path("new"), 5, first_seed=500)
    Path("new/000.png").rename("new/0001.png")
    Path("tiny.yaml").write_text(to_yaml(tiny_recipe()), encoding="utf-8")
    train, *steps, serve = [words[1:] for words in commands()[:5]]
    assert main([*train, "--recipe", "tiny.yaml", "--device", "cpu"]) == 0
    for words in steps:
        assert main(words) == 0, words
    by_run, by_file = (json.loads(Path(f, "result.json").read_text())["images"] for f in ("detections", "by-file"))
    assert [one["score"] for one in by_file] == pytest.approx([one["score"] for one in by_run], abs=1e-4)
    write_good(Path("fresh"), 8, first_seed=300)
    write_good(Path("labelled/test/good"), 5, first_seed=400)
    write_good(Path("labelled/test/scratch"), 5, first_seed=420)
    judged_by = {}
    for words in beside_the_file():
        assert main(words[1:]) == 0, words
        if "--output" in words:
            folder = words[words.index("--output") + 1]
            judged_by[folder] = json.loads(Path(folder, "result.json").read_text())["judged_by"]
    assert {name: (by["false_alarm_rate"], by["min_area_px"]) for name, by in judged_by.items()} == {
        "by-threshold": (0.05, 0.0),
        "trial": (0.2, 0.0),
        "large": (0.05, pytest.approx(200.0)),
    }
    assert {by["threshold_file"] for by in judged_by.values()} == {"parts.threshold.json"}
    assert judged_by["trial"]["threshold"] <= judged_by["large"]["threshold"]
    assert not Path("parts.threshold.json").exists()
    capsys.readouterr()
    answers, reviewed = _served(serve)
    assert [answer["score"] for answer in answers] == pytest.approx([o["score"] for o in by_run], abs=1e-4)
    shown = ["anomaly" if answer["is_anomalous"] else "ok" for answer in answers]
    assert reviewed == [{"shown": word, "truth": "good"} for word in shown]
    capsys.readouterr()
    assert main([*commands()[-1][1:], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["held_out_scores"] == sorted(a["score"] for a in answers)


def _served(words: list[str]) -> tuple[list[dict], list[dict]]:
    """Serve as the guide says, on a free port, ask as its curl does for each image, and review the answers."""
    import uvicorn

    servers: list[uvicorn.Server] = []
    run = uvicorn.Server.run

    def started(server, sockets=None):
        server.config.port = 0
        servers.append(server)
        return run(server, sockets)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn.Server, "run", started)
        patch.setattr(uvicorn.Server, "install_signal_handlers", lambda server: None, raising=False)
        thread = threading.Thread(target=main, args=(words,))
        thread.start()
        while not (servers and servers[0].started):
            assert thread.is_alive()
            time.sleep(0.05)
        address = f"http://127.0.0.1:{servers[0].servers[0].sockets[0].getsockname()[1]}"
        answers, reviewed = [], []
        for path in sorted(Path("new").glob("*.png")):
            answer = _post(f"{address}/v1/detect", path.read_bytes(), "image/png")
            verdict = {name: answer[name] for name in ("sha256", "model_id", "threshold")}
            word = "disagree" if answer["is_anomalous"] else "agree"
            review = {"image": path.name, "review": word, **verdict}
            answers.append(answer)
            reviewed.append(_post(f"{address}/v1/reviews", json.dumps(review).encode(), "application/json"))
        servers[0].should_exit = True
        thread.join(timeout=120)
        assert not thread.is_alive()
    return answers, reviewed


def _post(address: str, body: bytes, content_type: str) -> dict:
    request = urllib.request.Request(address, body, {"content-type": content_type})
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.loads(reply.read())
