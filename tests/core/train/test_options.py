"""Options that must act on the training path: compilation, recomputed activations, seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from lemumo_core.faults import Fault
from lemumo_core.methods.dino.method import DINO
from lemumo_core.methods.info_nce.method import InfoNCE
from lemumo_core.methods.masked_modeling.method import MaskedModeling
from lemumo_core.model.transformer import Block
from lemumo_core.train import parallel
from lemumo_core.train.learner import NonFinite
from lemumo_core.train.parallel import DistInfo
from lemumo_core.train.pretrain.config import PretrainConfig
from lemumo_core.train.pretrain.learner import PretrainLearner
from lemumo_core.train.run_config import ScaleConfig
from tests.helpers.small_run import SMALL_VIEWS, small_batch, small_config, small_method

ALONE = DistInfo(0, 1, torch.device("cpu"))


def gradients(config: PretrainConfig, step: int = 2) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of a step."""
    learner = PretrainLearner(config, 10, ALONE)
    total = learner.forward(learner.views(small_batch(config), step), step).loss.total
    total.backward()
    return total.item(), {n: p.grad for n, p in learner.method.named_parameters()}


@pytest.mark.parametrize("variant", ["pruned", "persistent"])
def test_activations_are_recomputed_to_the_same_gradients(monkeypatch, variant) -> None:
    model = replace(small_config().model, variant=variant)
    calls, depth = 0, model.depth
    feed_forward = Block.feed_forward

    def counted(self, x, *path):
        nonlocal calls
        calls += 1
        return feed_forward(self, x, *path)

    monkeypatch.setattr(Block, "feed_forward", counted)
    method = small_method(masked_weight=0.0)  # whose decoder has blocks of its own
    loss, plain = gradients(small_config(model=model, method=method))
    # Global and local views go through every block, but for the first and last at once in pruned.
    once = depth - 2 if variant == "pruned" else 0
    assert calls == 2 * depth - once
    calls = 0
    scale = ScaleConfig(checkpoint_activations=True, workers=0)
    again, recomputed = gradients(small_config(model=model, method=method, scale=scale))
    expected = 2 * depth + 2 * (depth - 1) - 2 * once  # fusion's own block keeps its activations
    assert calls == expected
    assert again == loss
    for name, gradient in plain.items():
        assert torch.equal(recomputed[name], gradient), name


@pytest.fixture
def graphs(monkeypatch) -> Iterator[list[torch.fx.GraphModule]]:
    """Graphs without breaks that ``torch.compile`` has captured; torch itself runs them."""
    torch._dynamo.reset()
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compile_with = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda f: compile_with(f, backend=backend, fullgraph=True)
    )
    yield graphs
    torch._dynamo.reset()


def assert_compiled_alike(config: PretrainConfig) -> None:
    """Loss and gradients of a step are the same where it is compiled."""
    loss, plain = gradients(config)
    again, compiled = gradients(replace(config, scale=ScaleConfig(compile=True, workers=0)))
    assert again == pytest.approx(loss, rel=1e-5)
    assert compiled.keys() == plain.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(compiled[name], gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("objective", "projected"), [("vicreg", 1), ("lejepa", 2)])
def test_a_compiled_step_is_one_graph_with_the_same_draws(objective, projected, graphs) -> None:
    """Views of the objectives are a graph, and those of masked modelling; all else is a third."""
    method = small_method(objective=objective, modality_dropout=0.3)
    assert_compiled_alike(small_config(method=method))
    assert len(graphs) == 3
    called = [str(node.target) for graph in graphs for node in graph.graph.nodes]
    drawn = ("draw_scales", "draw_chances", "directions_like", "choose_cells")
    counts = [sum(f"lemumo.{name}" in target for target in called) for name in drawn]
    # Three passes of the encoder; VISReg of tokens, and SIGReg where it is in the objective.
    assert counts == [3, 1, projected, 1]


@pytest.mark.parametrize(
    ("method", "number"),
    [
        (DINO(hidden=32, prototypes=16, views=SMALL_VIEWS), 2),  # student and teacher
        (InfoNCE(views=SMALL_VIEWS), 1),
        (MaskedModeling(), 1),
    ],
    ids=["DINO", "InfoNCE", "MaskedModeling"],
)
def test_what_other_methods_encode_is_compiled_as_a_whole(method, number, graphs) -> None:
    assert_compiled_alike(small_config(method=method))
    assert len(graphs) == number


def test_a_step_draws_what_it_draws_whatever_came_before() -> None:
    config = small_config()
    loss, once = gradients(config)
    torch.manual_seed(99)
    torch.rand(1000)
    again, twice = gradients(config)
    assert loss == again and all(torch.equal(once[name], twice[name]) for name in once)
    # Stochastic depth is at work, and of the step.
    learner = PretrainLearner(config, 10, ALONE)
    views = learner.views(small_batch(config), 2)
    learner.method.requires_grad_(False)

    def invariance(step: int) -> float:
        return learner.forward(views, step).loss.terms["invariance"].item()

    of_steps = {invariance(2) for _ in range(2)}
    assert len(of_steps) == 1
    assert invariance(3) not in of_steps


@pytest.mark.parametrize("method", ["LeMuMo", "DINO"])
def test_a_step_that_is_not_finite_changes_nothing(method) -> None:
    """LeMuMo's loss is read a step late; DINO's teacher must not follow such a step either."""
    options = small_method() if method == "LeMuMo" else DINO(hidden=32, prototypes=16)
    config = small_config(method=options)
    learner, batch = PretrainLearner(config, 10, ALONE), small_batch(config)
    learner.learn(batch, 1)
    weights = dict(learner.method.named_parameters())
    before = {name: value.detach().clone() for name, value in weights.items()}
    states = {name: value.clone() for name, value in learner.tensors()["optimizer"].items()}
    next(iter(learner.optimizer.state)).register_hook(lambda gradient: gradient * torch.nan)
    if method == "LeMuMo":
        learner.learn(batch, 2)
    with pytest.raises(NonFinite, match="step 3 is not finite: gradient_norm"):
        learner.learn(batch, 3 if method == "LeMuMo" else 2)
    assert all(torch.equal(weights[name], value) for name, value in before.items())
    for name, value in learner.tensors()["optimizer"].items():
        assert torch.equal(states[name], value), name


def test_masked_returns_are_predicted_from_the_others(monkeypatch) -> None:
    """The model never sees a return that is masked, and learns from those of all patches."""
    config = small_config(method=small_method(mask_returns=1.0))
    learner = PretrainLearner(config, 10, ALONE)
    views = learner.views(small_batch(config), 0)
    embed, seen, beside = learner.method.encoder.embed, [], []
    monkeypatch.setattr(
        *(learner.method.encoder, "embed"),
        lambda inputs, *shown: seen.append(inputs) or embed(inputs, *shown),
    )
    learner.method.depth_branch.register_forward_hook(
        lambda module, inputs, outputs: beside.append(inputs[1])
    )
    learner.forward(views, 0)
    encoded, predicted = seen[0].companion, beside[0].companion
    shape = views.joint[0].companion.shape
    by_sample = views.joint[0].companion.unflatten(0, (2, -1)).transpose(0, 1).reshape(shape)
    assert torch.equal(predicted.unflatten(0, (2, -1)).transpose(0, 1).reshape(shape), encoded)
    masked = (encoded == 0) & (by_sample != 0)
    assert 0.2 < masked.sum() / (by_sample != 0).sum() < 0.8
    assert torch.equal(encoded[~masked], by_sample[~masked])


def test_shards_need_ranks() -> None:
    with pytest.raises(Fault, match="torchrun"):
        PretrainLearner(small_config(scale=ScaleConfig(sharding="fsdp", workers=0)), 10, ALONE)


def test_bfloat16_on_a_cpu_needs_its_instructions(monkeypatch) -> None:
    model = replace(small_config().model, size="nano")
    config = small_config(model=model, scale=ScaleConfig(bfloat16=True, workers=0))
    monkeypatch.setattr(parallel, "has_bfloat16", lambda: False)
    with pytest.raises(Fault, match="leave out --scale"):
        PretrainLearner(config, 10, ALONE)
    monkeypatch.setattr(parallel, "has_bfloat16", lambda: True)
    losses, kinds = [], []
    for one in (config, replace(config, scale=ScaleConfig(workers=0))):
        learner = PretrainLearner(one, 10, ALONE)
        block = learner.method.encoder.blocks[1].mlp.fc1
        block.register_forward_hook(lambda _, __, out: kinds.append(out.dtype))
        views = learner.views(small_batch(one), 0)
        losses.append(learner.forward(views, 0).loss.total)
    assert {kinds[0], kinds[-1]} == {torch.bfloat16, torch.float32}
    assert losses[0].dtype == torch.float32 and losses[0] != losses[1]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=0.05)
