"""A hash of the images, labels and masks that a number was measured on."""

from functools import lru_cache
from typing import Any

from flawmap.data.open_data import open_test_data, open_training_data
from flawmap.data.sample import DefectMasks, LabelledImage, MaskFile, TestData, TrainingData
from flawmap.recipe.settings import DataSettings
from flawmap.reproducibility import file_sha256, stable_hash


def data_content(good: TrainingData, test: TestData) -> str:
    """A hash that changes with the content, name or order of any image, and with any label, stratum or mask."""
    training = [(image.key, file_sha256(image.path)) for image in good.images]
    return stable_hash({"good": training, "test": [_content(sample) for sample in test.samples]})


@lru_cache(maxsize=64)
def content_of_location(location: str, settings: DataSettings) -> str:
    """The hash of a data location, computed once per process."""
    return data_content(open_training_data(location, settings), open_test_data(location, settings))


def _content(sample: LabelledImage) -> dict[str, Any]:
    return {
        "key": sample.key,
        "image": file_sha256(sample.path),
        "kind": sample.kind,
        "is_anomalous": sample.is_anomalous,
        "truth": _content_of_truth(sample),
        "strata": dict(sample.strata),
    }


def _content_of_truth(sample: LabelledImage) -> Any:
    if isinstance(sample.truth, DefectMasks):
        saturations = {str(value): repr(saturation) for value, saturation in sample.truth.saturations.items()}
        return {"masks": [file_sha256(path) for path in sample.truth.paths], "saturations": saturations}
    return file_sha256(sample.truth.path) if isinstance(sample.truth, MaskFile) else repr(sample.truth)
