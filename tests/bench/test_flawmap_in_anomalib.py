"""flawmap as a model of anomalib: its engine fits and tests it. Skipped where anomalib is not installed."""

from pathlib import Path

import numpy as np
import pytest

from images import striped, write_good, write_image
from tiny_detector import tiny_recipe

pytest.importorskip("anomalib")

SETTINGS = ("data.image_size_px=64", "detect.image_score=mean_logit", "pretrain.enabled=false", "method=fused")
SMALL = ("memory.blocks=[1, 2]", "memory.tokens=40", "residual.steps=4", "residual.simulated_images=6")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # anomalib's and Lightning's own
def test_anomalibs_engine_fits_it_and_measures_what_the_detector_scores(tmp_path: Path):
    from anomalib.data import Folder  # pyright: ignore[reportMissingImports]
    from anomalib.engine import Engine  # pyright: ignore[reportMissingImports]

    from flawmap.metrics.ranking import auroc
    from flawmap_bench.peers.flawmap_in_anomalib import Flawmap

    write_good(tmp_path / "good", 12)
    good = write_good(tmp_path / "test", 5, first_seed=300)
    for number in range(5):
        image = striped(400 + number)
        image[8:24, 8:24] = 0
        write_image(tmp_path / "bad" / f"{number}.png", image)
    data = Folder(
        name="parts",
        root=tmp_path,
        normal_dir="good",
        normal_test_dir="test",
        abnormal_dir="bad",
        val_split_mode="same_as_test",
        train_batch_size=4,
        eval_batch_size=3,
        num_workers=0,
    )
    model = Flawmap(tiny_recipe(*SETTINGS, *SMALL))
    engine = Engine(default_root_dir=tmp_path / "results", logger=False)
    engine.fit(model=model, datamodule=data)
    assert model.detector.calibration_ is not None
    (measured,) = engine.test(model=model, datamodule=data)
    paths = [*sorted(good.iterdir()), *sorted((tmp_path / "bad").iterdir())]
    scores = np.array([model.detector.predict(path).score for path in paths])
    assert measured["image_AUROC"] == pytest.approx(auroc(scores, np.arange(10) >= 5), abs=1e-6)
    batches = engine.predict(model=model, datamodule=data)
    assert {tuple(batch.anomaly_map.shape[-2:]) for batch in batches} == {tuple(batches[0].image.shape[-2:])}
