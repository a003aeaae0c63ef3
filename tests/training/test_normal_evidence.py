"""Whether positions count is told by simulated defects on good images, and what was decided is kept."""

from pathlib import Path

import numpy as np
import pytest
import torch

from flawmap.data.open_data import load_images
from flawmap.detect.detector import AnomalyDetector
from flawmap.scorers.token_scorers import FusedScorer
from flawmap.training import normal_evidence
from flawmap.training.run_folder import create_run
from tiny_detector import striped, tiny_recipe, write_good

SMALL = (
    *("data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false", "scoring=fused"),
    *("memory.blocks=[1, 2]", "memory.tokens=40", "residual.steps=4", "residual.batch_size=6"),
)


def evidence(memory: list[float], positions: list[float]) -> torch.Tensor:
    """Of each image, the kinds memory, head and positions; the head's is no matter."""
    return torch.tensor([memory, [0.0] * len(memory), positions]).T


@pytest.mark.parametrize(
    ("good", "defects", "count"),
    [
        # the memory confuses one pair, positions tell it
        (evidence([0, 1, 2, 3], [0, 0, 1, 1]), evidence([2, 4, 5, 6], [9, 9, 9, 9]), True),
        # the memory is right about all, positions are not
        (evidence([0, 1, 2, 3], [0, 9, 0, 0]), evidence([4, 5, 6, 7], [0, 0, 0, 0]), False),
        # nothing is gained
        (evidence([0, 1, 2, 3], [0, 1, 0, 1]), evidence([9, 9, 9, 9], [9, 9, 9, 9]), False),
    ],
)
def test_positions_count_where_simulated_defects_are_then_told_better(
    tmp_path: Path, monkeypatch, capsys, good: torch.Tensor, defects: torch.Tensor, count: bool
):
    monkeypatch.setattr(normal_evidence, "_scores", lambda *_: good)
    monkeypatch.setattr(normal_evidence, "_scores_of_defects", lambda *_: defects)
    detector = detector_of(tmp_path)
    assert isinstance(detector.scorer_, FusedScorer)
    assert (detector.scorer_.positions is not None) == count
    assert detector.scorer_.expectation.tops.shape == (22, 3 if count else 2)
    assert f"positions  {'count' if count else 'do not count'}: simulated defects on 4 good" in capsys.readouterr().err


def detector_of(tmp_path: Path) -> AnomalyDetector:
    recipe = tiny_recipe(*SMALL)
    images = (
        load_images(write_good(tmp_path / "good"))
        if not (tmp_path / "good").is_dir()
        else load_images(tmp_path / "good")
    )
    run_folder = tmp_path / "runs" / "a"
    run = create_run(run_folder, "test", recipe)
    return AnomalyDetector(recipe).fit(images, run, device="cpu")


@pytest.mark.parametrize("count", [True, False])
def test_what_was_decided_is_kept_and_reused(tmp_path: Path, monkeypatch, count: bool):
    if not count:
        monkeypatch.setattr(normal_evidence, "auroc", lambda *_: 0.5)  # no gain
    else:
        values = iter((0.5, 0.6))
        monkeypatch.setattr(normal_evidence, "auroc", lambda *_: next(values))
    first = detector_of(tmp_path)
    monkeypatch.setattr(normal_evidence, "auroc", None)  # a second run beside it takes the stage as it is
    second = detector_of(tmp_path)
    first.save_pretrained(tmp_path / "model")
    loaded = AnomalyDetector.from_pretrained(tmp_path / "model", device="cpu")
    image = striped(900)
    image[20:40, 10:30] = 0
    expected = first.predict_one(image)
    for other in (second, loaded):
        assert isinstance(other.scorer_, FusedScorer) and (other.scorer_.positions is not None) == count
        found = other.predict_one(image)
        assert found.score == expected.score
        np.testing.assert_array_equal(found.anomaly_map, expected.anomaly_map)


def test_without_positions_a_scorer_is_as_if_they_had_never_been_tried(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(normal_evidence, "auroc", lambda *_: 0.5)
    tried = detector_of(tmp_path).scorer_
    monkeypatch.setattr(normal_evidence, "with_positions", lambda scorer, *_: scorer)
    monkeypatch.setattr(normal_evidence, "_if_they_help", lambda scorer, *_: scorer)
    never = detector_of(tmp_path / "other").scorer_
    assert tried is not None and never is not None
    states = tried.state_dict(), never.state_dict()
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name], rtol=0, atol=0)


def test_defects_are_judged_without_the_image_they_were_made_on(tmp_path: Path, monkeypatch):
    """A simulated defect too small to matter scores what the good image itself scores, both without its own tokens."""
    seen = []
    judge = normal_evidence._scores

    def watched(*arguments):
        seen.append(judge(*arguments))
        return seen[-1]

    monkeypatch.setattr(normal_evidence, "_scores", watched)
    unchanged = type("Nothing", (), {"__call__": lambda self, image, *_: type("A", (), {"image": image})()})()
    monkeypatch.setattr(normal_evidence, "simulator_by_name", lambda *_: unchanged)
    detector_of(tmp_path)
    good, defects = seen[0], torch.cat(seen[1:])
    again = good.repeat_interleave(normal_evidence.DEFECTS_PER_IMAGE, dim=0)
    torch.testing.assert_close(defects, again, atol=0.05, rtol=0.01)  # tokens of good images are kept in float16
