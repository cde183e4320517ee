"""Fine-tuning: what learns and how fast, weights to start from, ranks, and that targets, losses,
decoding and metrics agree."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import distributed, multiprocessing
from torch.nn import functional

from lemumo_core.data.mixture import Subset
from lemumo_core.data.samples import Batch, collate
from lemumo_core.data.sources.synthetic import SyntheticStreet
from lemumo_core.faults import Fault
from lemumo_core.frame import Frame, Labels
from lemumo_core.model.config import SIZES, ModelConfig
from lemumo_core.model.perception import seeded_model
from lemumo_core.model.variants import build_encoder
from lemumo_core.train.batch_sampler import BatchSampler
from lemumo_core.train.checkpoint import open_checkpoint, save
from lemumo_core.train.finetune.config import (
    AugmentationConfig,
    FinetuneConfig,
    FinetuneLogConfig,
    LossConfig,
    model_of,
)
from lemumo_core.train.finetune.learner import FinetuneLearner, layer_rate
from lemumo_core.train.finetune.step import FinetuningStep
from lemumo_core.train.finetune.weights import load_perception
from lemumo_core.train.loader import samples_of
from lemumo_core.train.loop import Run
from lemumo_core.train.parallel import DistInfo, leave_group
from lemumo_core.train.run_config import ScaleConfig
from tests.helpers.small_frames import small_frames
from tests.helpers.small_run import share

CPU = torch.device("cpu")
ALONE = DistInfo(0, 1, CPU)
MODEL = ModelConfig(size="nano", height=48, width=64)
FRAMES = 8


class Small:
    """Eight small Frames whose labels have ids that the model knows."""

    def __len__(self) -> int:
        return FRAMES

    def __getitem__(self, index: int) -> Frame:
        frame = small_frames(FRAMES)[index]
        label_map = np.where(frame.labels.label_map < 12, frame.labels.label_map, 255)
        return replace(frame, labels=replace(frame.labels, label_map=label_map.astype(np.uint8)))

    def describe(self) -> dict[str, object]:
        return {"source": "small", "frames": FRAMES}


def small_run(out: Path, dist: DistInfo = ALONE, source: Any = None, **changes: Any) -> Run:
    """Four samples a step out of eight frames: two steps are an epoch."""
    log = FinetuneLogConfig(evaluate_every=100, tensorboard=False)
    options: dict[str, Any] = {"model": MODEL, "batch": 4, "steps": 6, "val_frames": 0, "log": log}
    config = FinetuneConfig(**{**options, **changes})
    source = source or Small()
    order = BatchSampler(len(source) - config.val_frames, config.batch, config.seed)
    return Run(config, out, dist, samples_of(config, source), order)


def batch_of(run: Run, step: int) -> Batch:
    batch = collate([run.samples[i] for i in run.sampler[step]])
    return share(batch, run.dist.rank, run.dist.world)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    """Write what a pretraining run exports."""
    path = tmp_path_factory.mktemp("weights") / "encoder.safetensors"
    torch.manual_seed(7)
    encoder = build_encoder(MODEL)
    save_file({f"encoder.{name}": value for name, value in encoder.state_dict().items()}, path)
    return path


def encoder_of(learner: FinetuneLearner) -> dict[str, torch.Tensor]:
    return {n: t.clone() for n, t in learner.model.encoder.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_the_first_epoch_leaves_the_encoder_untouched(pretrained, tmp_path) -> None:
    run = small_run(tmp_path, weights=str(pretrained))
    learner = FinetuneLearner(run)
    learner.load(pretrained)
    before, heads = encoder_of(learner), learner.model.centernet.heatmap.weight.clone()
    for step in range(2):
        learner.learn(batch_of(run, step), step)
        assert same(encoder_of(learner), before)
    assert not torch.equal(learner.model.centernet.heatmap.weight, heads)
    learner.learn(batch_of(run, 2), 2)
    moved = encoder_of(learner)
    still = {name for name in before if torch.equal(moved[name], before[name])}
    assert still <= {"cls_token"}  # the last block gives no gradient to CLS itself


def test_from_scratch_the_encoder_learns_at_once(tmp_path) -> None:
    run = small_run(tmp_path)
    learner = FinetuneLearner(run)
    before = encoder_of(learner)
    learner.learn(batch_of(run, 0), 0)
    assert not same(encoder_of(learner), before)
    assert {group["rate"] for group in learner.optimizer.param_groups} == {1.0}


def test_a_probe_never_moves_the_encoder_and_drops_no_path(pretrained, tmp_path) -> None:
    run = small_run(tmp_path, mode="probe", weights=str(pretrained))
    learner = FinetuneLearner(run)
    learner.load(pretrained)
    before = encoder_of(learner)
    for step in range(3):
        learner.learn(batch_of(run, step), step)
    assert same(encoder_of(learner), before)
    view = learner.view(batch_of(run, 0), 0)
    assert learner.loss(view, 0)[0].item() == learner.loss(view, 1)[0].item()


@pytest.mark.parametrize("larger", [1, 2])
def test_refinement_learns_alone_from_masked_returns(tmp_path, larger) -> None:
    """On weights that have none yet: all else stays, statistics of norms included.

    It can learn in a view that is larger than what the encoder sees.
    """
    save_file(seeded_model(MODEL, 3).state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "model.json").write_text(json.dumps(asdict(MODEL)))
    size = larger * MODEL.height, larger * MODEL.width
    options = {"refine_depth": True, "encoder_reduction": larger}
    model = replace(MODEL, height=size[0], width=size[1], **options)
    run = small_run(
        tmp_path, mode="refinement", model=model, weights=str(tmp_path), mask_returns=1.0
    )
    learner = FinetuneLearner(run)
    learner.load(tmp_path)
    before = {n: t.clone() for n, t in learner.model.state_dict().items()}
    view = learner.view(batch_of(run, 0), 0)
    assert view.labels.masked is not None and view.labels.masked[:, 0].isfinite().any()
    for step in range(2):
        values = learner.learn(batch_of(run, step), step).read()
    assert values["masked_returns"] > 0 and values["refinement"] > 0
    after = learner.model.state_dict()
    moved = {name for name in before if not torch.equal(after[name], before[name])}
    assert moved and all(name.startswith("refine.") for name in moved)
    outputs = learner.model.eval()(view.inputs)
    assert outputs.depth.shape == outputs.labels.shape == (len(view.image), *size)


def test_a_view_without_a_sensor_learns_what_the_model_predicts_with_both(tmp_path) -> None:
    run = small_run(tmp_path, losses=LossConfig(consistency=1.0), modality_dropout=0.6)
    learner, batch = FinetuneLearner(run), batch_of(run, 0)
    before = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    view, whole = learner.view(batch, 0), learner.whole_view(batch, 0)
    assert view.held.any() and not view.held.all()
    assert torch.equal(view.held, view.present.sum(1) < 2) and (whole.present == 1).all()
    with torch.no_grad():
        predicted = learner.model.eval().raw(whole.inputs)
    assert torch.equal(view.taught.segmentation, predicted.segmentation)
    assert same(before, learner.model.state_dict())

    step = learner.step.eval()
    total, terms = step(view, False)
    alone, _ = FinetuningStep(learner.model, LossConfig())(view, False)
    expected = 0.25 * terms["boxes_apart"] + 0.8 * terms["labels_apart"]
    assert terms["boxes_apart"] > 0 and terms["labels_apart"] > 0
    assert (total - alone).item() == pytest.approx(expected.item(), rel=1e-3)
    _, terms = step(replace(view, present=whole.present), False)
    assert terms["boxes_apart"] == pytest.approx(0, abs=1e-5)


def test_weights_that_refine_depth_start_a_model_that_does_not(tmp_path) -> None:
    refining = replace(MODEL, refine_depth=True)
    save_file(seeded_model(refining, 3).state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "model.json").write_text(json.dumps(asdict(refining)))
    learner = FinetuneLearner(small_run(tmp_path, weights=str(tmp_path)))
    learner.load(tmp_path)
    loaded, saved = learner.model.state_dict(), load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(tensor, saved[name]) for name, tensor in loaded.items())


@pytest.mark.parametrize("variant", ["pruned", "late"])
def test_layers_learn_at_their_rates(variant) -> None:
    config = replace(MODEL, variant=variant)
    rates = {n: layer_rate(n, config, 0.5) for n, _ in seeded_model(config, 0).named_parameters()}
    for name, rate in rates.items():
        if "blocks." in name:
            block = int(name.split("blocks.")[1].split(".")[0])
            assert rate == 0.5 ** (config.depth - block), name
        elif name.startswith("encoder.") and ".norm." not in name:  # tokens, positions, patches
            assert rate == 0.5 ** (config.depth + 1), name
        else:  # heads, and the norm at the end of the encoder
            assert rate == 1.0, name


def test_the_optimizer_takes_these_rates(pretrained, tmp_path) -> None:
    run = small_run(tmp_path, weights=str(pretrained), layer_decay=0.5, heads_first=0)
    learner = FinetuneLearner(run)
    learner.learn(batch_of(run, 0), 0)
    names = {id(p): name for name, p in learner.model.named_parameters()}
    base = learner.optimizer.param_groups[0]["lr"]
    for group in learner.optimizer.param_groups:
        for parameter in group["params"]:
            expected = base * layer_rate(names[id(parameter)], MODEL, 0.5)
            assert group["lr"] == pytest.approx(expected)


def test_weights_of_pretraining_of_a_model_and_of_another_size(pretrained, tmp_path) -> None:
    model = seeded_model(MODEL, 1)
    load_perception(model, pretrained)
    theirs = load_file(pretrained)
    assert same(theirs, dict(model.state_dict())) and "encoder.cls_token" in theirs

    state = {"step": 1, "config": {"model": {"height": 48, "width": 64}}}
    save(tmp_path / "step-1", {"model": model.state_dict()}, state)
    wider = seeded_model(replace(MODEL, width=128), 2)
    load_perception(wider, tmp_path / "step-1")
    assert torch.equal(wider.centernet.heatmap.weight, model.centernet.heatmap.weight)
    old, new = (m.encoder.positions[0] for m in (model, wider))
    assert torch.equal(new[0], old[0])  # CLS has no place
    for i in range(3):
        grid = old[1 + 12 * i : 13 + 12 * i].T.reshape(1, -1, 3, 4)
        expected = functional.interpolate(grid, (3, 8), mode="bicubic").flatten(2)[0].T
        torch.testing.assert_close(new[1 + 24 * i : 25 + 24 * i], expected)
    with pytest.raises(Fault, match="does not fit"):
        load_perception(seeded_model(replace(MODEL, variant="late"), 0), pretrained)
    with pytest.raises(FileNotFoundError, match="no run"):
        load_perception(model, tmp_path / "nothing")


def test_the_model_is_that_of_the_weights(tmp_path) -> None:
    options = {"size": "small", "height": 64, "width": 96, "variant": "early"}
    save(tmp_path / "step-1", {"model": {}}, {"step": 1, "config": {"model": options}})
    from lemumo_core.train.run_config import command_line

    parser = command_line(FinetuneConfig)
    arguments = ["--weights", str(tmp_path / "step-1"), "--mode", "probe", "--model.width", "128"]
    parser.set_defaults(FinetuneConfig.defaults(parser.parse_args(arguments)))
    found = parser.parse_args(arguments)
    model = found.model
    assert (model.size, model.height, model.width, model.variant) == ("small", 64, 128, "early")
    assert model.head_preset == "paper" and found.modality_dropout == 0
    assert found.optimizer.lr == 1e-3 and found.optimizer.weight_decay == 1e-7
    assert found.augmentation.scale == [1.0, 1.0] or found.augmentation.scale == (1.0, 1.0)
    assert found.augmentation.photometric.jitter_p == 0


@pytest.mark.parametrize(
    ("mode", "expected"), [("full", (48, 64, 1)), ("refinement", (96, 128, 2))]
)
def test_a_refinement_is_trained_in_the_models_own_view(tmp_path, mode, expected) -> None:
    options = {"height": 96, "width": 128, "refine_depth": True, "encoder_reduction": 2}
    save(tmp_path / "step-1", {"model": {}}, {"step": 1, "config": {"model": options}})
    model = model_of(tmp_path / "step-1", mode)
    assert (model.height, model.width, model.encoder_reduction) == expected


RANKS: dict[str, Any] = {"val_frames": 4, "losses": LossConfig(consistency=1.0)}
"""Options of what one and two ranks compute alike."""


def outcome(run: Run, pretrained: Path) -> dict[str, torch.Tensor]:
    """Loss, gradients and statistics of a step of heads alone and of one of all."""
    result = {}
    for step in (0, 2):
        learner = FinetuneLearner(run)
        learner.load(pretrained)
        total, terms = learner.loss(learner.view(batch_of(run, step), step), step)
        total.backward()
        grads = {n: p.grad for n, p in learner.model.named_parameters() if p.grad is not None}
        parts = {"loss": total.detach(), **terms, **grads, **dict(learner.model.named_buffers())}
        result |= {f"{step} {name}": value for name, value in parts.items()}
    return result


def run_rank(rank: int, folder: str, pretrained: str) -> None:
    torch.set_num_threads(1)
    store = distributed.FileStore(f"{folder}/store", 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    changes = {**RANKS, "weights": pretrained, "scale": ScaleConfig(workers=0)}
    run = small_run(Path(folder), DistInfo(rank, 2, CPU), **changes)
    result: dict[str, Any] = outcome(run, Path(pretrained))
    result["evaluated"] = _evaluated(run)
    torch.save(result, f"{folder}/{rank}.pt")
    leave_group()


def _evaluated(run: Run) -> dict[str, Any]:
    learner = FinetuneLearner(run)
    assert learner.validation is not None
    return {mode: metric.result() for mode, metric in learner.validation.evaluate().items()}


def test_a_compiled_step_is_one_graph(monkeypatch, tmp_path) -> None:
    torch._dynamo.reset()
    graphs, compile_with = [], torch.compile

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def compiled(function, **options):
        return compile_with(function, backend=backend, fullgraph=True)

    monkeypatch.setattr(torch, "compile", compiled)
    values = []
    for compiles in (False, True):
        scale = ScaleConfig(compile=compiles, workers=0)
        run = small_run(tmp_path, scale=scale, losses=LossConfig(consistency=1.0))
        values.append(FinetuneLearner(run).learn(batch_of(run, 0), 0).read())
    assert len(graphs) == 1
    assert values[1] == pytest.approx(values[0], rel=1e-4)
    torch._dynamo.reset()


def test_two_ranks_are_one(pretrained, tmp_path) -> None:
    arguments = str(tmp_path), str(pretrained)
    multiprocessing.start_processes(run_rank, arguments, nprocs=2, start_method="forkserver")
    run = small_run(tmp_path, weights=str(pretrained), **RANKS)
    expected, evaluated = outcome(run, pretrained), _evaluated(run)
    assert "2 encoder.patch_embed.image.weight" in expected and "0 detection" in expected
    assert "0 encoder.patch_embed.image.weight" not in expected
    for rank in range(2):
        ours = torch.load(tmp_path / f"{rank}.pt")
        theirs = ours.pop("evaluated")
        for mode, result in evaluated.items():
            for figure in ("bev_map", "depth_mae_m", "miou", "frames"):
                assert theirs[mode][figure] == pytest.approx(result[figure], rel=1e-4), figure
        assert ours.keys() == expected.keys()
        for name, value in expected.items():
            error = (ours[name].float() - value.float()).abs().max().item()
            assert error <= 2e-4 * max(value.abs().max().item(), 1e-2), (rank, name, error)


@pytest.fixture
def two_blocks(monkeypatch) -> None:
    """Nano has two blocks, not four: enough for two frames."""
    monkeypatch.setitem(SIZES, "nano", (*SIZES["nano"][:2], 2))


def learnt_by_heart(frames: list[Frame], out: Path, steps: int, **model: Any) -> dict[str, float]:
    """Return what a model predicts of two frames that it has seen for so many steps."""

    class Frames(Small):
        def __getitem__(self, index: int) -> Frame:
            return frames[index]

    whole = AugmentationConfig(scale=(1.0, 1.0), aspect=(1.0, 1.0), flip=0.0)
    options = {
        "model": replace(MODEL, height=96, width=192, **model),
        "val_frames": 2,
        "steps": steps,
    }
    options |= {"augmentation": whole, "modality_dropout": 0.0, "batch": 2}
    options["log"] = FinetuneLogConfig(evaluate_every=steps, tensorboard=False)
    run = small_run(out, source=Subset(Frames(), [0, 1] * 2), **options)
    learner = FinetuneLearner(run)
    for step in range(run.steps):
        learner.learn(batch_of(run, step), step)
    assert learner.due(steps) and not learner.due(steps - 1)
    return learner.validate(steps)


@pytest.fixture(scope="module")
def streets() -> list[Frame]:
    """Two streets, seen through lenses that distort."""
    source = SyntheticStreet(frames=7, frames_per_drive=1, width=192, height=96)
    frames = [source[5], source[6]]
    assert [frame.camera.model for frame in frames] == ["equidistant", "plumb_bob"]
    return frames


@pytest.mark.timeout(600)
def test_a_model_that_learns_its_own_frames_is_evaluated_well(
    streets, two_blocks, tmp_path
) -> None:
    """Targets, losses, decoding and metrics agree: detection, depth and labels are found again."""
    # After 80 steps it is .5 on one processor and above .6 on another.
    values = learnt_by_heart(streets, tmp_path, 120)
    assert values["fused_bev_map"] > 0.6 and values["fused_miou"] > 0.4
    assert values["fused_depth_mae_m"] < 3
    best = open_checkpoint(tmp_path / "best")
    assert best.state["metrics"]["fused"]["bev_map"] == pytest.approx(values["fused_bev_map"])


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("two_blocks")
def test_so_does_one_that_detects_in_2d(streets, tmp_path) -> None:
    flat = [
        replace(frame, labels=Labels(boxes_2d=seen.boxes_2d, class_names=seen.class_names))
        for frame in streets
        if (seen := frame.labels)
    ]
    values = learnt_by_heart(flat, tmp_path, 90, detection="2d")
    assert values["fused_ap50"] > 0.7
    assert not {"fused_bev_map", "fused_miou"} & values.keys()
