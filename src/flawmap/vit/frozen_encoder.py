"""A frozen encoder, computed by whatever suits the place where it lies: ONNX Runtime on processors, torch elsewhere."""

import threading
from collections.abc import Sequence
from typing import Any, Literal

import onnxruntime
import torch
from jaxtyping import Float
from torch import Tensor

from flawmap.errors import UserError
from flawmap.vit.encoder import Encoder, EncoderOutput
from flawmap.vit.onnx_graph import Precision, Wanted, onnx_graph
from flawmap.vit.onnx_known import unknown_parts
from flawmap.vit.onnx_nodes import OnnxGraph

Backend = Literal["torch", "onnxruntime"]
WeightsState = tuple[tuple[int, int], ...]  # address and version of each parameter; whether in training
POSITIONS_KEPT = 8  # grids


class FrozenEncoder:
    """Gives what :class:`flawmap.vit.encoder.Encoder` gives, without gradients.

    ONNX Runtime computes where the encoder lies on the processor in float32 and
    :func:`flawmap.vit.onnx_known.unknown_parts` finds nothing. Otherwise torch does: on accelerators, where the images
    need gradients, and while a graph is traced or exported, whose precision is the export's. In fp32 the two differ by
    rounding. Autocast acts on torch alone.

    With ONNX Runtime, an image's result does not depend on the others in its batch, because each image is a run of its
    own, and the same image gives the same bits on the same machine with the same number of threads. That number is
    ``torch.get_num_threads()``. Several threads may encode at once. After the weights have changed, the next call uses
    the new ones; replaced modules are not noticed. Each choice of blocks has a session of its own, with a reordered
    copy of the weights.

    Args:
        encoder: in evaluation mode.
        precision: ``int8`` rounds weights and inputs of the linear layers. Scores then differ from those of fp32, so a
            threshold has to be fitted with the precision that it is used with.
    """

    def __init__(self, encoder: Encoder, precision: Precision = "fp32") -> None:
        self.encoder = encoder
        self.precision: Precision = precision
        self._lock = threading.Lock()
        self._parameters = [*encoder.parameters()]
        self._state: WeightsState = ()
        self._unknown: list[str] = []
        self._sessions: dict[tuple[Wanted, int], _Session] = {}
        self._positions: dict[tuple[int, int], Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles, which make sessions of their own."""
        return {"encoder": self.encoder, "precision": self.precision}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    @property
    def backend(self) -> Backend:
        """What computes images that need no gradients."""
        return "torch" if self._obstacle() else "onnxruntime"

    def encode(self, images: Float[Tensor, "b 3 h w"], blocks: Sequence[int] = ()) -> EncoderOutput:
        """[CLS] token, its attention, and patch tokens after chosen blocks.

        Args:
            images: normalised; sides multiples of the patch size.
            blocks: numbers of the blocks whose patch tokens are wanted; negative numbers count from the end.

        Raises:
            ValueError: a side is not a multiple of the patch size.
            UserError: int8, where ONNX Runtime cannot compute this encoder.
        """
        if not self._is_for_onnx(images):
            with torch.set_grad_enabled(_needs_gradients(images)):
                return self.encoder(images, blocks=blocks)
        wanted = Wanted(self._numbers(blocks), cls=True)
        found = self._run(images, wanted)
        return EncoderOutput(found["cls"], found["cls_attention"], None, _by_number(found, wanted))

    def cls_and_tokens_of(
        self, images: Float[Tensor, "b 3 h w"], blocks: Sequence[int], relative: bool = False
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b n l d"]]:
        """As :meth:`flawmap.vit.encoder.Encoder.cls_and_tokens_of`; errors as in :meth:`encode`."""
        output = self.encode(images, blocks)
        return output.cls.float(), self.encoder.tokens_in(output, blocks, relative)

    def tokens_of(
        self, images: Float[Tensor, "b 3 h w"], blocks: Sequence[int], relative: bool = False
    ) -> Float[Tensor, "b n l d"]:
        """As :meth:`flawmap.vit.encoder.Encoder.tokens_of`; errors as in :meth:`encode`."""
        if not self._is_for_onnx(images):
            with torch.set_grad_enabled(_needs_gradients(images)):
                return self.encoder.tokens_of(images, blocks, relative)
        wanted = Wanted(self._numbers(blocks), cls=False)
        tokens = _by_number(self._run(images, wanted), wanted)
        return self.encoder.normed([tokens[number] for number in blocks], relative)

    # ---- torch or ONNX Runtime

    def _is_for_onnx(self, images: Tensor) -> bool:
        if torch.jit.is_tracing() or torch.compiler.is_compiling():  # pyright: ignore[reportPrivateImportUsage]
            return False
        obstacle = "images need gradients" if _needs_gradients(images) else self._obstacle()
        if obstacle and self.precision == "int8":
            problem = f"int8 is computed by ONNX Runtime alone, which cannot be used here: {obstacle}"
            raise UserError(problem, "", "use a model that was fitted in fp32, or --device cpu")
        return not obstacle

    def _obstacle(self) -> str:
        """Why ONNX Runtime cannot compute this encoder; empty where it can."""
        device = self.encoder.vit.patch_embed.proj.weight.device.type
        if device != "cpu":
            return f"the encoder lies on {device}"
        with self._lock:
            self._note_changes()
            return self._unknown[0] if self._unknown else ""

    def _note_changes(self) -> None:
        """Forget what was made of other weights, or in training mode."""
        state = (*(_where_and_version(parameter) for parameter in self._parameters), (int(self.encoder.training), 0))
        if state != self._state:
            self._state, self._unknown, self._sessions, self._positions = state, unknown_parts(self.encoder), {}, {}

    # ---- ONNX Runtime

    def _numbers(self, blocks: Sequence[int]) -> tuple[int, ...]:
        return tuple(sorted({block % len(self.encoder.vit.blocks) for block in blocks}))

    @torch.no_grad()
    def _run(self, images: Float[Tensor, "b 3 h w"], wanted: Wanted) -> dict[str, Tensor]:
        """The graph's outputs, by name."""
        grid, threads = self.encoder.grid(images.shape[-2], images.shape[-1]), torch.get_num_threads()
        with self._lock:
            if grid not in self._positions:
                kept = list(self._positions.items())[1 - POSITIONS_KEPT :]
                self._positions = {**dict(kept), grid: self.encoder.patch_positions(grid)[1].contiguous()}
            if (wanted, threads) not in self._sessions:
                graph = onnx_graph(self.encoder, wanted, self.precision)
                self._sessions[wanted, threads] = _Session(graph, wanted, threads)
            positions, session = self._positions[grid], self._sessions[wanted, threads]
        outputs = [session.run(image, positions) for image in images.float().contiguous().split(1)]
        return {name: torch.cat([output[name] for output in outputs]) for name in wanted.names}


class _Session:
    """A graph, ready to run on the processor.

    Args:
        graph: its weights are kept, because ONNX Runtime reads them where they lie.
        wanted: the graph's outputs.
        threads: of one run.
    """

    def __init__(self, graph: OnnxGraph, wanted: Wanted, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        # A given number also keeps ONNX Runtime from pinning threads to cores that the process may not use, which
        # fails in containers.
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # Waiting threads would take the cores from torch, which computes between two runs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Images have many sizes: an arena would keep the memory of the largest, and patterns for each.
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
        options.log_severity_level = 3
        self._weights = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in graph.weights.values()]
        options.add_external_initializers([*graph.weights], self._weights)
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(graph.model.SerializeToString(), options, providers=providers)
        self._names = wanted.names

    def run(self, image: Float[Tensor, "1 3 h w"], positions: Float[Tensor, "1 n d"]) -> dict[str, Tensor]:
        """The outputs, by name."""
        arrays = self._session.run(self._names, {"images": image.numpy(), "positions": positions.numpy()})
        return {name: torch.from_numpy(array) for name, array in zip(self._names, arrays, strict=True)}


def _where_and_version(parameter: Tensor) -> tuple[int, int]:
    """What changes with each change of a tensor's values."""
    return parameter.data_ptr(), 0 if parameter.is_inference() else parameter._version


def _needs_gradients(images: Tensor) -> bool:
    return torch.is_grad_enabled() and images.requires_grad


def _by_number(outputs: dict[str, Tensor], wanted: Wanted) -> dict[int, Tensor]:
    return {number: outputs[f"block_{number}"] for number in wanted.blocks}
