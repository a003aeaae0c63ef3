"""The graph of a method on tokens that judges an image as a whole and by its tiles, for ONNX Runtime.

Two loops keep it small. One encodes the whole image and each tile, so that the encoder's weights are there once. The
other searches each tile's tokens in the memory of tiles, scores the tile and adds its map to that of the image. The
number of tiles is free, and as in detection, no tile's result depends on another, not even by rounding in int8. Between
the loops lie the tokens of all tiles: 2 MB for each in five blocks of ViT-S/14 at 224 px, and once more in a copy.

Shapes in comments: t tiles, s pixels, n patches of an image or tile, d dimensions; r, c patches of the image's rows and
columns in its tiles' grid.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from onnx import GraphProto, ModelProto, TensorProto, helper
from torch import Tensor, nn

from flawmap.data.images.tiles import Tiling
from flawmap.deploy.graph import Verdict, of_one_image
from flawmap.deploy.token_graph import (
    INSIDE,
    VERDICT,
    VERDICT_INPUTS,
    ScoredTokens,
    example_of_found,
    example_of_inside,
    float_info,
    include_traced,
    inside_of,
    loop_body,
    traced,
    with_default_threshold,
    write_encoder_of_each,
    write_found,
    write_inside,
)
from flawmap.detect.model_facts import ModelFacts
from flawmap.memory.scorer import TokenScorer
from flawmap.memory.tiled_scorer import MAP_SHARES, TiledScorer
from flawmap.vit.onnx_nodes import TO_THE_END, OnnxNodes

TILES_INSIDE, TILES_GRID = "tiles_inside", "tiles_grid"  # inputs of a graph with a region of interest
EXAMPLE_GRID = (5, 7)  # of an image in its tiles' grid; it stays free in the graph


def tiled_graph(scorer: TiledScorer, facts: ModelFacts) -> ModelProto:
    """The whole graph.

    Its inputs are the whole image uint8 (1, s, s, 3), its tiles uint8 (t, s, s, 3), row and column of each tile's first
    patch int64 (t, 2), and the original size. Its outputs are what ``Verdict`` gives of one image. With a region of
    interest, only tiles with some of it are given, and further inputs are each tile's patches inside, bool (t, n), and
    how many rows and columns of patches the image has, int64 (2,). Where cameras have regions of their own, so is the
    whole image's, bool (1, n).

    Args:
        scorer: fitted, on the processor; :func:`flawmap.vit.onnx_known.unknown_parts` finds nothing in its encoder.
        facts: thresholds, the side of the square, and which image score decides.
    """
    (size_px,) = facts.sizes_px  # a scorer without votes has one size
    nodes, square, grid = OnnxNodes(), f"square_{size_px}px", scorer.encoder.grid(size_px, size_px)
    inputs = [
        helper.make_tensor_value_info(square, TensorProto.UINT8, [1, size_px, size_px, 3]),
        helper.make_tensor_value_info("tiles", TensorProto.UINT8, ["t", size_px, size_px, 3]),
        helper.make_tensor_value_info("tile_places", TensorProto.INT64, ["t", 2]),
        helper.make_tensor_value_info("size_px", TensorProto.INT64, [2]),
    ]
    if facts.roi is not None:
        inputs[3:3] = [
            helper.make_tensor_value_info(TILES_INSIDE, TensorProto.BOOL, ["t", grid[0] * grid[1]]),
            helper.make_tensor_value_info(TILES_GRID, TensorProto.INT64, [2]),
        ]
    if facts.has_roi_of_cameras:
        inputs.insert(1, helper.make_tensor_value_info(INSIDE, TensorProto.BOOL, [1, grid[0] * grid[1]]))
    images = nodes.op("Concat", square, "tiles", axis=0)  # (1 + t, s, s, 3)
    of_all = write_encoder_of_each(nodes, scorer.whole, images, size_px)  # (1 + t, 1, n, d), (1 + t, 1, d)
    of_whole = {name: nodes.op("Squeeze", nodes.slice(x, 0, 0, 1), nodes.integers(0)) for name, x in of_all.items()}
    of_tiles = {name: nodes.slice(x, 0, 1, TO_THE_END) for name, x in of_all.items()}
    highest, joined = _judged_tiles(nodes, scorer, of_tiles, grid, facts.roi is not None)
    found = write_found(nodes, scorer.whole, of_whole, grid, write_inside(nodes, facts, grid))
    example = example_of_found(scorer.whole, grid) | {
        "highest": torch.zeros(1),
        "tiles_map": torch.zeros(1, *EXAMPLE_GRID),
    }
    of_region = example_of_inside(facts, grid)
    given_inputs = VERDICT_INPUTS | of_region
    judged = traced(JudgedWithTiles(scorer, facts, grid), example | given_inputs, VERDICT, {"tiles_map": (1, 2)})
    given = {"highest": highest, "tiles_map": joined} | {name: name for name in given_inputs}
    include_traced(nodes, judged, found | given, {name: name for name in VERDICT})
    return with_default_threshold(nodes.graph("detection", inputs, list(judged.graph.output)).with_weights(), facts)


class JudgedWithTiles(nn.Module):
    """What follows the search in the whole image and the judgement of its tiles.

    Args:
        scorer: fitted.
        facts: see :class:`flawmap.deploy.graph.Verdict`.
        grid: rows and columns of patches of the whole image's square.
    """

    def __init__(self, scorer: TiledScorer, facts: ModelFacts, grid: tuple[int, int]) -> None:
        super().__init__()
        self.whole, self.highest = ScoredTokens(scorer.whole, grid, inside_of(facts, grid)), scorer.highest
        self.verdict = Verdict(facts, MAP_SHARES)

    def forward(
        self,
        appearance: Float[Tensor, "1 d"],
        tokens: Float[Tensor, "1 n l d"],
        distances: Float[Tensor, "1 n l"],
        nearest: Float[Tensor, "1 n l d"],
        spacing: Float[Tensor, "1 n l"],
        highest: Float[Tensor, "1"],
        tiles_map: Float[Tensor, "1 r c"],
        size_px: Int[Tensor, "2"],
        threshold: Float[Tensor, ""],
        inside: Bool[Tensor, "1 n"] | None = None,
    ) -> tuple[Tensor, ...]:
        """What ``Verdict`` gives of one image, of :class:`ScoredTokens`' inputs and the tiles' score and joined map."""
        whole, evidence = self.whole(appearance, tokens, distances, nearest, spacing, inside)
        distance = self.whole.appearance_distances(appearance)
        scores = torch.stack([whole, self.highest(highest)])
        return of_one_image(self.verdict(scores, [evidence, tiles_map], size_px, threshold, distance))


def _judged_tiles(
    nodes: OnnxNodes, scorer: TiledScorer, encoded: Mapping[str, str], grid: tuple[int, int], has_roi: bool
) -> tuple[str, str]:
    """The highest score (1,) of the tiles, and one map (1, r, c) of all their patches; see :meth:`Tiling.joined`."""
    side, last = scorer.tiling.side, nodes.op("ReduceMax", "tile_places", nodes.integers(0), keepdims=0)
    shape = TILES_GRID if has_roi else nodes.op("Add", last, nodes.integers(side))
    nothing = nodes.op("ConstantOfShape", shape)  # (r, c)
    graph = _each_tile(scorer.tiles, scorer.tiling, encoded, grid, has_roi)
    names = ["tiles/total", "tiles/counted", "tiles/scores"]
    of_tiles = ["tile_places", *([TILES_INSIDE] if has_roi else []), *encoded.values()]
    inputs = [nothing, nothing, *of_tiles]
    total, counted, scores = nodes.ops("Scan", *inputs, outputs=names, body=graph, num_scan_inputs=len(of_tiles))
    mean = _mean_inside(nodes, total, counted) if has_roi else nodes.op("Div", total, counted)
    joined = nodes.op("Unsqueeze", mean, nodes.integers(0))  # (1, r, c)
    return nodes.op("ReduceMax", scores, nodes.integers(0), keepdims=0), joined


def _mean_inside(nodes: OnnxNodes, total: str, counted: str) -> str:
    """Total over counted (r, c), and where nothing counted, which is outside, the lowest of these values."""
    is_outside = nodes.op("Equal", counted, nodes.constant(np.float32(0)))
    divisor = nodes.op("Where", is_outside, nodes.constant(np.float32(1)), counted)
    mean = nodes.op("Div", total, divisor)
    among = nodes.op("Where", is_outside, nodes.constant(np.float32(np.inf)), mean)
    return nodes.op("Where", is_outside, nodes.op("ReduceMin", among, keepdims=0), mean)


def _each_tile(
    scorer: TokenScorer, tiling: Tiling, encoded: Mapping[str, str], grid: tuple[int, int], has_roi: bool
) -> GraphProto:
    """Sums of maps and of weights (r, c), a tile's place (2,), with a region of interest its patches inside (n,), and
    what the encoder gives of it in; new sums and the tile's score (1,) out."""
    body, dim, num_tokens = OnnxNodes(), scorer.encoder.embed_dim, grid[0] * grid[1]
    names = {name: f"tile_{name}" for name in encoded}
    example, given, weights = example_of_found(scorer, grid), {}, body.stored(tiling.weights)
    if has_roi:
        example["inside"] = torch.ones(1, num_tokens, dtype=torch.bool)
        given["inside"] = body.op("Unsqueeze", "patches", body.integers(0))  # (1, n)
        on_grid = body.op("Reshape", body.op("Cast", "patches", to=TensorProto.FLOAT), body.integers(*grid))
        weights = body.op("Mul", weights, on_grid)
    judged = traced(ScoredTokens(scorer, grid), example, ("score", "evidence"))
    found = write_found(body, scorer, names, grid, given.get("inside")) | given
    include_traced(body, judged, found, {"score": "score", "evidence": "evidence"})

    after = body.op("Sub", body.op("Shape", "total"), body.op("Add", "place", body.integers(tiling.side)))
    pads = body.op("Concat", "place", after, axis=0)  # (4,)
    weighted = body.op("Mul", body.op("Squeeze", "evidence", body.integers(0)), weights)
    body.op("Add", "total", body.op("Pad", weighted, pads), output="new_total")
    body.op("Add", "counted", body.op("Pad", weights, pads), output="new_counted")
    patches = [helper.make_tensor_value_info("patches", TensorProto.BOOL, [num_tokens])] if has_roi else []
    inputs = [
        float_info("total", ["r", "c"]),
        float_info("counted", ["r", "c"]),
        helper.make_tensor_value_info("place", TensorProto.INT64, [2]),
        *patches,
        *(float_info(inner, [1, dim] if name == "cls" else [1, num_tokens, dim]) for name, inner in names.items()),
    ]
    return loop_body(body, "each_tile", inputs, ("new_total", "new_counted", "score"))
