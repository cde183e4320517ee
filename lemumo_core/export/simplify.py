"""An exported graph, simplified: constants folded, and the few rewrites that our networks need."""

from __future__ import annotations

import itertools

import onnx_ir as ir
from onnx_ir.passes import PassManager, Sequential, common
from onnxscript.optimizer import fold_constants
from onnxscript.rewriter import RewritePass
from onnxscript.rewriter.rules.common import (
    add_0_rule,
    div_by_1_rule,
    fuse_batchnorm_into_conv_rule,
    fuse_batchnorm_into_conv_transpose_rule,
    materialize_reshape_shape_rule,
    mul_by_1_rule,
    no_op_transpose_rule,
    remove_optional_bias_from_conv_rule,
    reshape_reshape_rule,
    squeeze_reshape_1d_rule,
    sub_0_rule,
    unsqueeze_unsqueeze_rule,
)

RULES = (
    *mul_by_1_rule.commute(),
    *add_0_rule.commute(),
    sub_0_rule,
    div_by_1_rule,
    materialize_reshape_shape_rule,
    reshape_reshape_rule,
    no_op_transpose_rule,
    unsqueeze_unsqueeze_rule,
    squeeze_reshape_1d_rule,
    fuse_batchnorm_into_conv_rule,
    fuse_batchnorm_into_conv_transpose_rule,
    remove_optional_bias_from_conv_rule,
)
"""Those of onnxscript's default ones that find anything in graphs of lemumo, in its order.

The others take a fifth of an export's time, a third with ``refine_depth``: one compares every pair
of slices.
"""


class _FoldConstants(ir.passes.InPlacePass):
    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return fold_constants(model, onnx_shape_inference=True)


class _ClearNotes(ir.passes.InPlacePass):
    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        outputs = (node.outputs for node in graph)
        for value in itertools.chain(graph.inputs, graph.initializers.values(), *outputs):
            value.metadata_props.clear()
        return common.ClearMetadataAndDocStringPass()(model)


def simplify(model: ir.Model) -> None:
    """Simplify the graph that ``torch.onnx.export`` makes with ``optimize=False``, in place.

    The steps are those of ``onnxscript.optimizer.optimize_ir``, but for ``RULES``. At the end notes
    of the exporter go, stack traces with paths of this machine among them.
    """
    unused = (
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),
        common.RemoveUnusedOpsetsPass(),
    )
    Sequential(
        common.InlinePass(),
        PassManager([_FoldConstants(), RewritePass(RULES), *unused], steps=2, early_stop=True),
        common.RemoveUnusedNodesPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.LiftSubgraphInitializersToMainGraphPass(),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
        _ClearNotes(),
    )(model)
