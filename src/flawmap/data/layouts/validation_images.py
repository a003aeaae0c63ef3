"""Good images that a benchmark keeps for choosing a threshold: MVTec AD 2 and MVTec LOCO have them in validation/good.

They stay out of training, so ``flawmap calibrate`` can set the threshold from images that no fit has seen.
"""

from pathlib import Path

from flawmap.advice import command
from flawmap.data.layouts.image_folders import images_in
from flawmap.data.sample import FileRemark

VALIDATION = "validation"


def remark_on_validation(path: Path) -> tuple[FileRemark, ...]:
    """What ``path/validation/good`` is for; nothing where it has no images."""
    folder = path / VALIDATION / "good"
    if not folder.is_dir() or not (images := images_in(folder).images):
        return ()
    calibrate = command("flawmap", "calibrate", "RUN", str(folder))
    text = f"{len(images)} good images that are not trained on; {calibrate} sets the threshold from them"
    return (FileRemark(f"{VALIDATION}/good", text),)
