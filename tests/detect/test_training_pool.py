"""A pool reaches stage 1 and nothing else. No step of training is made here."""

from pathlib import Path

import pytest

from flawmap.data.images.normal_pixels import NormalPixels
from flawmap.data.sample import NormalImage
from flawmap.detect.fit import fit_scorer
from flawmap.paper import fit as paper_fit
from images import striped, write_image

pytestmark = pytest.mark.usefixtures("small_heads")


@pytest.fixture
def pool(tmp_path: Path) -> tuple[NormalImage, ...]:
    """Seven images of another category."""
    paths = [write_image(tmp_path / "other" / f"{number}.png", striped(300 + number)) for number in range(7)]
    return tuple(NormalImage(f"other/{path.name}", path) for path in paths)


@pytest.fixture
def read_by_stage(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Keys of the images that each stage would have read, and 'STAGE STEPS' in between."""
    seen: list[list[str]] = []

    class Recorded(NormalPixels):
        def __init__(self, images, size_px: int) -> None:
            seen.append([image.key for image in images])
            super().__init__(images, size_px)

    def no_training(module, dataset, num_images, plan, stage, _: object) -> None:
        seen.append([stage.name, str(num_images), str(plan.total_steps)])

    monkeypatch.setattr(paper_fit, "NormalPixels", Recorded)
    monkeypatch.setattr(paper_fit, "train", no_training)
    return seen


def test_pooled_images_reach_stage_1_and_not_stage_2(
    normal_images, pool, tiny_recipe, new_run, cpu, read_by_stage
) -> None:
    fit_scorer(normal_images, tiny_recipe, new_run("run"), cpu, pool=pool)
    own = [image.key for image in normal_images]
    assert read_by_stage == [
        own + [image.key for image in pool],
        ["pretrain", "17", "8"],  # two epochs of four batches of four
        own,
        ["finetune", "10", "4"],
    ]


def test_a_pool_has_keys_of_its_own(normal_images, pool, tiny_recipe, new_run, cpu, read_by_stage) -> None:
    number = iter(range(100))

    def keys(with_pool: tuple[NormalImage, ...]) -> dict[str, str]:
        run = new_run("run", f"shelf {next(number)}")
        return fit_scorer(normal_images, tiny_recipe, run, cpu, pool=with_pool).stage_keys

    alone, pooled, smaller = keys(()), keys(pool), keys(pool[:-1])
    write_image(pool[0].path, striped(999))
    changed = keys(pool)
    for stage in ("pretrain", "finetune"):  # what stage 2 starts from is another encoder
        assert len({one[stage] for one in (alone, pooled, smaller, changed)}) == 4
    assert keys(()) == alone
