"""The differentiable part of a training step: views in, loss out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lemumo_core.data.views import View, transpose_rows
from lemumo_core.losses.lejepa import LeJepa
from lemumo_core.losses.loss import Loss
from lemumo_core.losses.vicreg import VicReg
from lemumo_core.methods.lemumo.correspondences import tokens_at_places
from lemumo_core.methods.lemumo.masked_returns import HiddenReturns
from lemumo_core.model.config import MODALITIES
from lemumo_core.model.encoder import Encoder
from lemumo_core.preprocess import Inputs


class Encoded(NamedTuple):
    """What the encoder made of V views of B samples; row v * B + b as in ``View``.

    projections (V, B, 128), embeddings (V B, 512), tokens (V B, N, D'), N = 0 unless asked for.
    """

    projections: Tensor
    embeddings: Tensor
    tokens: Tensor


class TrainingStep(nn.Module):
    """An encoder under its objective, in one ``forward`` as DDP needs it.

    On CUDA the encoder computes in bfloat16 (autocast), the loss in float32.

    Args:
        encoder, objective: what is trained, and on what.
        global_views: of a sample.
        token_objective: acts on the tokens of the global views at the same places
            (``tokens_at_places``). Ours: heads read tokens, so their distribution is shaped
            itself, without a projector between.
        returns: has the encoder's ``depth_branch`` tell the returns of the global views, some of
            which are hidden from all of it.
    """

    def __init__(
        self,
        encoder: Encoder,
        objective: LeJepa | VicReg,
        global_views: int,
        token_objective: LeJepa | VicReg | None = None,
        returns: HiddenReturns | None = None,
    ):
        super().__init__()
        self.encoder, self.objective, self.global_views = encoder, objective, global_views
        self.token_objective, self.returns = token_objective, returns

    def forward(
        self, views: Sequence[View], step: int, dense: bool = False
    ) -> tuple[Loss, Encoded]:
        """Loss of a step, that of all ranks together.

        Args:
            views: the global views and, unless there are none, the local ones, of this rank.
            step: seeds the objective's slices.
            dense: give the tokens of the global views, too.

        Returns:
            The loss, and what became of the global views, detached.
        """
        dense = dense or self.token_objective is not None or self.returns is not None
        whole = views[0]
        if self.returns is not None:
            views = [self.returns.hide(whole, self.global_views), *views[1:]]
        joint = [self._encode(view, views, dense and view is views[0]) for view in views]
        projections = torch.cat([encoded.projections for encoded in joint])
        if isinstance(self.objective, LeJepa) and self.objective.aux_unimodal:
            alone = [self._alone(views, kept) for kept in range(len(MODALITIES))]
            loss = self.objective(projections, step, alone)
        else:
            loss = self.objective(projections, step)
        if self.token_objective is not None:
            places = tokens_at_places(joint[0].tokens, views[0].crops, self.global_views)
            total, terms = self.token_objective(places, step)
            terms = {f"token_{name}": value for name, value in terms.items()}
            loss = Loss(loss.total + total, loss.terms | terms)
        if self.returns is not None:
            total, terms = self.returns(*self._tell_depth(joint[0].tokens, views[0]), whole)
            loss = Loss(loss.total + total, loss.terms | terms)
        return loss, Encoded(*(x.detach() for x in joint[0]))

    def _tell_depth(self, tokens: Tensor, view: View) -> tuple[Tensor, Tensor]:
        """Depth and confidence (R, h/4, w/4) of a view, of whose tokens."""
        assert self.encoder.depth_branch is not None
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=tokens.is_cuda):
            depth_m, confidence = self.encoder.depth_branch(tokens, view.inputs)
        return depth_m, confidence

    def _alone(self, views: Sequence[View], kept: int) -> Tensor:
        """Projections (V, B, 128) of all views with one modality only."""
        return torch.cat([self._encode(view, views, False, kept).projections for view in views])

    def _encode(
        self, view: View, views: Sequence[View], dense: bool, kept: int | None = None
    ) -> Encoded:
        batch = len(views[0].image) // self.global_views
        present = view.present
        if kept is not None:
            present = present * torch.eye(len(MODALITIES), device=present.device)[kept]
        with torch.autocast(present.device.type, torch.bfloat16, enabled=present.is_cuda):
            # Rows by sample: each rank's are neighbours in the whole batch, and so the masks of
            # stochastic depth (``distributed.rows_of_rank``) do not depend on the number of ranks.
            by_view = view.inputs._replace(present=present)
            inputs = Inputs(*(transpose_rows(x, batch) for x in by_view))
            cls, tokens = self.encoder(inputs, dense=dense)
            embeddings, projections = self.encoder.project(cls)
        projections, embeddings, tokens = (
            transpose_rows(x, len(cls) // batch) for x in (projections, embeddings, tokens)
        )
        return Encoded(projections.unflatten(0, (-1, batch)), embeddings, tokens)
