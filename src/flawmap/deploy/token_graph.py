"""The graph of a method on tokens, composed of three parts for ONNX Runtime.

The encoder and the memory's search are written operator by operator, as detection computes them; torch's exporter
traces the small rest. Traced as a whole, the encoder would be slower and the search a plain product in fp32.

Several images of the same original size may share a run. In int8 they go through the encoder one after another, because
its inputs are rounded by their own range, so that no score depends on the other images.
"""

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper
from torch import Tensor, nn

from flawmap.deploy.graph import THRESHOLD, Verdict, default_threshold
from flawmap.detect.model_facts import ModelFacts
from flawmap.detect.scoring import counted_patches
from flawmap.memory.patch_memory import Nearest
from flawmap.memory.scorer import TokenScorer
from flawmap.memory.search_graph import write_search
from flawmap.vit.onnx_graph import Wanted, onnx_graph
from flawmap.vit.onnx_nodes import OPSET, OnnxNodes
from flawmap.vit.weights import IMAGENET_MEAN, IMAGENET_STD

# inputs of every verdict, as examples: the size of an original image, and a threshold; both stay free in the graph
VERDICT_INPUTS = {"size_px": torch.tensor((37, 53)), THRESHOLD: torch.tensor(0.0)}
EXAMPLE_BATCH = 2  # images; it stays free in the graph
INSIDE = "inside"  # begins the names of inputs of a graph whose cameras have regions of interest of their own
VERDICT = ("score", "is_anomalous", "anomaly_map", "scores")  # outputs of every graph
EPSILON = 1e-5  # of torch's norm of a layer


def token_graph(scorer: TokenScorer, facts: ModelFacts) -> ModelProto:
    """The whole graph: squares uint8 (b, s, s, 3) and the original size of all in; what ``Verdict`` gives out.

    Where cameras have regions of interest of their own, a further input are each square's patches inside, bool (b, n).

    Args:
        scorer: fitted, on the processor; :func:`flawmap.vit.onnx_known.unknown_parts` finds nothing in its encoder.
        facts: thresholds, the side of the square, and which image score decides.
    """
    (size_px,) = facts.sizes_px  # a scorer without votes has one size
    nodes, square = OnnxNodes(), f"square_{size_px}px"
    inputs = [
        helper.make_tensor_value_info(square, TensorProto.UINT8, ["b", size_px, size_px, 3]),
        helper.make_tensor_value_info("size_px", TensorProto.INT64, [2]),
    ]
    grid = scorer.encoder.grid(size_px, size_px)
    if facts.has_roi_of_cameras:
        inputs.insert(1, helper.make_tensor_value_info(INSIDE, TensorProto.BOOL, ["b", grid[0] * grid[1]]))
    counted = write_inside(nodes, facts, grid)
    if scorer.frozen.precision == "int8":
        of_each = write_encoder_of_each(nodes, scorer, square, size_px)
        encoded = {name: nodes.op("Squeeze", x, nodes.integers(1)) for name, x in of_each.items()}
    else:
        encoded = write_encoder(nodes, scorer, square, size_px)
    found = write_found(nodes, scorer, encoded, grid, counted)
    example = example_of_found(scorer, grid, EXAMPLE_BATCH)
    of_region = example_of_inside(facts, grid, EXAMPLE_BATCH)
    of_images = {name: (0,) for name in (*example, *of_region)}
    judged = traced(JudgedTokens(scorer, facts, grid), example | VERDICT_INPUTS | of_region, VERDICT, of_images)
    given = {name: name for name in (*VERDICT_INPUTS, *of_region)}
    include_traced(nodes, judged, found | given, {name: name for name in VERDICT})
    return with_default_threshold(nodes.graph("detection", inputs, list(judged.graph.output)).with_weights(), facts)


def with_default_threshold(model: ModelProto, facts: ModelFacts) -> ModelProto:
    """The same model with the calibrated threshold as the default of its input: an initializer of the same name."""
    graph = model.graph
    if THRESHOLD not in {given.name for given in graph.input}:
        graph.input.append(helper.make_tensor_value_info(THRESHOLD, TensorProto.FLOAT, []))
    graph.initializer.append(numpy_helper.from_array(default_threshold(facts).numpy(), THRESHOLD))
    return model


def inside_of(facts: ModelFacts, grid: tuple[int, int]) -> Bool[Tensor, "1 n"] | None:
    """The patches of every whole image's square that count; None: all, or those that are given with each image."""
    return None if facts.rois is None or facts.rois.cameras else counted_patches(facts.rois.all, grid)


def write_inside(nodes: OnnxNodes, facts: ModelFacts, grid: tuple[int, int]) -> str | None:
    """The name of the patches (b, n) that count in whole images' squares: an input, or stored; None: all count."""
    if facts.has_roi_of_cameras:
        return INSIDE
    inside = inside_of(facts, grid)
    return None if inside is None else nodes.stored(inside.numpy())


def example_of_inside(facts: ModelFacts, grid: tuple[int, int], images: int = 1) -> dict[str, Tensor]:
    """The input of patches that count, where the graph has one; half of them, so that nothing is simplified away."""
    if not facts.has_roi_of_cameras:
        return {}
    return {INSIDE: (torch.arange(grid[0] * grid[1]) % 2 == 0).expand(images, -1)}


class ScoredTokens(nn.Module):
    """What follows the encoder and the search.

    Args:
        scorer: its settings and tensors are used, without encoder and memory.
        grid: rows and columns of patches.
        inside: the patches that count in every image; None: all, or those that are given with each image.
    """

    inside: Tensor | None

    def __init__(self, scorer: TokenScorer, grid: tuple[int, int], inside: Bool[Tensor, "1 n"] | None = None) -> None:
        super().__init__()
        self.scorer, self.grid = _without_encoder_and_memory(scorer), grid
        self.register_buffer("inside", inside)

    def forward(
        self,
        appearance: Float[Tensor, "b d"],
        tokens: Float[Tensor, "b n l d"],
        distances: Float[Tensor, "b n l"],
        nearest: Float[Tensor, "b n l d"],
        spacing: Float[Tensor, "b n l"],
        inside: Bool[Tensor, "b n"] | None = None,
    ) -> tuple[Float[Tensor, "b"], Float[Tensor, "b r c"]]:
        """Image scores and evidence; ``distances``, ``nearest`` and ``spacing`` are those of ``Nearest``."""
        if inside is None and self.inside is not None:
            inside = self.inside.expand(appearance.shape[0], -1)  # len() would fix it
        evidence = self.scorer.evidence_in(appearance, tokens, Nearest(distances, nearest, spacing), inside)
        output = self.scorer.output(evidence, self.grid)
        return output.image, output.evidence

    def appearance_distances(self, appearance: Float[Tensor, "b d"]) -> Float[Tensor, "b p"] | None:
        """How unlike any good image of each product each image looks; None where none is remembered."""
        return self.scorer.expectation.distances(appearance) if self.scorer.knows_appearances else None


class JudgedTokens(nn.Module):
    """The same, and the verdict on it.

    Args:
        scorer, grid: see :class:`ScoredTokens`.
        facts: see :class:`flawmap.deploy.graph.Verdict`.
    """

    def __init__(self, scorer: TokenScorer, facts: ModelFacts, grid: tuple[int, int]) -> None:
        super().__init__()
        self.scored, self.verdict = ScoredTokens(scorer, grid, inside_of(facts, grid)), Verdict(facts)

    def forward(
        self,
        appearance: Float[Tensor, "b d"],
        tokens: Float[Tensor, "b n l d"],
        distances: Float[Tensor, "b n l"],
        nearest: Float[Tensor, "b n l d"],
        spacing: Float[Tensor, "b n l"],
        size_px: Int[Tensor, "2"],
        threshold: Float[Tensor, ""],
        inside: Bool[Tensor, "b n"] | None = None,
    ) -> tuple[Tensor, ...]:
        """What ``Verdict`` gives."""
        image, evidence = self.scored(appearance, tokens, distances, nearest, spacing, inside)
        distance = self.scored.appearance_distances(appearance)
        return self.verdict(image[None], [evidence], size_px, threshold, distance)


def _without_encoder_and_memory(scorer: TokenScorer) -> TokenScorer:
    """A copy that shares its tensors and can judge what was found, but not find it."""
    left_out = {id(scorer.encoder): nn.Identity(), id(scorer.memory): scorer.memory.emptied(0), id(scorer.frozen): None}
    shared = {id(tensor): tensor for tensor in (*scorer.parameters(), *scorer.buffers())}
    return copy.deepcopy(scorer, shared | left_out)


def example_of_found(scorer: TokenScorer, grid: tuple[int, int], images: int = 1) -> dict[str, Tensor]:
    """Inputs of :class:`ScoredTokens`, by name."""
    num_tokens, blocks, dim = grid[0] * grid[1], len(scorer.blocks), scorer.expectation.appearances.shape[1]
    return {  # a tensor for each: the exporter would take one that is given twice for one input
        "appearance": torch.zeros(images, dim),
        "tokens": torch.zeros(images, num_tokens, blocks, dim),
        "distances": torch.zeros(images, num_tokens, blocks),
        "nearest": torch.zeros(images, num_tokens, blocks, dim),
        "spacing": torch.ones(images, num_tokens, blocks),
    }


def traced(
    module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str], free: Mapping[str, Sequence[int]] = {}
) -> ModelProto:
    """The graph of a module, by torch's exporter.

    Args:
        module: traced in evaluation mode.
        inputs: an example of each, by name.
        outputs: their names.
        free: the axes of inputs that may have other lengths than the example.
    """
    auto = torch.export.Dim.DYNAMIC
    shapes = {name: dict.fromkeys(free.get(name, ()), auto) for name in inputs}
    with torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=tuple(shapes.values()) if free else None,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


# ---- the parts, and what lies between them


def write_encoder(nodes: OnnxNodes, scorer: TokenScorer, square: str, size_px: int) -> dict[str, str]:
    """Add the encoder.

    Args:
        nodes: of the graph.
        scorer: which says what is wanted of its encoder.
        square: name of the images, uint8 (b, s, s, 3).
        size_px: s.

    Returns:
        names of the patch tokens (b, n, d) of each block and of [CLS] (b, d), by their names in the encoder's graph.
    """
    encoder, taken = scorer.encoder, scorer.taken
    positions = encoder.patch_positions(encoder.grid(size_px, size_px))[1].detach().contiguous().numpy()
    wanted = Wanted(taken.wanted, cls=taken.mean_of is None)
    encoding = onnx_graph(encoder, wanted, scorer.frozen.precision)
    images = {"images": _normalised(nodes, square), "positions": nodes.stored(positions)}
    nodes.include(encoding.model.graph, "encoder/", images, encoding.weights)
    return {name: f"encoder/{name}" for name in wanted.names if name != "cls_attention"}


def write_encoder_of_each(nodes: OnnxNodes, scorer: TokenScorer, squares: str, size_px: int) -> dict[str, str]:
    """As :func:`write_encoder`, by a loop over the images: tokens (b, 1, n, d) and [CLS] (b, 1, d)."""
    body = OnnxNodes()
    outputs = write_encoder(body, scorer, "image", size_px)
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, size_px, size_px, 3])
    graph = loop_body(body, "each_image", [image], list(outputs.values()))
    images = nodes.op("Unsqueeze", squares, nodes.integers(1))  # (b, 1, s, s, 3)
    names = [f"all/{name}" for name in outputs]
    found = nodes.ops("Scan", images, outputs=names, body=graph, num_scan_inputs=1)
    return dict(zip(outputs, found, strict=True))


def loop_body(nodes: OnnxNodes, name: str, inputs: Sequence[ValueInfoProto], outputs: Sequence[str]) -> GraphProto:
    """The graph of a loop. All its names begin with its own, so that none is one outside.

    Its weights are inside: where the encoder shared those of the graph around it, scores in int8 differed from
    detection's by 2e-3, probably because ONNX Runtime then optimises the loop otherwise.
    """
    graph = nodes.graph(name, inputs, [float_info(output) for output in outputs]).with_weights().graph
    prefixed, renamed = OnnxNodes(), list[ValueInfoProto]()
    prefixed.include(graph, f"{name}/", {}, {})
    for given in inputs:
        renamed.append(ValueInfoProto())
        renamed[-1].CopyFrom(given)
        renamed[-1].name = f"{name}/{given.name}"
    return prefixed.graph(name, renamed, [float_info(f"{name}/{output}") for output in outputs]).model.graph


def float_info(name: str, shape: Sequence[int | str] | None = None) -> ValueInfoProto:
    """A float32 tensor that goes in or out."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def write_found(
    nodes: OnnxNodes, scorer: TokenScorer, encoded: Mapping[str, str], grid: tuple[int, int], inside: str | None = None
) -> dict[str, str]:
    """Add the search; returns the inputs of :class:`ScoredTokens` by name.

    Args:
        nodes: of the graph.
        scorer: with the memory.
        encoded: see :func:`write_encoder`.
        grid: rows and columns of patches.
        inside: name of the patches (b, n) or (1, n) that count in means over each image; None: all.
    """
    taken, shares = scorer.taken, None if inside is None else _shares(nodes, inside)
    normed = {number: _normed(nodes, encoded[f"block_{number}"], scorer.encoder.embed_dim) for number in taken.wanted}
    mean_token = None if taken.mean_of is None else _mean(nodes, normed[taken.mean_of], 0, shares)  # (b, d)
    tokens = [normed[number] for number in scorer.blocks]  # each (b, n, d)
    if scorer.settings.relative:
        tokens = [nodes.op("Sub", x, _mean(nodes, x, 1, shares)) for x in tokens]
    found = [write_search(nodes, scorer.memory, block, x, grid[0] * grid[1]) for block, x in enumerate(tokens)]
    return {
        "appearance": mean_token or encoded["cls"],
        "tokens": _stacked(nodes, tokens),
        "distances": _stacked(nodes, [nearest.distances for nearest in found]),
        "nearest": _stacked(nodes, [nearest.tokens for nearest in found]),
        "spacing": _stacked(nodes, [nearest.spacing for nearest in found]),
    }


def include_traced(nodes: OnnxNodes, model: ModelProto, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
    """Take a traced graph in, whose inputs and outputs have these names here."""
    nodes.include(model.graph, "rest/", {**inputs, **outputs}, {})


def _normalised(nodes: OnnxNodes, square: str) -> str:
    """As :func:`flawmap.vit.inputs.normalise`: uint8 (b, s, s, 3) -> float32 (b, 3, s, s)."""
    x = nodes.op("Cast", nodes.op("Transpose", square, perm=[0, 3, 1, 2]), to=TensorProto.FLOAT)
    x = nodes.op("Div", x, nodes.constant(np.float32(255)))
    mean, std = (
        nodes.stored(np.array(values, np.float32).reshape(3, 1, 1)) for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return nodes.op("Div", nodes.op("Sub", x, mean), std)


def _normed(nodes: OnnxNodes, tokens: str, dim: int) -> str:
    """As :meth:`flawmap.vit.encoder.Encoder.normed`, of one block and not relative: (b, n, d)."""
    ones = nodes.stored(np.ones(dim, np.float32))
    return nodes.op("LayerNormalization", tokens, ones, axis=-1, epsilon=EPSILON)


def _mean(nodes: OnnxNodes, tokens: str, keepdims: int, shares: str | None) -> str:
    """The mean token of each image of (b, n, d), in which each counts by its share (b, n, 1); None: all alike."""
    if shares is None:
        return nodes.op("ReduceMean", tokens, nodes.integers(1), keepdims=keepdims)
    return nodes.op("ReduceSum", nodes.op("Mul", tokens, shares), nodes.integers(1), keepdims=keepdims)


def _shares(nodes: OnnxNodes, inside: str) -> str:
    """Of each token in a mean over those inside (b, n): (b, n, 1)."""
    weights = nodes.op("Cast", nodes.op("Unsqueeze", inside, nodes.integers(2)), to=TensorProto.FLOAT)
    return nodes.op("Div", weights, nodes.op("ReduceSum", weights, nodes.integers(1), keepdims=1))


def _stacked(nodes: OnnxNodes, of_blocks: list[str]) -> str:
    """What each block has for each token, side by side: (b, n, ...) -> (b, n, l, ...)."""
    return nodes.op("Concat", *(nodes.op("Unsqueeze", x, nodes.integers(2)) for x in of_blocks), axis=2)
