"""Our terms of CMCR's loss beside the authors' code, on the same features.

    git clone https://github.com/Eaphan/CMCR CHECKOUT
    python -m benchmarks.compare_cmcr --reference CHECKOUT [--peers FOLDER]

Nothing of theirs is copied: ``training_step`` of their ``LightningPretrain`` and their
``DownstreamLoss`` run from the checkout. Both sides get one random matrix in place of the 3D
network's output and one random map in place of the image encoder's, the same heads, decoder,
codebook and occupancy head, and the voxels, pairs, masks and queries that our preset ``repo`` draws
of two rendered frames. MinkowskiEngine and Lightning are stubbed, since no sparse convolution and
no trainer takes part; so is torch_geometric's radius search, by brute force: which 32 of more
neighbours it takes is not defined, here both take the nearest. FOLDER is for what else a later
version of the checkout may import.

Compared are each term, the gradient of the whole loss at both features, and the codebook after a
step; once with all pairs, and once with those that their data loader keeps of a masked image: it
takes ``1 - mask``, an array of 0 and 1, for an index, and so every pair becomes one of the first
two. The preset ``repo`` draws pairs without that fault. Differences are relative, float32, on the
CPU. The last lines list what one side has alone, and JSON of the differences.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from benchmarks._timing import machine
from lemumo_core.data.samples import collate, sample
from lemumo_core.data.sources.synthetic import SyntheticStreet
from lemumo_core.frame import UNLABELLED
from lemumo_core.losses.lovasz import lovasz_softmax
from lemumo_core.methods.cmcr.method import CMCR, CmcrMethod
from lemumo_core.methods.cmcr.occupancy import RayQueries, draw_queries, with_neighbors
from lemumo_core.methods.cmcr.presets import REPO_VIEWS
from lemumo_core.methods.cmcr.views import CmcrViews, DrawConfig
from lemumo_core.model.config import ModelConfig
from lemumo_core.taxonomy import Taxonomy

MODEL = ModelConfig(height=96, width=192)
DRAW = DrawConfig(matches=256, queries=0, wedge_deg=None, mask_images=1.0, rotate=False)
QUERIES, NEIGHBORS = 512, 32
THEIR_TERMS = {
    "cl_loss": "contrast",
    "cmc_loss": "matching",
    "images_recon_loss": "reconstruction",
    "recons_loss": "occupancy",
    "intensity_loss": "intensity",
    "loss_orth": "orthogonality",
}
"""The names that they log are these of ours; their two commitments together are our one."""
OURS_ALONE = (
    "geometry-enhanced masked image modelling, orthogonality of image features and KL of specific "
    "features (their paper's figure has them, their code does not)"
)
THEIRS_ALONE = "the contrast of superpixels (of SLidR; their configuration of CMCR leaves it out)"
TARGET = 1e-5


class _LightningModule(nn.Module):
    """A trainer as ``training_step`` needs it, with a log and optimisers to read a rate from."""

    def log(self, name: str, value: Any, **_: Any) -> None:
        self.logged = getattr(self, "logged", {}) | {name: float(value)}

    def optimizers(self) -> Any:
        return SimpleNamespace(state_dict=lambda: {"param_groups": [{"lr": 0.0}]})


def brute_force_radius(
    x: Tensor, y: Tensor, r: float, batch_x: Tensor, batch_y: Tensor, max_num_neighbors: int = 32
) -> tuple[Tensor, Tensor]:
    """Return the nearest rows of x within a radius of each row of y: rows of y, and of x."""
    distance = torch.cdist(y, x, compute_mode="donot_use_mm_for_euclid_dist")
    distance[batch_y[:, None] != batch_x[None]] = torch.inf
    near, row = distance.topk(min(max_num_neighbors, len(x)), dim=1, largest=False)
    within = near <= r
    return within.nonzero()[:, 0], row[within]


def import_reference(checkout: Path, peers: Path | None) -> tuple[Any, Any]:
    """Import their training step and their loss of segmentation.

    Raises:
        SystemExit: no such checkout, or something that it imports is missing.
    """
    if not (checkout / "pretrain" / "lightning_trainer.py").exists():
        raise SystemExit(f"no pretrain/lightning_trainer.py in {checkout}: give a checkout of CMCR")
    sys.path[:0] = [str(checkout), *([str(peers)] if peers else [])]
    _stub("MinkowskiEngine", SparseTensor=lambda F, C: SimpleNamespace(F=F, C=C))
    _stub("pytorch_lightning", LightningModule=_LightningModule)
    _stub("pytorch_lightning.utilities", rank_zero_only=lambda function: function)
    _stub("torch_geometric")
    _stub("torch_geometric.nn", radius=brute_force_radius, knn=None)
    try:
        trainer = importlib.import_module("pretrain.lightning_trainer")
        criterion = importlib.import_module("downstream.criterion")
    except ImportError as error:
        raise SystemExit(f"{error}: install what the checkout imports") from None
    return trainer.LightningPretrain, criterion.DownstreamLoss


def _stub(name: str, **members: Any) -> None:
    module = ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module


class Given(nn.Module):
    """A network whose output is given."""

    def __init__(self, output: Tensor):
        super().__init__()
        self.output = nn.Parameter(output)

    def forward(self, _: Any) -> Tensor:
        """Return the output."""
        return self.output


def our_side() -> tuple[CmcrMethod, CmcrViews, RayQueries, Tensor]:
    """Build ours with given features; also return views of two frames, their queries and sweeps."""
    torch.manual_seed(0)
    frames = SyntheticStreet(seed=5, frames=2, frames_per_drive=1, height=96, width=192)
    samples = [sample(frames[i], MODEL.input_spec, Taxonomy(), points=True) for i in range(2)]
    batch = collate(samples)
    crop = replace(REPO_VIEWS, global_size=(64, 96))
    options = CMCR(preset="repo", image_weights="random", crop=crop, draw=DRAW)
    method = options.build(MODEL, MODEL.input_spec)
    assert isinstance(method, CmcrMethod) and batch.points is not None

    def draw(purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(len(purpose))

    views, points = method.views(batch, draw, 0, 1), batch.points
    row = views.voxels.row_of_point
    rays = draw_queries(points, row >= 0, QUERIES, [draw("first"), draw("second")])
    queries = with_neighbors(rays, points, row, NEIGHBORS)
    # All terms see the same pairs; theirs draws them for each term by itself.
    views = replace(views, queries=queries, code_pairs=views.contrast_pairs)
    # The map is as large as the view: how it is enlarged is not compared.
    given = Given(torch.randn(2, method.image_encoder.channels, *views.size))
    method.network, method.image_encoder = Given(torch.randn(len(views.voxels), 96)), given  # type: ignore[assignment]
    return method.train(), views, rays, points


def with_pairs_of_their_loader(views: CmcrViews) -> CmcrViews:
    """Return views with the pairs that an index of 0 and 1 leaves of each image."""
    returns, pairs = views.returns, views.contrast_pairs.clone()
    grid = views.masked.shape[1], views.masked.shape[2]
    hidden = views.masked.flatten()[returns.cell(grid)]
    for number in range(len(pairs)):
        own = (returns.sample == number).nonzero()[:, 0]
        found = torch.where(hidden[own], own[0], own[1])[: pairs.shape[1]]
        pairs[number] = -1
        pairs[number, : len(found)] = found
    return replace(views, contrast_pairs=pairs, code_pairs=pairs)


def their_side(kind: Any, ours: CmcrMethod) -> Any:
    """Build theirs around our features, heads and codes."""
    heads, network, encoder = ours.image_heads, ours.network, ours.image_encoder

    class Points(nn.Module):
        def forward(self, _: Any) -> tuple[Any, Any]:
            x = network(None)  # type: ignore[arg-type]
            shared = functional.normalize(ours.shared(x), dim=1)
            return SimpleNamespace(F=shared), SimpleNamespace(F=ours.specific(x))

    class Images(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = nn.Identity()

        def forward(self, _: Any) -> tuple[Tensor, Tensor]:
            shared, specific = heads(encoder(None))  # type: ignore[arg-type]
            return functional.normalize(shared, dim=1), specific

    config = {"losses": ["loss"], "num_matches": 0, "batch_size": 2, "num_epochs": 1}
    config |= {"superpixel_size": 1, "resume_path": None, "NCE_temperature": 0.07}
    config |= {"working_dir": ".", "datetime": ".", "model_n_out": 64, "lr": 1e-3}
    theirs = kind(Points(), Images(), config)
    assert ours.decoder is not None and ours.occupancy is not None
    theirs.image_recons_decoder.load_state_dict(ours.decoder.state_dict())
    layers = [one for one in ours.occupancy.layers if isinstance(one, nn.Linear)]
    their_layers = [theirs.occ_fc_in, *theirs.occ_mlp_layers, theirs.occ_fc_out]
    their_layers = [one for one in their_layers if isinstance(one, nn.Linear)]
    for mine, other in zip(layers, their_layers, strict=True):
        other.load_state_dict(mine.state_dict())
    theirs.embedding = ours.codebook.codes.clone()
    theirs.ema_weight = ours.codebook.codes.clone()
    return theirs


def their_batch(views: CmcrViews, rays: RayQueries, points: Tensor) -> dict[str, Any]:
    """Return what their loader would have made of our draws."""
    row, voxels, returns = views.voxels.row_of_point, views.voxels, views.returns
    pairs = views.contrast_pairs[views.contrast_pairs >= 0]
    pixels = torch.stack([returns.sample[pairs], returns.row[pairs], returns.column[pairs]], 1)
    kept, first = [one >= 0 for one in row], [int(one[one >= 0].min()) for one in row]
    known = rays.kind < 2
    intensity = torch.where(known, points[rays.sample, rays.row, 3] / 255, -1.0)
    return {
        "sinput_F": None,
        "sinput_C": voxels.sample[:, None],
        "input_I": None,
        "target_I": views.view.image.permute(0, 3, 1, 2) / 255,
        "pairing_points": returns.voxel[pairs],
        "pairing_images": pixels,
        "pc": [one[k, :3] for one, k in zip(points, kept, strict=True)],
        "inverse_indexes": [r[k] - f for r, k, f in zip(row, kept, first, strict=True)],
        "pos_non_manifold": torch.cat([rays.sample[:, None].float(), rays.xyz], 1),
        "occupancies": (rays.kind == 0).int(),
        "intensities_non_manifold": intensity[:, None],
    }


def differences(kind: Any, buggy_pairs: bool) -> dict[str, tuple[float, float, float]]:
    """Return our value, theirs and the relative difference, by what is compared."""
    ours, views, rays, points = our_side()
    if buggy_pairs:
        views = with_pairs_of_their_loader(views)
    theirs = their_side(kind, ours)
    theirs.num_matches = int((views.contrast_pairs >= 0).sum())
    given = [ours.network.output, ours.image_encoder.output]

    def gradients(loss: Tensor) -> list[Tensor]:
        found = torch.autograd.grad(loss, given)  # type: ignore[arg-type]
        return list(found)

    mine = ours(views, 0)
    my_gradients = gradients(mine.loss.total)
    ours.after_step(0, 1)
    total = theirs.training_step(their_batch(views, rays, points), 0)
    their_gradients = gradients(total)

    logged = theirs.logged
    pairs = {own: (mine.loss.terms[own], logged[name]) for name, own in THEIR_TERMS.items()}
    commitment = logged["p_embedding_loss"] + logged["v_embedding_loss"]
    pairs["commitment"] = (mine.loss.terms["commitment"], commitment)
    pairs["total"] = (mine.loss.total, total)
    found = {}
    for name, (own, other) in pairs.items():
        found[name] = (float(own), float(other), abs(float(own) - float(other)) / float(other))
    tensors = {
        "gradient at points": (my_gradients[0], their_gradients[0]),
        "gradient at the map": (my_gradients[1], their_gradients[1]),
        "codes after a step": (ours.codebook.codes, theirs.embedding),
    }
    for name, (a, b) in tensors.items():
        found[name] = (float(a.norm()), float(b.norm()), float((a - b).norm() / b.norm()))
    return found


def segmentation_difference(kind: Any) -> tuple[float, float, float]:
    """Return our loss of segmentation, theirs and the relative difference."""
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(600, 12, generator=g)
    labels = torch.randint(0, 10, (600,), generator=g)
    labels[::7] = UNLABELLED
    cross_entropy = functional.cross_entropy(logits, labels, ignore_index=UNLABELLED)
    mine = float(cross_entropy + lovasz_softmax(logits, labels.to(torch.uint8)))
    other = float(kind(ignore_index=UNLABELLED)(logits, labels))
    return mine, other, abs(mine - other) / other


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--peers", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    torch.set_num_threads(1)
    trainer, criterion = import_reference(args.reference.resolve(), args.peers)
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    print(f"{machine()}, torch {torch.__version__}, float32")
    found = {
        f"{name}{suffix}": values
        for buggy, suffix in ((False, ""), (True, ", their loader's pairs"))
        for name, values in differences(trainer, buggy).items()
    }
    found["segmentation"] = segmentation_difference(criterion)
    distributed.destroy_process_group()
    for name, (mine, other, difference) in found.items():
        print(f"{name:45} ours {mine:<12.6g} theirs {other:<12.6g} differs by {difference:.1e}")
    print(f"target: {TARGET:.0e}; ours alone: {OURS_ALONE}; theirs alone: {THEIRS_ALONE}")
    print(json.dumps({name: float(f"{values[2]:.3g}") for name, values in found.items()}))


if __name__ == "__main__":
    main()
