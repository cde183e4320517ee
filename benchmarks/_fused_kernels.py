"""Kernels of a compiled step: inductor's graph for CUDA, scheduled without a GPU or Triton.

The graph is captured on ``meta`` and moved to a CUDA device that does not exist: inductor lowers
and fuses it for one of compute capability 9.0, and nothing is generated or run.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from functorch.compile import make_boxed_func
from torch import Tensor, fx
from torch._functorch.aot_autograd import aot_module_simplified
from torch._inductor import ir, scheduler
from torch._inductor.debug import DebugContext
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.fx_passes import reinplace
from torch._inductor.fx_passes.post_grad import post_grad_passes
from torch._inductor.graph import GraphLowering
from torch._inductor.runtime.hints import DeviceProperties
from torch._inductor.virtualized import V
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.passes.fake_tensor_prop import FakeTensorProp
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map_only

CUDA = torch.device("cuda", 0)
PROCESSORS, CAPABILITY = 132, (9, 0)


class Kernels:
    """Counts the kernels of compiled functions.

    Args:
        autocast: stands for ``torch.autocast`` on ``meta`` in a graph.
        casts: makes the context that casts.

    Attributes:
        forward, backward: kernels of all graphs so far; graphs without gradients are forward.
        copies: of them copies from the CPU, which draws make.
        learning: parameters; once there are some, compiled functions only give again what they
            gave, and gradients for these.
    """

    def __init__(self, autocast: type, casts: Callable[[], Any]):
        self.forward = self.backward = self.copies = 0
        self.learning: list[Tensor] = []
        self._autocast, self._casts = autocast, casts

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what ``torch.compile`` compiles in the block; its graphs run on ``meta``."""
        compile_with, autocast = torch.compile, torch.autocast

        def compiled(function: Any, **options: Any) -> Any:
            return _Compiled(compile_with(function, backend=self._backend, fullgraph=True), self)

        def on_cpu(device_type: str, *rest: Any, **options: Any) -> torch.autocast:
            return autocast("cpu" if device_type == "meta" else device_type, *rest, **options)

        static = torch._dynamo.config.patch(automatic_dynamic_shapes=False)
        with (
            static,
            mock.patch.object(torch, "compile", compiled),
            mock.patch.object(torch, "autocast", on_cpu),
        ):
            yield

    def _backend(self, graph: fx.GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Any]:
        def count(place: str) -> Callable[..., Any]:
            def compiler(graph: fx.GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Any]:
                number, copies = kernels_of(copy.deepcopy(graph), inputs, place == "backward")
                setattr(self, place, getattr(self, place) + number)
                self.copies += copies
                return make_boxed_func(graph.forward)

            return compiler

        module = _Captured(graph, self._autocast, self._casts)
        return aot_module_simplified(
            *(module, inputs),
            fw_compiler=count("forward"),
            bw_compiler=count("backward"),
            decompositions=select_decomp_table(),
            keep_inference_input_mutations=True,
        )


class _Compiled:
    """A compiled function, which runs once."""

    def __init__(self, function: Callable[..., Any], kernels: Kernels):
        self._function, self._kernels = function, kernels

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        learning = self._kernels.learning
        if not learning:
            self._found = self._function(*args, **kwargs)
            return self._found

        def again(x: Tensor) -> Tensor:
            found: Tensor = _Again.apply(x.detach(), *learning) if x.requires_grad else x
            return found

        return tree_map_only(Tensor, again, self._found)


class _Again(torch.autograd.Function):
    """A value, and gradients, that nothing is launched for."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(*parameters)
        return x.new_empty(x.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *(torch.empty_like(one) for one in ctx.saved_tensors))


class _Captured(torch.nn.Module):
    """Runs a captured graph, with casts where its autocast is on."""

    def __init__(self, graph: fx.GraphModule, autocast: type, casts: Callable[[], Any]):
        super().__init__()
        self.graph, self._casts = graph, casts
        self._interpreter = type("Interpreter", (_Interpreter,), {"autocast": autocast})

    def forward(self, *inputs: Any) -> Any:
        with self._casts():
            return self._interpreter(self.graph).run(*inputs)


class _Interpreter(fx.Interpreter):
    autocast: type

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        name = getattr(target, "__name__", "")
        if name == "_enter_autocast":
            context = self.autocast("meta", args[1], args[2])
            context.__enter__()
            return context
        if name == "_exit_autocast":
            return args[0].__exit__(None, None, None)
        return super().call_function(target, args, kwargs)


def kernels_of(graph: fx.GraphModule, inputs: Sequence[Any], is_backward: bool) -> tuple[int, int]:
    """Return how many kernels inductor would launch for a graph of aten's operators on ``meta``.

    And how many of them are ``draws``.
    """
    with _no_gpu(), _disable_current_modes():
        mode, fakes = _moved(graph, inputs)
        context = torch._guards.TracingContext(mode)
        with (
            torch._guards.tracing(context),
            V.set_fake_mode(mode),
            V.set_debug_handler(DebugContext()),
        ):
            with mode:
                post_grad_passes(graph, is_inference=False)
            lowered = GraphLowering(graph, example_inputs=fakes, is_backward=is_backward)
            with V.set_graph_handler(lowered):
                lowered.run(*fakes)
                lowered.init_wrapper_code()
                nodes = scheduler.Scheduler(lowered.operations).nodes
    launched = [
        node
        for node in nodes
        if not isinstance(node, scheduler.NopKernelSchedulerNode)
        and not isinstance(node.node, ir.MultiOutput)  # one of the outputs of another
    ]
    called = [str(getattr(node.node, "op_overload", "")) for node in launched]
    return len(launched), sum(map(draws, called))


def draws(operator: str) -> bool:
    """Return whether an operator is one of ours that draws on the CPU, and copies from there."""
    return operator.startswith("lemumo.") and not operator.startswith("lemumo.resize")


def _moved(graph: fx.GraphModule, inputs: Sequence[Any]) -> tuple[FakeTensorMode, list[Any]]:
    """Move a graph from ``meta`` to ``CUDA``, in place, with inputs."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def fake(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        on_meta = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
        return FakeTensor(mode, on_meta, CUDA if value.device.type == "meta" else value.device)

    def device(value: Any) -> Any:
        is_meta = isinstance(value, torch.device) and value.type == "meta"
        return CUDA if is_meta else value

    fakes = [fake(value) for value in inputs]
    placeholders = iter(fakes)
    for node in graph.graph.nodes:
        node.args = tuple(map(device, node.args))
        node.kwargs = {key: device(value) for key, value in node.kwargs.items()}
        node.meta.pop("val", None)
        if node.op == "placeholder":
            node.meta["val"] = next(placeholders)
    graph.recompile()
    with mode:
        FakeTensorProp(graph, mode).propagate_dont_convert_inputs(*fakes)
    return mode, fakes


@contextmanager
def _no_gpu() -> Iterator[None]:
    """Answer inductor's questions about the GPU, and about Triton."""
    card = SimpleNamespace(
        major=CAPABILITY[0], multi_processor_count=PROCESSORS, gcnArchName="", name="none"
    )
    hints = DeviceProperties(
        type="cuda",
        index=0,
        multi_processor_count=PROCESSORS,
        cc=10 * CAPABILITY[0] + CAPABILITY[1],
        major=CAPABILITY[0],
        regs_per_multiprocessor=65536,
        max_threads_per_multi_processor=2048,
        warp_size=32,
    )
    answers = {
        "is_available": lambda: True,
        "current_device": lambda: 0,
        "get_device_properties": lambda *_: card,
        "get_device_capability": lambda *_: CAPABILITY,
    }
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, answer))
        for place, name, stand_in in (
            (DeviceProperties, "create", classmethod(lambda cls, device: hints)),
            (scheduler, "has_triton", lambda: True),
            # Writes to a part of a tensor, which it would try out on the device.
            (reinplace, "_inplace_generalized_scatter", lambda whole, *_: whole),
        ):
            stack.enter_context(mock.patch.object(place, name, stand_in))
        yield
