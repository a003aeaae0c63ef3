"""flawmap's encoder weights as a folder that timm's ``local-dir:`` reads, so that peers start from the same weights."""

import json
from pathlib import Path

from safetensors.torch import save_file

from flawmap.recipe.settings import ModelSettings
from flawmap.vit.weights import IMAGENET_MEAN, IMAGENET_STD, WeightsOrigin, load_encoder


def write_local_weights(parent: Path, settings: ModelSettings) -> tuple[str, WeightsOrigin]:
    """Write weights and configuration into a folder inside ``parent`` that is named after the architecture.

    anomalib recognises an architecture by words in its name ("small", "dinov2"), so the folder must have them, too.

    Args:
        parent: exists.
        settings: which weights.

    Returns:
        the name for ``timm.create_model(name, pretrained=True)``, and where the weights came from.

    Raises:
        UserError: the weights cannot be found.
    """
    encoder, origin = load_encoder(settings)
    architecture = origin.architecture.split(".")[0]
    folder = parent / architecture
    folder.mkdir()
    state = {name: tensor.contiguous() for name, tensor in encoder.vit.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    size_px = encoder.vit.patch_embed.img_size[0]  # of the images that the model's own positions belong to
    config = {
        "architecture": architecture,
        "num_classes": 0,
        "model_args": {"img_size": size_px},
        "pretrained_cfg": {
            "input_size": [3, size_px, size_px],
            "mean": list(IMAGENET_MEAN),
            "std": list(IMAGENET_STD),
            "num_classes": 0,
        },
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return f"local-dir:{folder}", origin
