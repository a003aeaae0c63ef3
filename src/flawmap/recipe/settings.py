"""All settings, as frozen dataclasses: one field, one meaning, one place.

A recipe file (YAML) holds the same tree of names. A field's metadata holds its meaning, its range and the methods that
use it, so that recipe files, error messages and documentation cannot disagree. The defaults are the recommended method,
``recipes/standard.yaml``.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Method = Literal["fused", "memory", "residual", "paper"]
METHODS: tuple[Method, ...] = get_args(Method)
ON_TOKENS: tuple[Method, ...] = ("fused", "memory", "residual")  # methods that score the tokens of a frozen encoder

LARGE = 10_000_000
HIGHEST_RATE = 10.0


def setting(
    default: Any,
    meaning: str,
    low: int | float | None = None,
    high: int | float | None = None,
    methods: tuple[Method, ...] = METHODS,
) -> Any:
    """A field of a settings group.

    Args:
        default: the value if a recipe does not give one.
        meaning: one line; recipe files show it as the comment.
        low: smallest number allowed, inclusive.
        high: largest number allowed, inclusive.
        methods: those that use the setting; a resolved recipe of another method leaves it out.
    """
    limits = None if low is None else (low, high)
    return field(default=default, metadata={"meaning": meaning, "range": limits, "methods": methods})


def group(default: Any, meaning: str, methods: tuple[Method, ...] = METHODS) -> Any:
    """A field that is itself a group of settings.

    Args:
        default: a class without arguments, or a function that makes the group.
        meaning: one line; recipe files show it as the comment.
        methods: those that use the group; a resolved recipe of another method leaves it out.
    """
    return field(default_factory=default, metadata={"meaning": meaning, "methods": methods})


@dataclass(frozen=True)
class DataSettings:
    """How a data folder is read. Names of folders in it are relative to it."""

    image_size_px: int = setting(224, "W: images are resized to W x W", 28, 2048)
    tiles: str = setting(
        "auto", "also score tiles: auto, none, or their side in pixels of the image", methods=ON_TOKENS
    )
    smallest_defect_px: float | None = setting(
        None, "width of the smallest defect in the image: tiles auto are as fine as it needs", 0.5, LARGE, ON_TOKENS
    )
    roi: str | None = setting(
        None,
        "region of interest, also by camera: a mask or JSON file, whose content is kept; null: all",
        methods=ON_TOKENS,
    )
    train_subset: int | None = setting(None, "use only this many training images, spread evenly by name", 1, LARGE)
    test_subset: int | None = setting(None, "use only this many test images per label, spread evenly by name", 1, LARGE)
    normal: str | None = setting(None, "folder of good images, if the layout is not a known one")
    anomalous: str | None = setting(None, "folder of defective images, for evaluation")
    masks: str | None = setting(None, "folder of masks for the defective images")
    mask_pattern: str = setting("{stem}_mask", "name of the mask that belongs to STEM.EXT, without its extension")
    group_by: str | None = setting(
        None, "what must not be split: folder, image or a pattern like {group}_*; null: as the data says"
    )
    product_by: str | None = setting(
        None, "what the product is: folder (the first one) or a pattern like {product}_*; null: as the data says"
    )
    pretrain_on: str | None = setting(None, "location of more good images for stage 1, or a folder of several")


@dataclass(frozen=True)
class ModelSettings:
    """The encoder: a timm ViT and where its weights come from."""

    weights: str = setting("dinov2_vits14", "dino_vits16, dinov2_vits14, hub:NAME of timm, random, or a path")
    architecture: str | None = setting(None, "a timm name; null: the one that belongs to the weights")
    drop_path_rate: float = setting(0.1, "stochastic depth of the student and of fine-tuning", 0, 0.9)


@dataclass(frozen=True)
class MaskingSettings:
    """Attention-conditioned patch masking (Equations 3 and 4); only the objective ``clusters`` uses it."""

    strategy: Literal["none", "random", "attention", "most_attended", "block"] = setting(
        "attention", "attention drops the least attended patches (APMask); block masks like iBOT"
    )
    drop_ratio: float = setting(0.3, "r: share of patches that the student does not see", 0, 0.9)
    mask_local_views: bool = setting(True, "also mask local views")
    attention_from: Literal["teacher", "student", "initial"] = setting("teacher", "whose attention decides")


@dataclass(frozen=True)
class PretrainSettings:
    """Stage 1: agreement of cluster assignments (Equation 1), or another objective."""

    enabled: bool = setting(False, "pre-train the encoder on the good images first")
    objective: str = setting("clusters", "clusters is the paper's; flawmap-bench adds dino, swav, ibot and msn")
    epochs: int | None = setting(300, "passes over the good images", 1, 100_000)
    steps: int | None = setting(None, "number of steps, instead of epochs", 1, LARGE)
    batch_size: int = setting(16, "B: images per step", 2, 65_536)
    local_views: int = setting(8, "V - 1: small views per image", 0, 32)
    local_size_px: int = setting(96, "side of a local view, rounded to a multiple of the patch size", 14, 1024)
    prototypes: int = setting(20, "K: number of clusters", 2, 65_536)
    temperature: float = setting(0.1, "tau of the student's predictions", 0.001, 1)
    sinkhorn_epsilon: float = setting(0.05, "entropy regularization of the teacher's assignments", 0.0005, 1)
    sinkhorn_iterations: int = setting(3, "rounds of Sinkhorn-Knopp", 1, 100)
    center_outputs: bool = setting(False, "subtract a running mean of the teacher's outputs before the l2 norm")
    learning_rate: float = setting(5e-4, "at the peak", 0, HIGHEST_RATE)
    warmup_learning_rate: float = setting(1e-5, "at the first step", 0, HIGHEST_RATE)
    final_learning_rate: float = setting(1e-6, "at the last step", 0, HIGHEST_RATE)
    warmup_epochs: float = setting(10.0, "until the learning rate peaks", 0, 100_000)
    learning_rate_scaling: Literal["none", "linear"] = setting("none", "linear multiplies rates by batch_size / 256")
    weight_decay: float = setting(0.04, "at the first step", 0, HIGHEST_RATE)
    final_weight_decay: float = setting(0.4, "at the last step", 0, HIGHEST_RATE)
    clip_gradient_norm: float = setting(3.0, "largest norm of each parameter's gradient, as in DINO", 1e-6, 1e6)
    teacher_momentum: float = setting(0.996, "of the teacher's moving average; rises to 1 on a cosine", 0, 1)
    masking: MaskingSettings = group(MaskingSettings, "which patches the student does not see")


@dataclass(frozen=True)
class SimulationSettings:
    """How defects are simulated; all but the last two settings are about attention-conditioned cut and paste."""

    blend: Literal["hard", "mixed", "poisson"] = setting("hard", "mixed: soft edges on half of the patches")
    min_size: float = setting(0.1, "smallest side of a patch, as a share of the image width", 0.005, 1)
    max_size: float = setting(0.4, "largest side of a patch, as a share of the image width", 0.005, 1)
    max_rotation_deg: float = setting(45.0, "largest rotation of a patch", 0, 180)
    min_scale: float = setting(0.7, "smallest factor by which a patch is resized", 0.05, 20)
    max_scale: float = setting(1.3, "largest factor by which a patch is resized", 0.05, 20)
    jitter: float = setting(0.1, "how strongly the colours of a patch change", 0, 0.5)
    max_patches: int = setting(1, "largest number of patches pasted into one image", 1, 50)
    simulator: str = setting("attention_cutpaste", "attention_cutpaste, the paper's, or varied, with many shapes")
    nsa_class: str | None = setting(None, "class whose parameters the simulator nsa uses; null: those of textures")


@dataclass(frozen=True)
class NormalAugmentation:
    """What is done to a good image before a defect is simulated on it."""

    min_crop: float = setting(0.8, "smallest crop, as a share of the image area", 0.05, 1)
    horizontal_flip: bool = setting(True, "swap left and right; false where a mirrored part is a defect")
    vertical_flip: bool = setting(False, "swap top and bottom; false where a mirrored part is a defect")
    max_rotation_deg: float = setting(0.0, "largest rotation of the image", 0, 180)
    jitter: float = setting(0.1, "how strongly colours change", 0, 0.5)


@dataclass(frozen=True)
class FinetuneSettings:
    """Stage 2 of the paper: detect and localize simulated anomalies (Equation 5)."""

    epochs: int | None = setting(100, "passes over the good images", 1, 100_000)
    steps: int | None = setting(None, "number of steps, instead of epochs", 1, LARGE)
    batch_size: int = setting(16, "good images per step; each brings one simulated anomaly", 1, 65_536)
    image_size_px: int | None = setting(None, "side of the training images; null: data.image_size_px", 28, 2048)
    detection_weight: float = setting(0.95, "lambda_det: weight of the detection loss", 0, 1000)
    segmentation_weight: float = setting(0.05, "lambda_seg: weight of the segmentation loss", 0, 1000)
    dice: Literal["batch", "image"] = setting("batch", "compute the Dice loss over the batch, or over each image")
    learning_rate: float = setting(5e-4, "of the encoder, at the peak", 1e-9, HIGHEST_RATE)
    head_learning_rate: float | None = setting(None, "of the detection head; null: the encoder's", 0, HIGHEST_RATE)
    aggregation_learning_rate_factor: float = setting(10.0, "for the weights of the attention map", 0, 1e6)
    warmup_learning_rate: float = setting(1e-5, "at the first step", 0, HIGHEST_RATE)
    final_learning_rate: float = setting(1e-6, "at the last step", 0, HIGHEST_RATE)
    warmup_epochs: float = setting(10.0, "until the learning rate peaks", 0, 100_000)
    weight_decay: float = setting(0.05, "applied to matrices only", 0, HIGHEST_RATE)
    clip_gradient_norm: float = setting(1.0, "largest norm of the gradient of all parameters", 1e-6, 1e6)
    augmentation: NormalAugmentation = group(NormalAugmentation, "applied to the good image first")
    simulation: SimulationSettings = group(SimulationSettings, "how the defect is simulated")


@dataclass(frozen=True)
class MemorySettings:
    """A memory of normal patch tokens, and the image score that is read from it."""

    blocks: tuple[int, ...] = setting((4, 6, 8, 10), "encoder blocks whose tokens are compared; 1 is the first", 1, 100)
    relative: bool = setting(False, "subtract the mean token of the image, which cancels its exposure")
    candidates: int = setting(200_000, "tokens per block from which the memory is chosen", 2, LARGE)
    shifts: int = setting(1, "of each image by half a patch, whose tokens are chosen from too, if there is room", 0, 3)
    shards: int | None = setting(
        None, "parts in which images are encoded and their tokens chosen; null: one for each 4,000 images", 1, LARGE
    )
    tokens: int = setting(10_000, "tokens kept per block, chosen to cover all others best", 1, 1_000_000)
    projection_dim: int = setting(64, "dimensions of the random projection in which coverage is measured", 1, 4096)
    spacing_neighbours: int = setting(5, "nearest neighbours that measure how densely normal tokens lie", 1, 1000)
    image_share: float = setting(0.02, "image score: mean of this share of the patches, the highest", 1e-6, 1)
    map_scale_images: int = setting(64, "good images that put memory and head on one scale in the map", 1, 100_000)


@dataclass(frozen=True)
class ResidualSettings:
    """A head on tokens and their differences from the nearest normal ones, trained on simulated defects."""

    simulated_images: int = setting(400, "good images with a simulated defect; each is encoded once", 1, LARGE)
    steps: int = setting(300, "number of steps", 1, LARGE)
    anomalous_cover: float = setting(0.15, "a patch counts as defective if the defect covers this share of it", 1e-6, 1)
    hidden: int = setting(128, "width of the hidden layer", 1, 65_536)
    dropout: float = setting(0.2, "dropout of the input", 0, 0.9)
    initial_logit: float = setting(-3.0, "bias at the start; negative because few patches are defective", -20, 20)
    learning_rate: float = setting(1e-3, "at the peak", 1e-9, HIGHEST_RATE)
    warmup_steps: int = setting(20, "until the learning rate peaks", 0, LARGE)
    weight_decay: float = setting(0.01, "applied to matrices only", 0, HIGHEST_RATE)
    clip_gradient_norm: float = setting(1.0, "largest norm of the head's gradient", 1e-6, 1e6)
    augmentation: NormalAugmentation = group(
        lambda: NormalAugmentation(min_crop=0.9, horizontal_flip=False), "applied to the good image first"
    )
    simulation: SimulationSettings = group(
        lambda: SimulationSettings(
            simulator="varied", blend="mixed", min_size=0.02, max_size=0.5, jitter=0.25, max_patches=3
        ),
        "how the defect is simulated",
    )


@dataclass(frozen=True)
class FusionSettings:
    """How memory and head are weighted, after each has been standardised on good images."""

    map_weights: tuple[float, float] = setting((0.5, 1.0), "weights of memory and head in the anomaly map", 0, 1000)
    image_weights: tuple[float, float] = setting((1.0, 0.0), "weights of memory and head in the image score", 0, 1000)


@dataclass(frozen=True)
class ExpectationSettings:
    """The scores of similar-looking good images, which are subtracted from every score."""

    images: int = setting(1_000, "largest number of reference images", 1, LARGE)
    tokens: int = setting(256_000, "largest number of their tokens, per block", 1, LARGE * 100)
    neighbour_share: float = setting(0.07, "share of the reference images with which a new image is compared", 0, 1)
    min_neighbours: int = setting(10, "but at least this many", 1, LARGE)
    appearance: Literal["mean_token", "cls"] = setting(
        "mean_token", "what tells like images apart: the mean token of block 10 of 12, or [CLS], which needs all blocks"
    )
    ramp: float = setting(0.1, "share of the neighbours' range of similarity over which weights rise to 1", 1e-6, 1)


@dataclass(frozen=True)
class DetectSettings:
    """At which sizes images are scored, and which score decides."""

    sizes_px: tuple[int, ...] = setting(
        (224, 320, 384, 416, 448, 512), "T test sizes, rounded to multiples of the patch size", 28, 4096, ("paper",)
    )
    image_score: Literal["vote_mean", "vote", "mean_logit", "map_max"] = setting(
        "mean_logit", "score compared with the threshold; only the paper's method has votes"
    )


@dataclass(frozen=True)
class CalibrationSettings:
    """The threshold, from what good images score that the model, or a model of other folds, has not seen."""

    folds: int = setting(5, "good images are scored by fits without their fold; 0: no threshold", 0, 1000, ON_TOKENS)
    held_out_fraction: float = setting(
        0.1, "share of the good images held out to set the threshold; 0: no threshold", 0, 0.9, ("paper",)
    )
    false_alarm_rate: float = setting(0.01, "share of good images that may be called anomalous", 1e-6, 0.5)


@dataclass(frozen=True)
class ComputeSettings:
    """Where and how precisely to compute."""

    precision: Literal["auto", "fp32", "bf16", "int8"] = setting(
        "auto", "int8: of a frozen encoder and the memory; else of stages that train; auto: bf16 where it is fast"
    )
    workers: int | None = setting(None, "data loader processes; null: 0 on a CPU, else by cores", 0, 256)
    devices: int = setting(1, "devices of each machine, which share every batch", 1, 1024)
    nodes: int = setting(1, "machines that share every batch, started by torchrun or SLURM", 1, 1024)


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a run, besides the data. ``Recipe()`` is the recommended method."""

    seed: int = setting(0, "seed of all random numbers", 0, 2**32 - 1)
    method: Method = setting("fused", "fused: memory and head together; or memory, residual (the head), or paper")
    data: DataSettings = group(DataSettings, "how the data is read")
    model: ModelSettings = group(ModelSettings, "the encoder")
    pretrain: PretrainSettings = group(PretrainSettings, "stage 1 (Equation 1), for any method")
    finetune: FinetuneSettings = group(FinetuneSettings, "stage 2 of the paper (Equation 5)", ("paper",))
    memory: MemorySettings = group(MemorySettings, "a memory of normal patch tokens", ON_TOKENS)
    residual: ResidualSettings = group(ResidualSettings, "a head trained on simulated defects", ("fused", "residual"))
    fusion: FusionSettings = group(FusionSettings, "how memory and head are weighted", ("fused",))
    expectation: ExpectationSettings = group(ExpectationSettings, "what similar good images score", ON_TOKENS)
    detect: DetectSettings = group(DetectSettings, "how images are scored")
    calibration: CalibrationSettings = group(CalibrationSettings, "how the threshold is set")
    compute: ComputeSettings = group(ComputeSettings, "where and how precisely to compute")

    @property
    def trains_encoder(self) -> bool:
        """Whether a stage of the paper trains the encoder; elsewhere it is frozen and computes in fp32."""
        return self.method == "paper" or self.pretrain.enabled

    @property
    def encoder_precision(self) -> Literal["fp32", "int8"]:
        """Of the frozen encoder and the memory of a method on tokens."""
        return "int8" if self.compute.precision == "int8" else "fp32"

    @property
    def training_precision(self) -> Literal["auto", "fp32", "bf16"]:
        """Of the stages that train the encoder; fp32 where there are none."""
        if not self.trains_encoder:
            return "fp32"
        return "auto" if self.compute.precision == "int8" else self.compute.precision

    @property
    def held_out_fraction(self) -> float:
        """Share of the good images that nothing is learned from; methods on tokens learn from all."""
        return self.calibration.held_out_fraction if self.method == "paper" else 0.0

    @property
    def no_threshold(self) -> str | None:
        """The setting that trains without a threshold where few images set none.

        None where the recipe has it already, and for methods on tokens, which say what few images can promise.
        """
        holds_out = self.method == "paper" and self.calibration.held_out_fraction
        return "calibration.held_out_fraction=0" if holds_out else None

    @property
    def fewest_images(self) -> int:
        """Good images that can be trained on, if no threshold is wanted: the paper's method compares views of two."""
        return 2 if self.method == "paper" else 1

    @property
    def simulation(self) -> SimulationSettings:
        """How defects are simulated for the method; a memory alone is not trained on them, only measured with them."""
        return self.finetune.simulation if self.method == "paper" else self.residual.simulation

    @property
    def training_size_px(self) -> int:
        """Side of the images that the method learns from, before rounding to a multiple of the patch."""
        return (self.method == "paper" and self.finetune.image_size_px) or self.data.image_size_px

    @property
    def seen_px(self) -> int:
        """Side of the largest square to which an image is resized before it is scored."""
        return max(self.detect.sizes_px) if self.method == "paper" else self.data.image_size_px
