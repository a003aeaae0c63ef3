"""A package that is missing is one sentence, with the command that installs it."""

from collections.abc import Iterator
from contextlib import contextmanager

from flawmap.advice import command, install
from flawmap.errors import UserError

EXTRA_OF = {  # the optional packages that are imported, and the extra that brings each
    **dict.fromkeys(("cv2", "jaxtyping", "lightning", "onnx", "scipy", "timm", "torch", "torchvision"), "train"),
    **dict.fromkeys(("matplotlib", "sklearn"), "figures"),
    **dict.fromkeys(("openvino", "onnxscript"), "export"),
    **dict.fromkeys(("fastapi", "starlette", "uvicorn", "prometheus_client", "python_multipart"), "serve"),
    "pandas": "tables",
    "fsspec": "storage",
    "ray": "cluster",
    **{name: name for name in ("tensorboard", "mlflow", "wandb")},
}


class MissingPackageError(UserError, ImportError):
    """An optional package is not installed; also an ImportError, as Python code expects it."""


def missing(package: str, what: str = "") -> MissingPackageError:
    """The error that says so.

    Args:
        package: top-level name of the module that was not found.
        what: needs it.
    """
    extra = EXTRA_OF.get(package)
    needed = f"{what} needs {f'the extra {extra}' if extra else 'one more package'}: " if what else ""
    remedy = install(extra) if extra else command("pip", "install", package)
    return MissingPackageError(f"{needed}the package {package} is not installed", "", remedy)


@contextmanager
def needs(package: str, what: str) -> Iterator[None]:
    """Around imports of ``package``.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise missing(package, what) from error
