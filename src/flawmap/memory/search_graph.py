"""The search for the nearest normal tokens as an ONNX graph: :mod:`flawmap.memory.search` for an exported file.

A file gives the same result wherever it runs, so its search does not depend on the processor. It has the steps and the
rounding idea of :class:`flawmap.memory.search.NearestSearch` in int8, with one difference: queries are rounded to 7
bits. On x86 without VNNI, products of 8 bits are added in pairs in 16 bits, which cuts off large sums without a word;
two products of 127 and 127 fit. Queries have a step for each row and the memory has one for all, so a bit costs less
there: with eight proposals it loses none of 24,000 nearest tokens of MTD, and 7 bits in the memory would lose none
either, but four proposals lose 14 instead of 4.

The memory is stored once, as the model stores it. What is made of it depends on no input, so ONNX Runtime computes it
once, when it loads the file.

Shapes in comments: b images, n tokens of all of them together, m of the memory (m' with those that fill the last group
up), d dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from onnx import TensorProto
from torch import Tensor

from flawmap.memory.patch_memory import PatchMemory
from flawmap.memory.search import GROUP, PROPOSED, ROWS, SMALLEST_COARSE
from flawmap.vit.onnx_nodes import CONTRIB, OnnxNodes

LARGEST_MEMORY, LARGEST_QUERY = 127, 63  # after rounding
SMALLEST_LENGTH = 1e-12


@dataclass(frozen=True)
class NearestNames:
    """Names of what :class:`flawmap.memory.patch_memory.Nearest` holds, for one block.

    Attributes:
        distances: (b, q), q tokens of each image.
        tokens: (b, q, d), of unit length.
        spacing: (b, q).
    """

    distances: str
    tokens: str
    spacing: str


def search_name(memory: PatchMemory) -> str:
    """The search that :func:`write_search` writes for a memory, in words, for the facts of a file."""
    return f"int8, {PROPOSED} re-ranked in fp32" if _is_coarse(memory) else "fp32"


def write_search(nodes: OnnxNodes, memory: PatchMemory, block: int, queries: str, num_queries: int) -> NearestNames:
    """Add the search in one block of a memory.

    Args:
        nodes: of the graph.
        memory: on the processor.
        block: its index in the memory.
        queries: name of the images' tokens (b, q, d) float32, of any length; b may be free.
        num_queries: q.
    """
    search = _Search(nodes, memory.tokens[block], memory.spacing[block])
    unit = search.unit(queries)
    if not _is_coarse(memory):
        return search.exactly(unit)
    integers = search.rounded_queries(unit)  # (b, q, d)
    coarse = search.coarse_memory()  # (d, m')
    starts = range(0, num_queries, ROWS)
    found: list[tuple[str, ...]] = []
    for start in starts:  # ROWS at once, so that their products stay in the processor's cache
        rows = min(ROWS, num_queries - start)  # of each image
        chunk = [nodes.slice(x, 1, start, start + ROWS) if len(starts) > 1 else x for x in (integers, unit)]
        flat = [nodes.op("Reshape", x, nodes.integers(-1, search.dim)) for x in chunk]  # (n, d)
        of_chunk = search.by_proposals(flat[0], flat[1], coarse)  # (n,) each
        found.append(tuple(nodes.op("Reshape", x, nodes.integers(-1, rows)) for x in of_chunk))  # (b, rows) each
    similarities, indices = zip(*found, strict=True)
    return search.recalled(_joined(nodes, similarities), _joined(nodes, indices))


def _is_coarse(memory: PatchMemory) -> bool:
    return memory.tokens.shape[1] >= SMALLEST_COARSE


def _joined(nodes: OnnxNodes, parts: Sequence[str]) -> str:
    return nodes.op("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]


class _Search:
    """The steps of the search in one block.

    Args:
        nodes: of the graph.
        tokens: (m, d) as the model stores them; float16, int8, or float32 from flawmap 0.1.
        spacing: (m,).
    """

    def __init__(self, nodes: OnnxNodes, tokens: Tensor, spacing: Float[Tensor, "m"]) -> None:
        self.nodes, self.op = nodes, nodes.op
        self.num_tokens, self.dim = tokens.shape
        self._stored = nodes.stored(tokens.numpy())
        self._memory = self.op("Cast", self._stored, to=TensorProto.FLOAT)  # (m, d)
        self._lengths = self._length(self._memory)  # (m, 1)
        self._spacing = nodes.stored(spacing.numpy())

    def unit(self, x: str) -> str:
        """Tokens (..., d) of unit length."""
        return self.op("Div", x, self._length(x))

    def _length(self, x: str) -> str:
        length = self.op("ReduceL2", x, self.nodes.integers(-1), keepdims=1)
        return self.op("Max", length, self.nodes.constant(np.float32(SMALLEST_LENGTH)))  # (..., 1)

    # ---- exact

    def exactly(self, unit: str) -> NearestNames:
        """The search in a small memory."""
        memory = self.op("Div", self._memory, self._lengths)  # (m, d)
        similarity = self.op("FusedMatMul", unit, memory, domain=CONTRIB, transB=1)  # (b, q, m)
        best = self.op("ReduceMax", similarity, self.nodes.integers(2), keepdims=0)  # (b, q)
        return self.recalled(best, self.op("ArgMax", similarity, axis=2, keepdims=0))

    # ---- by proposals

    def coarse_memory(self) -> str:
        """The memory less its mean token, in int8, filled up to whole groups: (d, m'). No input is needed for it.

        ONNX Runtime keeps what each operator gives until it has loaded the file, so there are few operators here.
        """
        memory = self.op("Div", self._memory, self._lengths)  # (m, d)
        centred = self.op("Sub", memory, self.op("ReduceMean", memory, self.nodes.integers(0), keepdims=1))
        lowest, highest = (self.op(kind, centred, keepdims=0) for kind in ("ReduceMin", "ReduceMax"))  # () each
        step = self._step(self.op("Max", highest, self.op("Neg", lowest)), LARGEST_MEMORY)
        rounded = self.op("QuantizeLinear", centred, step, self.nodes.constant(np.int8(0)))
        if missing := -self.num_tokens % GROUP:
            rounded = self.op("Concat", rounded, self.nodes.slice(rounded, 0, 0, missing), axis=0)  # (m', d)
        return self.op("Transpose", rounded, perm=[1, 0])

    def rounded_queries(self, unit: str) -> str:
        """Queries in uint8 (b, q, d), whose zero is :data:`LARGEST_QUERY` + 1."""
        largest = self.op("ReduceMax", self.op("Abs", unit), self.nodes.integers(2), keepdims=1)  # (b, q, 1)
        rounded = self.op("Round", self.op("Div", unit, self._step(largest, LARGEST_QUERY)))
        above_zero = self.op("Add", rounded, self.nodes.constant(np.float32(LARGEST_QUERY + 1)))
        return self.op("Cast", above_zero, to=TensorProto.UINT8)

    def _step(self, largest: str, levels: int) -> str:
        """Between two whole numbers, if ``largest`` is rounded to ``levels``."""
        largest = self.op("Max", largest, self.nodes.constant(np.float32(SMALLEST_LENGTH)))
        return self.op("Div", largest, self.nodes.constant(np.float32(levels)))

    def by_proposals(self, integers: str, unit: str, coarse: str) -> tuple[str, str]:
        """The highest similarity (n,) of each query, and the number (n,) of the token that has it."""
        zero = self.nodes.constant(np.uint8(LARGEST_QUERY + 1))
        products = self.op("MatMulInteger", integers, coarse, zero)  # (n, m')
        columns = self._highest_columns(products)  # (n, k)
        proposed = self.op("Mod", columns, self.nodes.constant(np.int64(self.num_tokens)))
        # Rows are gathered as they are stored: a memory of unit length in float32 would take twice the room.
        tokens = self.op("Cast", self.op("Gather", self._stored, proposed, axis=0), to=TensorProto.FLOAT)  # (n, k, d)
        queries = self.op("Unsqueeze", unit, self.nodes.integers(2))  # (n, d, 1)
        products = self.op("MatMul", tokens, queries)  # (n, k, 1)
        similarity = self.op("Div", products, self.op("Gather", self._lengths, proposed, axis=0))  # (n, k, 1)
        best = self.op("ReduceMax", similarity, self.nodes.integers(1, 2), keepdims=0)  # (n,)
        position = self.op("ArgMax", self.op("Squeeze", similarity, self.nodes.integers(2)), axis=1, keepdims=1)
        index = self.op("GatherElements", proposed, position, axis=1)  # (n, 1)
        return best, self.op("Squeeze", index, self.nodes.integers(1))

    def _highest_columns(self, values: str) -> str:
        """As :func:`flawmap.memory.search.highest_columns`: (n, m') -> (n, k)."""
        groups = -(-self.num_tokens // GROUP)  # group g has the columns g, g + groups, g + 2 groups, ...
        by_group = self.op("Reshape", values, self.nodes.integers(0, GROUP, groups))
        maxima = self.op("ReduceMax", by_group, self.nodes.integers(1), keepdims=0)  # (n, groups)
        highest = self.op("Unsqueeze", self._top(maxima), self.nodes.integers(1))  # (n, 1, k)
        offsets = self.nodes.stored(np.arange(GROUP, dtype=np.int64)[:, None] * groups)
        columns = self.op("Add", highest, offsets)  # (n, GROUP, k)
        columns = self.op("Reshape", columns, self.nodes.integers(0, GROUP * PROPOSED))
        top = self._top(self.op("GatherElements", values, columns, axis=1))  # (n, k)
        return self.op("GatherElements", columns, top, axis=1)

    def _top(self, values: str) -> str:
        """Numbers (n, k) of the highest values of each row, in no order."""
        name = f"TopK_{len(self.nodes.nodes)}"
        count = self.nodes.integers(PROPOSED)
        return self.nodes.ops("TopK", values, count, outputs=[f"{name}_values", name], axis=1, sorted=0)[1]

    # ---- what was found

    def recalled(self, similarity: str, index: str) -> NearestNames:
        """What is known of the nearest tokens, of their similarity and number (b, q) each."""
        one = self.nodes.constant(np.float32(1))
        tokens = self.op("Cast", self.op("Gather", self._stored, index, axis=0), to=TensorProto.FLOAT)  # (b, q, d)
        return NearestNames(
            self.op("Sub", one, similarity),
            self.op("Div", tokens, self.op("Gather", self._lengths, index, axis=0)),
            self.op("Gather", self._spacing, index, axis=0),
        )
