"""What every method keeps to: ranks, resuming, probes, order of samples, devices, memory.

W ranks are one rank, in value and in every gradient, for DDP and for ``fully_shard``: real
processes over gloo, with stochastic depth, modality dropout and the unimodal passes. The same
processes show it of fine-tuning on points.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing

from lemumo_core.data.photometric import PHOTOMETRIC
from lemumo_core.data.samples import map_tensors
from lemumo_core.data.views import MultiCropConfig
from lemumo_core.frame import UNLABELLED
from lemumo_core.methods.cmcr.codebook import CodebookConfig
from lemumo_core.methods.cmcr.presets import TermWeights
from lemumo_core.methods.cmcr.views import DrawConfig
from lemumo_core.methods.decur.method import DeCUR
from lemumo_core.methods.decur.views import CropConfig
from lemumo_core.methods.dino.method import DINO
from lemumo_core.methods.info_nce.method import InfoNCE
from lemumo_core.methods.masked_modeling import objective as masked_objective
from lemumo_core.methods.masked_modeling.masking import Masks
from lemumo_core.methods.masked_modeling.method import MaskedModeling
from lemumo_core.methods.masked_modeling.options import MaskingOptions
from lemumo_core.methods.method import MethodOptions
from lemumo_core.methods.registry import load_methods
from lemumo_core.model import config as model_config
from lemumo_core.model import conv_towers
from lemumo_core.model.config import SIZES
from lemumo_core.model.mit import MitBlock, MitConfig
from lemumo_core.model.resnet import ResNetConfig
from lemumo_core.model.sparse.minkunet import SparseConfig
from lemumo_core.model.sparse.voxels import VoxelConfig
from lemumo_core.model.transformer import Block
from lemumo_core.train import checkpoint
from lemumo_core.train.batch_sampler import BatchSampler
from lemumo_core.train.checkpoint import model_tensors, open_checkpoint, optimizer_tensors
from lemumo_core.train.loader import samples_of
from lemumo_core.train.loop import Run
from lemumo_core.train.parallel import DistInfo, full, leave_group
from lemumo_core.train.points.config import PointsConfig
from lemumo_core.train.points.learner import PointLearner
from lemumo_core.train.pretrain.config import PretrainConfig
from lemumo_core.train.pretrain.learner import PretrainLearner
from lemumo_core.train.run_config import ScaleConfig
from tests.helpers.paths import TOY_METHOD
from tests.helpers.small_cmcr import VIEWS, small
from tests.helpers.small_frames import Frames
from tests.helpers.small_run import share, small_batch, small_config, small_method

STEP = 3
CPU = torch.device("cpu")
ALONE = DistInfo(0, 1, CPU)
STILL = MultiCropConfig(
    local_views=0,
    global_size=(32, 32),
    global_scale=(1.0, 1.0),
    aspect=(1.0, 1.0),
    flip=0.0,
    photometric=PHOTOMETRIC["none"],
)
"""Views without anything random."""


def toy(**changes) -> MethodOptions:
    if str(TOY_METHOD) not in sys.path:
        sys.path.insert(0, str(TOY_METHOD))
    return load_methods()["Toy"](**changes)


def shrink_networks(patch: pytest.MonkeyPatch) -> None:
    """Make the encoder narrow, of two blocks, and the convolutional towers of DeCUR small."""
    patch.setitem(SIZES, "nano", (48, 3, 2))
    resnet = ResNetConfig((1, 1, 1, 1), True, 4, True, 16, 32)
    mit = MitConfig((1, 1, 1, 1), dims=(8, 8, 16, 16), heads=(1, 1, 2, 2))
    patch.setitem(conv_towers.RESNETS, "resnet50_rda", resnet)
    patch.setitem(conv_towers.MITS, "mit_b2", mit)
    for name, one in (("resnet50_rda", resnet), ("mit_b2", mit)):
        patch.setitem(model_config.BACKBONES, name, one.dims)


@pytest.fixture(scope="module", autouse=True)
def small_networks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        shrink_networks(patch)
        yield


def small_decur(shared_crop: bool = False, **changes) -> DeCUR:
    return DeCUR(dimensions=24, crops=CropConfig((32, 32), shared_crop=shared_crop), **changes)


def config_of(name: str, **changes) -> PretrainConfig:
    """A small run of a method, with all that it can do switched on."""
    model = small_config().model
    methods = {
        "LeMuMo": small_method(
            objective="lejepa",
            modality_dropout=0.5,
            aux_unimodal=True,
            mask_returns=1.0,
            masked_weight=0.5,
            masked=MaskingOptions(size=(32, 32)),
        ),
        "MaskedModeling": MaskedModeling(size=(32, 32)),
        "LeMuMo, persistent": small_method(mask_returns=1.0),
        "LeMuMo, VICReg": small_method(objective="vicreg", tokens=False, mask_returns=0.0),
        "InfoNCE": InfoNCE(views=replace(small_method().views, global_views=1)),
        "DINO": DINO(prototypes=16, hidden=32, views=small_method().views),
        "CMCR": small(
            network=SparseConfig(width=0.125, voxels=VoxelConfig(size_m=0.5, features="height")),
            crop=replace(VIEWS, global_size=(32, 32)),
            draw=DrawConfig(matches=16, queries=40, neighbors=4),
            codebook=CodebookConfig(decay=0.5),
            terms=TermWeights(kl=0.1),
        ),
        "DeCUR": small_decur(share_projector=True),
        "DeCUR, ResNet": small_decur(backbone="resnet50_rda"),
        "DeCUR, MiT": small_decur(backbone="mit_b2"),
        "DeCUR, shared crop": small_decur(gram=False, shared_crop=True),
        "Toy": toy(),
    }
    if name == "LeMuMo, persistent":
        model = replace(model, variant="persistent")
    if name == "CMCR":
        changes = {"batch": 4, **changes}
    # With this seed no activation lies so near a ReLU's kink that rounding decides its side.
    return small_config(**{"seed": 2, "model": model, "method": methods[name], **changes})


METHODS = (
    *("MaskedModeling", "LeMuMo", "LeMuMo, persistent", "LeMuMo, VICReg", "InfoNCE", "DINO"),
    *("CMCR", "DeCUR", "DeCUR, ResNet", "DeCUR, MiT", "DeCUR, shared crop", "Toy"),
)
CASES = (
    ("ddp", 4, "LeMuMo"),
    ("ddp", 2, "LeMuMo, VICReg"),
    ("ddp", 2, "MaskedModeling"),
    ("ddp", 2, "InfoNCE"),
    ("ddp", 2, "CMCR"),
    ("ddp", 2, "DeCUR"),
    ("ddp", 2, "DeCUR, ResNet"),
    ("ddp", 2, "DeCUR, MiT"),
    ("ddp", 2, "Toy"),
    ("fsdp", 2, "DeCUR, shared crop"),
    ("fsdp", 2, "DINO"),
    ("fsdp", 2, "LeMuMo"),
    ("fsdp", 2, "LeMuMo, persistent"),
    ("fsdp", 2, "Toy"),
)
"""Sharding, ranks and method."""


def scale(sharding: str) -> ScaleConfig:
    return ScaleConfig(sharding=sharding, workers=0)  # type: ignore[arg-type]


def outcome(dist: DistInfo, config: PretrainConfig) -> dict[str, torch.Tensor]:
    """Loss, its terms, gradients, batch norm statistics and codes after one step."""
    learner = PretrainLearner(config, 10, dist)
    batch = share(small_batch(config), dist.rank, dist.world)
    total, terms = learner.forward(learner.views(batch, STEP), STEP).loss
    total.backward()
    gradients = {
        f"gradient {name}": full(p.grad)
        for name, p in learner.method.named_parameters()
        if p.requires_grad
    }
    learner.method.after_step(STEP, 10)
    return {"loss": total.detach(), **terms, **gradients, **dict(learner.method.named_buffers())}


def keeps_state(dist: DistInfo, config: PretrainConfig, folder: Path) -> bool:
    """Whether a learner with shards restores what another one saved."""
    one, other = PretrainLearner(config, 10, dist), PretrainLearner(config, 10, dist)
    one.learn(share(small_batch(config), dist.rank, dist.world), STEP)
    tensors = one.tensors()
    if dist.first:
        checkpoint.save(folder, tensors, {"step": 1})
    distributed.barrier()
    other.restore(open_checkpoint(folder))
    restored = {"model": model_tensors(other.method)}
    restored["optimizer"] = optimizer_tensors(other.method, other.optimizer)
    return all(
        torch.equal(value, tensors[kind][name])
        for kind, values in restored.items()
        for name, value in values.items()
    ) and all(restored[kind].keys() == tensors[kind].keys() for kind in restored)


def point_outcome(dist: DistInfo) -> dict[str, torch.Tensor]:
    """Loss, its terms and gradients of a step of fine-tuning on points, of sweeps unlike in length
    and in the share that is labelled."""
    config = PointsConfig(
        batch=4,
        val_frames=0,
        model=small_config().model,
        network=SparseConfig(width=0.125, voxels=VoxelConfig(size_m=1.0, features="height")),
        scale=scale("ddp"),
    )
    batch = small_batch(config)
    assert batch.points is not None
    labels = (batch.points[..., 2] > 0).to(torch.uint8) * 2
    labels[0, ::3] = UNLABELLED
    batch.points[3, 100:] = torch.inf
    batch = replace(batch, points=batch.points.double(), sweep_labels=labels)
    run = Run(config, Path("none"), dist, samples_of(config, Frames()), BatchSampler(8, 4, 0))
    # In float32 an activation may round to one side of a ReLU's kink alone and to the other on two
    # ranks, as seen on an Intel Xeon: its gradient is then cut on one of them.
    torch.set_default_dtype(torch.float64)
    try:
        learner = PointLearner(run)
    finally:
        torch.set_default_dtype(torch.float32)
    values = learner.learn(share(batch, dist.rank, dist.world), STEP).read()
    found = {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
    return found | {f"gradient {n}": p.grad for n, p in learner.model.named_parameters()}


def run_rank(rank: int, folder: str) -> None:
    """Rank of a world of four, and then of one of two."""
    torch.set_num_threads(1)
    shrink_networks(pytest.MonkeyPatch())
    for world in (4, 2):
        if rank >= world:
            return
        store = distributed.FileStore(f"{folder}/store{world}", world)
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
        dist = DistInfo(rank, world, CPU)
        for sharding, ranks, name in CASES:
            if ranks == world:
                result = outcome(dist, config_of(name, scale=scale(sharding)))
                torch.save(result, f"{folder}/{sharding}-{world}-{name}-{rank}.pt")
        if world == 2:
            watched = config_of("LeMuMo", scale=scale("fsdp"))
            watched = replace(watched, log=replace(watched.log, monitor_every=1))
            same = keeps_state(dist, watched, Path(folder, "shards"))
            torch.save(same, f"{folder}/state-{rank}.pt")
            torch.save(point_outcome(dist), f"{folder}/points-{rank}.pt")
        leave_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where all ranks have left their outcomes."""
    path = tmp_path_factory.mktemp("ranks")
    multiprocessing.start_processes(run_rank, (str(path),), nprocs=4, start_method="forkserver")
    return path


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, torch.Tensor]]:
    """The outcomes on one rank, by method."""
    return {name: outcome(ALONE, config_of(name)) for name in {case[2] for case in CASES}}


@pytest.mark.parametrize(("sharding", "world", "name"), CASES)
def test_ranks_equal_one_rank(folder, alone, sharding, world, name) -> None:
    expected = alone[name]
    if name == "LeMuMo":
        assert {
            "loss",
            "sigreg_image",
            "returns",
            "gradient depth_branch.neck.enter.weight",
            "gradient encoder.patch_embed.absent",
            "projector.layers.1.running_var",
        } <= expected.keys()
    # Gradients that are 0 but for rounding, as of biases before a batch norm, are as large as the
    # rounding of the loss, which is a sum over dimensions in DeCUR.
    least = 0.1 if name.startswith("DeCUR") else 1e-3
    for rank in range(world):
        ours = torch.load(folder / f"{sharding}-{world}-{name}-{rank}.pt")
        assert ours.keys() == expected.keys()
        for key, value in expected.items():
            error = (ours[key] - value).abs().max().item()
            # 3e-7 on an Intel Xeon, where the projector's first batch norm follows.
            of_bias = 1e-2 if key == "gradient projector.layers.0.bias" else 0.0
            bound = 2e-4 * max(value.abs().max().item(), least, of_bias)
            assert error <= bound, (rank, key, error)


def test_ranks_have_the_same_codes(folder, alone) -> None:
    ranks = [torch.load(folder / f"ddp-2-CMCR-{rank}.pt") for rank in range(2)]
    for name in ("codebook.codes", "codebook.sums"):
        assert torch.equal(ranks[0][name], ranks[1][name])
    # All began with unit length: they have moved.
    assert (alone["CMCR"]["codebook.sums"].norm(dim=1) - 1).abs().max() > 0.1


def test_fine_tuning_on_points_on_two_ranks_is_that_on_one(folder) -> None:
    expected = point_outcome(ALONE)
    assert {
        "lovasz",
        "gradient head.weight",
        "gradient network.stem.conv.weight",
    } <= expected.keys()
    for rank in range(2):
        ours = torch.load(folder / f"points-{rank}.pt")
        assert ours.keys() == expected.keys()
        for key, value in expected.items():
            error = (ours[key] - value).abs().max().item()
            assert error <= 1e-9 * max(value.abs().max().item(), 1e-3), (rank, key, error)


def test_gradients_depend_on_what_is_shared_out(alone) -> None:
    """The comparison sees other samples, views and dropped paths."""
    other = outcome(ALONE, config_of("LeMuMo", seed=1))
    assert not torch.allclose(other["loss"], alone["LeMuMo"]["loss"], rtol=1e-3)


def test_shards_are_saved_whole_and_restored(folder) -> None:
    assert torch.load(folder / "state-0.pt") and torch.load(folder / "state-1.pt")


def test_every_registered_method_is_here() -> None:
    toy()
    assert load_methods().keys() == {name.split(",")[0] for name in METHODS}


@pytest.mark.parametrize("name", METHODS)
def test_resumed_it_goes_on_bit_for_bit(name, tmp_path) -> None:
    config = config_of(name)
    batch = small_batch(config)
    whole, half = PretrainLearner(config, 10, ALONE), PretrainLearner(config, 10, ALONE)
    for step in range(2):
        whole.learn(batch, step)
        half.learn(batch, step)
    checkpoint.save(tmp_path / "step-2", half.tensors(), {"step": 2})
    resumed = PretrainLearner(config, 10, ALONE)
    resumed.restore(open_checkpoint(tmp_path / "step-2"))
    for step in range(2, 4):
        assert resumed.learn(batch, step).read() == whole.learn(batch, step).read()
    ours, theirs = resumed.tensors(), whole.tensors()
    for kind, tensors in theirs.items():
        assert ours[kind].keys() == tensors.keys()
        assert all(torch.equal(ours[kind][key], value) for key, value in tensors.items()), kind


@pytest.mark.parametrize("name", METHODS)
def test_probes_change_nothing(name) -> None:
    """Up to rounding: for them the last block may compute more than CLS."""
    config = config_of(name)
    bare = replace(config, log=replace(config.log, probes=False))
    learners = [PretrainLearner(one, 10, ALONE) for one in (config, bare)]
    batch = small_batch(config)
    for step in range(2):
        probed, alone = (learner.learn(batch, step).read()["loss"] for learner in learners)
        assert probed == pytest.approx(alone, rel=1e-5)


def without_randomness(name: str) -> PretrainConfig:
    config = config_of(name)
    if name == "MaskedModeling":
        still = {"scale": (1.0, 1.0), "flip": 0.0, "photometric": PHOTOMETRIC["none"]}
        return replace(config, method=replace(config.method, **still))
    still = {"views": STILL}
    if name == "CMCR":  # every pair that there is, and nothing else that is drawn
        draw = DrawConfig(matches=400, mask_images=0.0, queries=0, rotate=False)
        terms = TermWeights(occupancy=0.0, intensity=0.0)
        still = {"crop": replace(STILL, global_views=1), "draw": draw, "terms": terms}
    elif name.startswith("DeCUR"):
        changes = {"photometric": STILL.photometric, "scale": (1.0, 1.0), "flip": 0.0}
        still = {"crops": replace(config.method.crops, **changes)}
    elif name == "DINO":
        still |= {"token_weight": 0.0}
    elif name.startswith("LeMuMo"):
        still |= {"modality_dropout": 0.0, "mask_returns": 0.0, "masked_weight": 0.0}
    return replace(config, method=replace(config.method, **still))


def show_everything(rows, count, grid, keep, generator) -> Masks:
    cells = torch.arange(grid[0] * grid[1])
    return Masks(cells, torch.ones(len(rows), 2, len(cells), dtype=torch.bool), grid)


@pytest.mark.parametrize("name", METHODS)
def test_the_order_of_samples_does_not_matter(name, monkeypatch) -> None:
    monkeypatch.setattr(masked_objective, "draw_masks", show_everything)
    config = without_randomness(name)
    batch = small_batch(config)
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(5))
    losses = []
    for given in (batch, map_tensors(batch, lambda rows: rows[order])):
        learner = PretrainLearner(config, 10, ALONE)
        for module in learner.method.modules():
            if isinstance(module, (Block, MitBlock)):
                module.drop_path = 0.0
        losses.append(learner.forward(learner.views(given, STEP), STEP).loss.total.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_a_step_on_the_meta_device_waits_for_nothing(name, monkeypatch) -> None:
    """No ``.item()``, ``nonzero``, mask as an index or tensor of another device in a step."""
    # torch has no autocast for this device.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    config = config_of(name)
    dist = DistInfo(0, 1, torch.device("meta"))
    learner = PretrainLearner(replace(config, log=replace(config.log, probes=False)), 10, dist)
    if name == "CMCR":  # numbers of voxels and pairs are shapes, which are known before the step
        on_cpu = PretrainLearner(replace(config, log=learner.config.log), 10, ALONE)
        views = on_cpu.views(small_batch(config), STEP).to("meta")
    else:
        views = learner.views(small_batch(config).to("meta"), STEP)
    outcome = learner.forward(views, STEP)
    outcome.loss.total.backward()
    learner.method.after_step(STEP, 10)
    for name, parameter in learner.method.named_parameters():
        assert parameter.device.type == "meta", name
        assert parameter.grad is not None or not parameter.requires_grad, name


def live_elements() -> int:
    """Elements of all tensors that live."""
    gc.collect()
    return sum(one.numel() for one in gc.get_objects() if isinstance(one, torch.Tensor))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["LeMuMo", "Toy"])
def test_memory_is_flat_over_a_hundred_steps(name) -> None:
    config = config_of(name, batch=2)
    if name == "LeMuMo":  # a third of the passes
        method = replace(config.method, aux_unimodal=False, views=replace(STILL, local_views=0))
        config = replace(config, method=method)
    learner, batch = PretrainLearner(config, 100, ALONE), small_batch(config)
    after = []
    for step in range(100):
        learner.learn(batch, step)
        if step % 33 == 0:
            after.append(live_elements())
    assert len(set(after)) == 1, after
