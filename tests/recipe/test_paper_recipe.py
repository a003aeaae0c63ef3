"""Two real, unscaled steps of each stage of ``paper`` (random ViT-S/16, 224 px, batch 16), and its full time."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flawmap.data.sample import NormalImage
from flawmap.detect.fit import fit_scorer
from flawmap.engine.compute import choose_compute
from flawmap.recipe.files import load_recipe
from flawmap.runs.run_folder import create_run

MVTEC_IMAGES = 3629
X_RAYS = 50500


@pytest.mark.slow
def test_two_steps_of_the_paper_run_unscaled(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    images = []
    for index in range(16):
        path = tmp_path / f"{index}.png"
        Image.fromarray(generator.integers(0, 256, (256, 256, 3), dtype=np.uint8)).save(path)
        images.append(NormalImage(path.name, path))
    recipe = load_recipe("paper")
    assert (recipe.pretrain.batch_size, recipe.pretrain.local_views, recipe.data.image_size_px) == (16, 8, 224)
    recipe = replace(
        recipe,
        model=replace(recipe.model, weights="random", architecture="vit_small_patch16_224"),
        pretrain=replace(recipe.pretrain, epochs=None, steps=2),
        finetune=replace(recipe.finetune, epochs=None, steps=2),
    )
    run = create_run(tmp_path / "run", "noise", recipe)
    compute = choose_compute("cpu")
    started = time.perf_counter()
    fit_scorer(images, recipe, run, compute, stages="pretrain")
    pretrain_seconds = (time.perf_counter() - started) / 2
    started = time.perf_counter()
    trained = fit_scorer(images, recipe, run, compute)
    finetune_seconds = (time.perf_counter() - started) / 2
    assert trained.scorer is not None
    assert len(run.log.read_text().splitlines()) == 4
    steps = MVTEC_IMAGES // 16
    days = steps * (300 * pretrain_seconds + 100 * finetune_seconds) / 86400
    xray_days = X_RAYS // 16 * 100 * finetune_seconds / 86400
    print(
        f"\n{pretrain_seconds:.1f} s per step of stage 1, {finetune_seconds:.1f} s of stage 2 ({compute.precision}); "
        f"all of MVTec AD: {days:.0f} days; NIH's X-rays: {xray_days:.0f} days"
    )
