"""All settings, as frozen dataclasses: one field, one meaning, one place.

A recipe file (YAML) holds the same tree of names. Three presets are the effort dial: ``quick``, ``standard``
and ``paper`` (the letter of the paper). Field comments name the paper's symbol where there is one.
"""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class DataSettings:
    """How a data folder is read. Names of folders in it are relative to it."""

    image_size_px: int = 224  # W: training images are resized to W x W
    train_subset: int | None = None  # use only this many training images, chosen evenly by name
    test_subset: int | None = None  # use only this many test images per label, chosen evenly by name
    normal: str | None = None  # folder of good images, where the layout is not a known one
    anomalous: str | None = None  # folder of defective images, for evaluation
    masks: str | None = None  # folder of masks for the anomalous images
    mask_pattern: str = "{stem}_mask"  # name of the mask that belongs to STEM.EXT, without its ending
    # a further data location, or a folder of several: stage 1 learns from their good images, too; stage 2 does not.
    # Relative to where flawmap is called
    pretrain_on: str | None = None


@dataclass(frozen=True)
class ModelSettings:
    """The encoder: a timm ViT and where its weights come from."""

    weights: str = "dinov2_vits14"  # dino_vits16 | dinov2_vits14 | hub:NAME of timm | random | a path
    architecture: str | None = None  # a timm name; None: the one that the weights belong to
    drop_path_rate: float = 0.1  # stochastic depth of the student and of fine-tuning, not of the teacher


@dataclass(frozen=True)
class MaskingSettings:
    """Attention-conditioned patch masking (Equations 3 and 4); all of it concerns the objective ``clusters`` only."""

    # attention: least attended patches are dropped (APMask); most_attended: its opposite; block: as in iBOT
    strategy: Literal["none", "random", "attention", "most_attended", "block"] = "attention"
    drop_ratio: float = 0.3  # r
    mask_local_views: bool = True
    attention_from: Literal["teacher", "student", "initial"] = "teacher"


@dataclass(frozen=True)
class PretrainSettings:
    """Stage 1: agreement of cluster assignments (Equation 1), or another objective in its place.

    Loop, views of the data set, schedules and optimiser serve every objective. ``center_outputs`` and ``masking``
    are ignored by all but ``clusters``; dino, ibot and msn keep the outputs, temperatures and Sinkhorn of their files
    in ``objectives/``.
    """

    enabled: bool = True
    objective: Literal["clusters", "dino", "swav", "ibot", "msn"] = "clusters"  # clusters: ours
    epochs: int | None = 300
    steps: int | None = None  # a fixed number of steps instead of epochs
    batch_size: int = 16  # B
    local_views: int = 8  # V - 1
    local_size_px: int = 96  # rounded to a multiple of the patch size
    prototypes: int = 20  # K of clusters and swav
    temperature: float = 0.1  # tau of clusters and swav
    sinkhorn_epsilon: float = 0.05  # of clusters and swav
    sinkhorn_iterations: int = 3  # of clusters and swav
    # subtract a running mean of the teacher's outputs before the l2 norm; clusters only, ignored by the others
    center_outputs: bool = False
    learning_rate: float = 5e-4
    warmup_learning_rate: float = 1e-5
    final_learning_rate: float = 1e-6
    warmup_epochs: float = 10.0
    learning_rate_scaling: Literal["none", "linear"] = "none"  # linear: times batch_size / 256
    weight_decay: float = 0.04
    final_weight_decay: float = 0.4
    clip_gradient_norm: float = 3.0  # of each parameter, as DINO does
    teacher_momentum: float = 0.996  # rises to 1 on a cosine; swav has no teacher
    masking: MaskingSettings = field(default_factory=MaskingSettings)  # clusters only, ignored by the others


NsaClass = Literal[
    "bottle",
    "cable",
    "capsule",
    "carpet",
    "grid",
    "hazelnut",
    "leather",
    "metal_nut",
    "pill",
    "screw",
    "tile",
    "toothbrush",
    "transistor",
    "wood",
    "zipper",
    "chest_xray",
]


@dataclass(frozen=True)
class SimulationSettings:
    """Anomaly simulation; all but the last two concerns ours, attention-conditioned cutting and pasting."""

    blend: Literal["hard", "mixed", "poisson"] = "hard"  # mixed: every other patch, by chance, with soft edges
    min_size: float = 0.1  # of the image width
    max_size: float = 0.4
    max_rotation_deg: float = 45.0
    min_scale: float = 0.7
    max_scale: float = 1.3
    jitter: float = 0.1
    max_patches: int = 1
    simulator: Literal[
        "attention_cutpaste",  # the paper's
        "varied",  # a third of them the paper's, the others defects of many shapes and looks, placed by attention, too
        "random_cutpaste",  # ours with random locations: the control
        "cutpaste",
        "scar",
        "cutpaste_union",
        "fpi",
        "pii",
        "nsa",
        "draem",
    ] = "attention_cutpaste"
    # of the simulator nsa: the class of MVTec AD whose parameters it takes, or chest_xray; None: those for textures
    nsa_class: NsaClass | None = None


@dataclass(frozen=True)
class NormalAugmentation:
    """What is done to a normal image before an anomaly is simulated on it."""

    min_crop: float = 0.8  # of the area
    horizontal_flip: bool = True
    vertical_flip: bool = False
    max_rotation_deg: float = 0.0
    jitter: float = 0.1


@dataclass(frozen=True)
class FinetuneSettings:
    """Stage 2: detect and localize simulated anomalies (Equation 5)."""

    epochs: int | None = 100
    steps: int | None = None
    batch_size: int = 16  # normal images per step; each brings one simulated anomaly
    image_size_px: int | None = None  # None: data.image_size_px
    detection_weight: float = 0.95  # lambda_det
    segmentation_weight: float = 0.05  # lambda_seg
    dice: Literal["batch", "image"] = "batch"
    learning_rate: float = 5e-4  # of the encoder
    head_learning_rate: float | None = None  # None: the encoder's
    aggregation_learning_rate_factor: float = 10.0
    warmup_learning_rate: float = 1e-5
    final_learning_rate: float = 1e-6
    warmup_epochs: float = 10.0
    weight_decay: float = 0.05
    clip_gradient_norm: float = 1.0
    augmentation: NormalAugmentation = field(default_factory=NormalAugmentation)
    simulation: SimulationSettings = field(default_factory=SimulationSettings)


@dataclass(frozen=True)
class MemorySettings:
    """A memory of normal patch tokens, for the scorers ``memory``, ``residual`` and ``fused``."""

    blocks: tuple[int, ...] = (4, 6, 8, 10)  # whose tokens are compared, 1 = the encoder's first block
    tokens: int = 10_000  # kept of each block, those that cover all others best
    relative: bool = False  # to the mean token of the image: exposure and device, common to all of it, do not count
    image_share: float = 0.02  # the image score is the mean over this share of the tokens, those with most evidence


@dataclass(frozen=True)
class ResidualSettings:
    """A head on tokens and their differences from normal ones, for the scorers ``residual`` and ``fused``."""

    steps: int = 300
    batch_size: int = 8  # normal images per step; each brings one simulated anomaly
    hidden: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    augmentation: NormalAugmentation = field(
        default_factory=lambda: NormalAugmentation(min_crop=0.9, horizontal_flip=False)
    )
    simulation: SimulationSettings = field(
        default_factory=lambda: SimulationSettings(
            simulator="varied", blend="mixed", min_size=0.02, max_size=0.5, jitter=0.25, max_patches=3
        )
    )


@dataclass(frozen=True)
class DetectSettings:
    """Multi-scale evaluation."""

    # T sizes of paper_head, rounded to multiples of the patch; the other scorers compare at data.image_size_px
    sizes_px: tuple[int, ...] = (224, 320, 384, 416, 448, 512)
    image_score: Literal["vote_mean", "vote", "mean_logit", "map_max"] = "vote_mean"


@dataclass(frozen=True)
class CalibrationSettings:
    """The threshold, from normal images that no stage has seen."""

    held_out_fraction: float = 0.1
    false_alarm_rate: float = 0.01


@dataclass(frozen=True)
class ComputeSettings:
    """Where and how precisely to compute. ``auto``: bf16 where the processor has it, else fp32."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    workers: int | None = None  # loader processes; None: none on a processor, else by the number of cores
    devices: int = 1  # with more, training is distributed: each device takes its share of every batch


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a run, besides the data."""

    seed: int = 0
    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    pretrain: PretrainSettings = field(default_factory=PretrainSettings)
    # who scores. paper_head: the network of stage 2. The others leave the encoder of stage 1 as it is and look at
    # tokens of its middle blocks; memory: distance to normal ones; residual: a trained head; fused: both
    scoring: Literal["paper_head", "memory", "residual", "fused"] = "paper_head"
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)  # of paper_head only
    memory: MemorySettings = field(default_factory=MemorySettings)  # of all but paper_head
    residual: ResidualSettings = field(default_factory=ResidualSettings)  # of residual and fused
    detect: DetectSettings = field(default_factory=DetectSettings)
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)
    compute: ComputeSettings = field(default_factory=ComputeSettings)

    @property
    def simulation(self) -> SimulationSettings:
        """How anomalies are simulated for what scores; a memory alone needs none, and is only judged by them."""
        return self.finetune.simulation if self.scoring == "paper_head" else self.residual.simulation

    @property
    def seen_px(self) -> int:
        """Side of the largest square that an image is resized to before it is scored."""
        return max(self.detect.sizes_px) if self.scoring == "paper_head" else self.data.image_size_px

    @classmethod
    def preset(cls, name: str) -> "Recipe":
        """A preset by name, such as ``quick``, ``standard`` or ``paper``: a file of the folder recipes."""
        from flawmap.recipe_files import load_recipe  # reads YAML, which settings themselves need not

        return load_recipe(name)
