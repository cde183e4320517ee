"""Count what a training step launches on a GPU, and where it waits for it, without one.

    python -m benchmarks.launches [--operators 20] [--compiled]

A step of ``learn`` runs on torch's ``meta`` device as it would on CUDA: autocast to bfloat16,
fused attention, optimiser and gradient clipping on lists of tensors. Counted are

- launches: operators whose result lies on the device, views left out; an operator on a list of
  tensors takes one launch for every ``TENSORS_A_LAUNCH``,
- copies: of them those that come from the CPU,
- waits: where the CPU needs a value of the device, or copies to it behind all that was launched
  before (a copy that is ``non_blocking`` does not). The numbers for the log are read a step late.

Of a step with ``scale.compile`` the kernels are counted that inductor would make of its graphs
(``_fused_kernels``). An operator may launch more than one kernel (sorting, a product that is
split), and nothing is said of how long anything takes.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks._fused_kernels import Kernels, draws
from benchmarks._recipes import ROWS, run_of
from lemumo_core.data.samples import Batch, collate
from lemumo_core.data.sources.synthetic import SyntheticStreet
from lemumo_core.train import learner as train
from lemumo_core.train.batch_sampler import BatchSampler
from lemumo_core.train.loader import samples_of
from lemumo_core.train.loop import Run
from lemumo_core.train.parallel import DistInfo
from lemumo_core.train.run_config import ScaleConfig

META = torch.device("meta")
STEP, STEPS, SAMPLES = 3, 1000, 4
TENSORS_A_LAUNCH = 64


class _Autocast:
    """``torch.autocast`` as CUDA's is, for tensors on ``meta``, which torch has none for.

    Used as ``torch.autocast``; ``_Casts`` does the casting.
    """

    enabled: ClassVar[list[bool]] = []
    """Whether each open context casts, the innermost last."""
    weights: ClassVar[dict[int, torch.Tensor]] = {}
    """Weights that were cast, until the outermost context closes."""

    def __init__(self, device_type: str, dtype: Any = None, enabled: bool = True):
        self.on = enabled and device_type == "meta"

    def __enter__(self) -> None:
        self.enabled.append(self.on)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.enabled.pop()
        if not self.enabled:
            self.weights.clear()


IN_BFLOAT16 = {
    *("linear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "addmm", "baddbmm"),
    *("conv1d", "conv2d", "conv3d", "conv_transpose2d", "einsum", "scaled_dot_product_attention"),
}
IN_FLOAT32 = {
    *("layer_norm", "group_norm", "softmax", "log_softmax", "norm", "exp", "log", "log1p"),
    *("expm1", "pow", "softplus", "sum", "cumsum", "prod", "mse_loss", "smooth_l1_loss", "l1_loss"),
    *("binary_cross_entropy_with_logits", "nll_loss", "cross_entropy", "rsqrt"),
}
"""Functions that autocast computes in either (pytorch.org/docs, "Autocast Op Reference")."""


class _Casts(TorchFunctionMode):
    """Casts arguments as autocast would, takes fused attention, and copies constants."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name, kwargs = getattr(function, "__name__", ""), kwargs or {}
        if _Autocast.enabled and _Autocast.enabled[-1]:
            to = {
                **dict.fromkeys(IN_BFLOAT16, torch.bfloat16),
                **dict.fromkeys(IN_FLOAT32, torch.float32),
            }.get(name)
            if to is not None:
                args = [self._cast(one, to) for one in args]
                kwargs = {key: self._cast(one, to) for key, one in kwargs.items()}
        if function is torch.tensor and kwargs.get("device") is not None:  # made on the CPU
            return function(*args, **{**kwargs, "device": "cpu"}).to(kwargs["device"])
        if name == "scaled_dot_product_attention" and args[0].device == META:
            return torch.ops.aten._scaled_dot_product_flash_attention(*args, **kwargs)[0]
        return function(*args, **kwargs)

    def _cast(self, value: Any, to: torch.dtype) -> Any:
        if not isinstance(value, torch.Tensor) or value.device != META:
            return value
        if value.dtype not in (torch.float32, torch.bfloat16) or value.dtype == to:
            return value
        if not (value.is_leaf and value.requires_grad and to == torch.bfloat16):
            return value.to(to)
        known = _Autocast.weights
        return known[id(value)] if id(value) in known else known.setdefault(id(value), value.to(to))


class Launches(TorchDispatchMode):
    """Counts operators of a step on ``meta``; see the module.

    Attributes:
        operators: launches by operator.
        backward: launches of the backward pass.
        copies: launches that copy from the CPU.
        waits: values of the device that the CPU waits for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operators: Counter[str] = Counter()
        self.backward = self.copies = self.waits = 0

    @property
    def launches(self) -> int:
        """Operators launched in the whole step."""
        return self.operators.total()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs, name = kwargs or {}, str(function).removeprefix("aten.")
        given = _tensors((args, kwargs))
        on_device = any(x.device == META for x in given)
        if on_device and name.startswith("_local_scalar_dense"):
            self.waits += 1
            return 1.0
        if on_device and name.startswith("_to_copy") and _goes_to_cpu(kwargs):
            self.waits += not kwargs.get("non_blocking")
            return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        if name.startswith("_to_copy") and not on_device and _goes_to_device(args[0], kwargs):
            self.waits += not kwargs.get("non_blocking")
        found = function(*args, **kwargs)
        gives = any(x.device == META for x in _tensors(found))
        writes = on_device and function._schema.is_mutable
        if (gives or writes) and not _computes_nothing(function):
            on_lists = name.startswith(("_foreach", "_fused"))
            number = -(-len(args[0]) // TENSORS_A_LAUNCH) if on_lists else 1
            self.operators[name] += number
            self.backward += number * (torch._C._current_autograd_node() is not None)
            self.copies += draws(name) or any(x.device != META and x.ndim for x in given)
        return found


def _tensors(values: Any) -> list[torch.Tensor]:
    return [x for x in torch.utils._pytree.tree_leaves(values) if isinstance(x, torch.Tensor)]


def _goes_to_cpu(kwargs: dict[str, Any]) -> bool:
    return kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "cpu"


def _goes_to_device(x: torch.Tensor, kwargs: dict[str, Any]) -> bool:
    """Whether values, and not one number alone, are copied to the device."""
    return x.ndim > 0 and torch.device(kwargs.get("device") or "cpu") == META


def _computes_nothing(function: Any) -> bool:
    """Whether an operator gives a view, or memory without values."""
    name = function._schema.name.removeprefix("aten::")
    return function.is_view or name in {
        *("empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided"),
        *("detach", "_unsafe_view", "_reshape_alias", "lift_fresh", "set_", "resize_"),
    }


@contextmanager
def as_cuda() -> Iterator[Launches]:
    """Count in the block, in which ``meta`` has CUDA's autocast and operators on lists."""
    places = torch.utils._foreach_utils, sys.modules["torch.optim.optimizer"]
    names = "_get_foreach_kernels_supported_devices", "_get_fused_kernels_supported_devices"
    with ExitStack() as stack:
        for place, name in product(places, names):
            if hasattr(place, name):
                stack.enter_context(mock.patch.object(place, name, lambda: ["meta", "cpu"]))
        stack.enter_context(mock.patch.object(torch, "autocast", _Autocast))
        stack.enter_context(_Casts())
        yield stack.enter_context(Launches())


def count(row: str, **changes: Any) -> Launches:
    """Count a step of a row of ``ROWS``; ``changes`` are options of its run."""
    learner, batch = _learner_of(row, **changes)
    for step in (STEP, STEP + 1):  # the first one makes the optimiser's state
        with as_cuda() as counted:
            learner.learn(batch, step)
    return counted


def count_compiled(row: str, **changes: Any) -> Launches:
    """Count likewise a step with ``scale.compile``, of which all must be captured at once.

    Of what is compiled the kernels are counted (``_fused_kernels``), of the rest the operators.
    """
    kernels = Kernels(_Autocast, _Casts)
    with kernels.counting(), suppress(_Captured):
        learner, batch = _learner_of(row, **{"scale": ScaleConfig(compile=True)} | changes)
        with mock.patch.object(train, "StepValues", _captured):
            learner.learn(batch, STEP)
    parameters = [p for group in learner.optimizer.param_groups for p in group["params"]]
    kernels.learning = [p for p in parameters if p.grad is not None]
    for step in (STEP, STEP + 1):
        with as_cuda() as counted:
            learner.learn(batch, step)
    counted.operators["kernels of compiled graphs"] = kernels.forward + kernels.backward
    counted.backward += kernels.backward
    counted.copies += kernels.copies
    return counted


class _Captured(Exception):
    """Ends a step where its values go to the CPU: after the backward pass."""


def _captured(step: int, scalars: Any) -> None:
    raise _Captured


def _learner_of(row: str, **changes: Any) -> tuple[Any, Batch]:
    """Return what learns in a row of ``ROWS``, and a batch for it, on ``meta``."""
    recipe, config = run_of(row, **{"steps": STEPS, "batch": SAMPLES} | changes)
    canvas = config.canvas_spec
    source = SyntheticStreet(frames=SAMPLES, height=canvas.height // 2, width=canvas.width // 2)
    samples = samples_of(config, source)
    batch = collate([samples[i] for i in range(SAMPLES)])
    sampler = BatchSampler(64, SAMPLES, 0)
    run = Run(config, Path("none"), DistInfo(0, 1, META), samples, sampler)
    return recipe.learner(run), batch.to(META)


def main() -> None:
    """Print a table of all rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--operators", type=int, default=0, help="also print so many operators")
    parser.add_argument("--compiled", action="store_true", help="also steps that are compiled")
    options = parser.parse_args()
    print("| step | launches | of them backward | copies from the CPU | waits |")
    print("| --- | ---: | ---: | ---: | ---: |")
    counts = [(row, count) for row in ROWS]
    if options.compiled:
        counts += [(f"{row}, compiled", count_compiled) for row in ROWS]
    for name, counted in counts:
        found = counted(name.removesuffix(", compiled"))
        print(f"| {name} | {found.launches} | {found.backward} | {found.copies} | {found.waits} |")
        for operator, number in found.operators.most_common(options.operators):
            print(f"{number:6d} {operator}")


if __name__ == "__main__":
    main()
