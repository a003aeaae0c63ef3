"""Whether positions count is told by simulated defects on good images, and what was decided is kept."""

from pathlib import Path

import numpy as np
import pytest
import torch

from flawmap.data.open_data import load_images
from flawmap.detect.detector import AnomalyDetector
from flawmap.models.encoder import Encoder
from flawmap.models.weights import build_vit
from flawmap.scorers.patch_memory import PatchMemory
from flawmap.scorers.position_gaussians import PositionGaussians
from flawmap.scorers.token_scorers import FusedScorer, TokenScorerShape
from flawmap.training import normal_evidence
from flawmap.training.run_folder import create_run
from tiny_detector import striped, tiny_recipe, write_good

SMALL = (
    *("data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false", "scoring=fused"),
    *("memory.blocks=[1, 2]", "memory.tokens=40", "residual.steps=4", "residual.batch_size=6"),
)


def fused_detector(folder: Path, *changes: str) -> AnomalyDetector:
    """Trained in ``folder``; another one there finds its stages."""
    recipe = tiny_recipe(*SMALL, *changes)
    images = load_images(folder / "good" if (folder / "good").is_dir() else write_good(folder / "good"))
    return AnomalyDetector(recipe).fit(images, create_run(folder / "runs" / "a", "test", recipe), device="cpu")


def deciding(monkeypatch, without: float, with_them: float, error: float) -> None:
    values = iter((without, with_them))
    monkeypatch.setattr(normal_evidence, "_auroc_of", lambda *_: next(values))
    monkeypatch.setattr(normal_evidence, "_error_of_gain", lambda *_: error)


@pytest.mark.parametrize(
    ("without", "with_them", "error", "count"),
    [(0.8, 0.9, 0.05, True), (0.8, 0.9, 0.11, False), (0.9, 0.8, 0.01, False), (1.0, 1.0, 0.0, False)],
)
def test_positions_count_where_simulated_defects_are_then_told_better_than_by_chance(
    tmp_path: Path, monkeypatch, capsys, without: float, with_them: float, error: float, count: bool
):
    deciding(monkeypatch, without, with_them, error)
    detector = fused_detector(tmp_path)
    assert isinstance(detector.scorer_, FusedScorer)
    assert (detector.scorer_.position_gaussians is not None) == count
    assert detector.scorer_.expectation.tops.shape == (22, 3 if count else 2)
    said = (
        f"positions  {'count' if count else 'do not count'}: simulated defects on 22 good images are told with AUROC "
    )
    assert f"{said}{100 * with_them:.1f} with them, {100 * without:.1f} without (± {100 * error:.1f})" in (
        capsys.readouterr().err
    )


def test_positions_are_not_tried_where_the_map_decides(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(normal_evidence, "_with_positions_if_they_help", None)
    detector = fused_detector(tmp_path, "detect.image_score=map_max")
    assert isinstance(detector.scorer_, FusedScorer) and detector.scorer_.position_gaussians is None


@pytest.mark.parametrize("count", [True, False])
def test_what_was_decided_is_kept_and_reused(tmp_path: Path, monkeypatch, count: bool):
    deciding(monkeypatch, 0.5, 0.9 if count else 0.4, 0.0)
    first = fused_detector(tmp_path)
    monkeypatch.setattr(normal_evidence, "_auroc_of", None)  # a second run beside it takes the stage as it is
    second = fused_detector(tmp_path)
    first.save_pretrained(tmp_path / "model")
    loaded = AnomalyDetector.from_pretrained(tmp_path / "model", device="cpu")
    image = striped(900)
    image[20:40, 10:30] = 0
    expected = first.predict_one(image)
    for other in (second, loaded):
        assert isinstance(other.scorer_, FusedScorer) and (other.scorer_.position_gaussians is not None) == count
        found = other.predict_one(image)
        assert found.score == expected.score
        np.testing.assert_array_equal(found.anomaly_map, expected.anomaly_map)


def test_without_positions_a_scorer_is_as_if_they_had_never_been_tried(tmp_path: Path, monkeypatch):
    deciding(monkeypatch, 0.5, 0.5, 0.0)
    tried = fused_detector(tmp_path).scorer_

    def never(scorer, tokens, pixels, recipe, compute):
        normal_evidence._fit_expectation(scorer, tokens, compute)
        return scorer

    monkeypatch.setattr(normal_evidence, "_with_positions_if_they_help", never)
    untried = fused_detector(tmp_path / "other").scorer_
    assert tried is not None and untried is not None
    states = tried.state_dict(), untried.state_dict()
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name], rtol=0, atol=0)


@torch.no_grad()
def test_a_defect_is_judged_without_the_images_it_was_made_from():
    """Against a memory, Gaussians and like images that never held them."""
    torch.manual_seed(0)
    encoder = Encoder(build_vit("test_vit", 0.0)).eval()
    shape = TokenScorerShape((0, 1), 6 * 16, 8, 0.25, num_positions=16, position_channels=5)
    scorer = FusedScorer(encoder, shape).eval()
    images = torch.randn(6, 3, 4 * encoder.patch_size_px, 4 * encoder.patch_size_px)
    cls, tokens = encoder.cls_and_tokens_of(images, (0, 1))
    unit = torch.nn.functional.normalize(tokens, dim=-1)
    scorer.memory.tokens.copy_(unit.flatten(0, 1).transpose(0, 1))  # all tokens of all images
    scorer.memory.sources.copy_(torch.arange(6).repeat_interleave(16).expand(2, -1))
    assert scorer.position_gaussians is not None
    scorer.position_gaussians.fit(tokens, torch.Generator().manual_seed(1))
    scorer.fit_expectation(cls, [(one, torch.tensor([i])) for i, one in enumerate(tokens.split(1))])
    defect = images[2] + 0.3 * torch.randn_like(images[2])
    of_cls, of_defect = encoder.cls_and_tokens_of(defect[None], (0, 1))
    sources = torch.tensor([[2, 4]])  # the image itself, and where a patch came from
    found = normal_evidence.beyond_their_like(scorer, of_defect, of_cls, tokens[2:3], sources, row=2)[0]

    strangers = [0, 1, 3, 5]
    memory = PatchMemory(2, 4 * 16, encoder.embed_dim)
    memory.tokens.copy_(unit[strangers].flatten(0, 1).transpose(0, 1))
    memory.mean.copy_(scorer.memory.mean), memory.deviation.copy_(scorer.memory.deviation)
    distance = memory.standardised(memory.nearest(of_defect))
    others = [row for row in range(6) if row != 2]
    by_memory = scorer.top_mean(distance) - scorer.expectation.tops[others, 0].mean()  # fewer than ten: all alike
    assert found[0].item() == pytest.approx(by_memory.item(), abs=1e-4)
    refitted = PositionGaussians(16, 5)
    refitted.fit(tokens[others], torch.Generator().manual_seed(1))
    by_position = scorer.top_mean(refitted(of_defect)) - scorer.expectation.tops[others, 2].mean()
    # the others' covariance is divided by 4 there and by 5 here, and shrunk a little more
    assert found[2].item() == pytest.approx(by_position.item(), rel=0.25)
    in_it = scorer.top_mean(scorer.position_gaussians(of_defect)) - scorer.expectation.tops[others, 2].mean()
    assert found[2] > in_it + 0.05


def test_the_auroc_is_that_of_defects_against_good_images():
    scores = np.array([[0.0, 2.0, 3.0], [1.0, 0.5, 4.0]])  # a good image, then its two defects, in each row
    assert normal_evidence._auroc_of(scores) == pytest.approx(7 / 8)


def test_the_error_of_a_gain_is_that_over_images():
    generator = np.random.default_rng(0)
    good, defects = generator.normal(size=(400, 1)), generator.normal(1.0, size=(400, 1))
    before = np.hstack([good, defects])
    assert normal_evidence._error_of_gain(before, before, np.random.default_rng(1)) == 0
    after = np.hstack([generator.normal(size=(400, 1)), generator.normal(1.0, size=(400, 1))])
    # of two unrelated AUROCs of 0.76 by Hanley and McNeil's formula, 400 of each class
    a = 0.76
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    one = np.sqrt((a * (1 - a) + 399 * (q1 - a * a) + 399 * (q2 - a * a)) / 400**2)
    found = normal_evidence._error_of_gain(before, after, np.random.default_rng(1))
    assert found == pytest.approx(np.sqrt(2) * one, rel=0.2)
