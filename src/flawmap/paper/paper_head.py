"""The paper's scorer: encoder f, detection head g_gamma and the learned aggregation of attention maps."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from flawmap.paper.detection_heads import AttentionAggregation, DetectionHead
from flawmap.scorer import Scorer, ScorerOutput
from flawmap.vit.encoder import Encoder


class PaperHead(Scorer):
    """Phi of the paper: an image gives one image logit and a map of evidence on its patch grid.

    Args:
        encoder: pre-trained; all of it is tuned in stage 2.
    """

    decides: ClassVar[bool] = True

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        self.detection = DetectionHead(encoder.embed_dim)
        self.aggregation = AttentionAggregation(encoder.num_heads)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b 2"], Float[Tensor, "b r c"]]:
        """Score normalised images whose sides are multiples of the patch size.

        Returns:
            logits of (normal, anomalous), and the map's evidence E on the patch grid; both float32.
        """
        output = self.encoder(images)
        evidence = self.aggregation(output.cls_attention)
        rows, columns = self.encoder.grid(images.shape[-2], images.shape[-1])
        return self.detection(output.cls), evidence.reshape(-1, rows, columns)

    def score(self, images: Float[Tensor, "b 3 h w"]) -> ScorerOutput:
        """The image's logit and the map's evidence."""
        logits, evidence = self(images)
        return ScorerOutput(image_logit(logits), evidence)


def image_logit(logits: Float[Tensor, "b 2"]) -> Float[Tensor, "b"]:
    """The logit of p(anomalous): the difference of the two neurons. Unlike p it does not saturate."""
    return logits[:, 1] - logits[:, 0]
