"""How the processes of one training come together: started by torchrun, by SLURM, or by the first one itself.

Loads no heavy package until there are several.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from flawmap.errors import UserError

if TYPE_CHECKING:
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    from flawmap.engine.compute import Compute
    from flawmap.recipe.settings import Recipe

BY_TORCHRUN = (
    "on each machine, K from 0: torchrun --nnodes={nodes} --node-rank=K --nproc-per-node={devices} "
    "--master-addr=FIRST_MACHINE --master-port=29500 --no-python -- flawmap train DATA ..."
)

PATIENCE = timedelta(minutes=10)  # that a process waits for the others, when it starts and in every step


@dataclass(frozen=True)
class Launch:
    """Processes that were started together, one for each device of each node.

    Attributes:
        launcher: the command that has started them; "" where flawmap itself did.
    """

    nodes: int
    devices: int
    launcher: str = ""


def launched() -> Launch | None:
    """What has started this process together with others; None where it is alone.

    Raises:
        UserError: SLURM has started a number of processes that its nodes do not share evenly.
    """
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        total, devices = int(env["WORLD_SIZE"]), int(env["LOCAL_WORLD_SIZE"])
        found = Launch(total // devices, devices, "torchrun")
    elif _is_srun():
        total, nodes = int(env["SLURM_NTASKS"]), int(env.get("SLURM_NNODES", "1"))
        if total % nodes or (total > 1 and "SLURM_NTASKS_PER_NODE" not in env):
            problem = f"SLURM has started {total} processes on {nodes} node{'s' * (nodes != 1)}"
            raise UserError(problem, "srun", "give --nodes and --ntasks-per-node in place of --ntasks")
        found = Launch(nodes, total // nodes, "srun")
    elif "LOCAL_RANK" in env and "WORLD_SIZE" in env:  # that Lightning gives those it starts
        found = Launch(1, int(env["WORLD_SIZE"]))
    else:
        return None
    return found if found.nodes * found.devices > 1 else None


def _is_srun() -> bool:
    """Whether SLURM counts the tasks of this job; those of an interactive job are not started by srun."""
    return "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive")


def is_first_of_node() -> bool:
    """Whether this process speaks for its node."""
    local = os.environ.get("SLURM_LOCALID") if _is_srun() and "LOCAL_RANK" not in os.environ else None
    return int(local or os.environ.get("LOCAL_RANK", "0")) == 0


def refuse_other_number(recipe: "Recipe", compute: "Compute") -> None:
    """Before anything is written: the processes that were started are those that the recipe asks for.

    Raises:
        UserError: they are more or fewer, or nobody joined them.
    """
    from flawmap.engine.processes import count

    others = launched()
    if count() == 1 and others is None:
        if compute.nodes > 1:
            problem = f"compute.nodes is {compute.nodes}, but this command was not started on several machines"
            raise UserError(problem, "compute.nodes", BY_TORCHRUN.format(nodes=compute.nodes, devices=compute.devices))
        return
    started = others.nodes * others.devices if others else count()
    launcher = (others.launcher if others else "") or "Lightning"
    if not recipe.trains_encoder:
        problem = f"{launcher} has started {started} processes, but the method {recipe.method} computes in one"
        raise UserError(problem, "method", f"start it without {launcher}; the paper's stages alone share their batches")
    if count() == 1:
        problem = f"{launcher} has started {started} processes, and from Python they train each on its own"
        raise UserError(problem, launcher, "train with the command flawmap train; or start Python without it")
    if started != compute.processes:
        asked = f"compute.nodes x compute.devices is {compute.nodes} x {compute.devices}"
        nodes, devices = (others.nodes, others.devices) if others else (1, started)
        remedy = f"--set compute.nodes={nodes} --set compute.devices={devices}"
        raise UserError(f"{launcher} has started {started} processes, but {asked}", "compute.nodes", remedy)


@contextmanager
def joined(launch: Launch, device: str) -> Iterator[None]:
    """Meet the other processes; those that nobody has started run this command again, with another LOCAL_RANK.

    Args:
        launch: how many they are.
        device: a torch device type.

    Raises:
        UserError: they do not come, or several of them would share a processor.
    """
    if device == "cpu" and launch.devices > 1:
        problem = f"{launch.devices} processes are on this machine, but a processor is one device"
        raise UserError(problem, launch.launcher, "--nproc-per-node=1 for torchrun, --ntasks-per-node=1 for SLURM")
    from lightning.fabric import Fabric
    from lightning.fabric.strategies.ddp import DDPStrategy
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from torch import distributed as dist

    from flawmap.engine.training import quiet_loggers

    quiet_loggers()
    strategy = DDPStrategy(timeout=PATIENCE)
    try:
        Fabric(accelerator=device, devices=launch.devices, num_nodes=launch.nodes, strategy=strategy).launch()
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        where = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
        problem = f"the processes of this training did not come together: {str(error).splitlines()[0][:300]}"
        remedy = "start the same command on all machines, and let them reach this address and each other"
        raise UserError(problem, where, remedy) from error
    yield
    dist.destroy_process_group()  # what fails leaves it to the end of the process: others may wait in it


def environments() -> "list[SLURMEnvironment]":
    """Plugins for Lightning's Trainer: under SLURM, it is to leave signals and requeueing to the user's script."""
    if not _is_srun() or "TORCHELASTIC_RUN_ID" in os.environ:
        return []
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    return [SLURMEnvironment(auto_requeue=False)]
