"""The losses of SPLADE's papers, over dense ``(B, V)`` tensors of sparse vectors and over score matrices.

Equations: SPLADE (Formal et al. 2021, "SPLADE: Sparse Lexical and Expansion Model for First Stage Ranking"), SPLADE v2
(Formal et al. 2021b), SPLADE++ (Formal et al. 2022), Efficient SPLADE (Lassance and Clinchant 2022), FLOPS (Paria et
al. 2020, "Minimizing FLOPs to Learn Efficient Sparse Representations"), MarginMSE (Hofstätter et al. 2020).
"""

from __future__ import annotations

from typing import Any

import torch


def flops(vectors: Any) -> Any:
    """FLOPS regulariser ``sum_j (mean_i w_ij)^2`` of ``vectors`` ``(B, V)``, a scalar (SPLADE, eq. 4)."""
    return vectors.mean(0).square().sum()


def l1(vectors: Any) -> Any:
    """Mean L1 norm ``mean_i sum_j |w_ij|`` of ``vectors`` ``(B, V)``, a scalar (Efficient SPLADE, sec. 3.2)."""
    return vectors.abs().sum(1).mean()


def contrastive(scores: Any, positives: Any) -> Any:
    """Cross-entropy of the positive among all candidates of a query, a scalar (SPLADE, eq. 3).

    Args:
        scores: ``(B, D)``, every query with every document of the batch; ``-inf`` where a document must not count as
            a negative.
        positives: int64 ``(B,)``, the column of each query's positive.
    """
    return torch.nn.functional.cross_entropy(scores, positives)


def margin_mse(scores: Any, teacher: Any) -> Any:
    """Mean squared difference between the student's and the teacher's margins positive - negative, a scalar.

    Args:
        scores: the student's, ``(B, 1 + N)``: the positive first, then N negatives; NaN where a query has fewer.
        teacher: the teacher's, of the same shape.
    """
    margins = scores[:, :1] - scores[:, 1:]
    targets = teacher[:, :1] - teacher[:, 1:]
    known = ~(margins.isnan() | targets.isnan())
    return torch.nn.functional.mse_loss(margins[known], targets[known])


def kl_divergence(scores: Any, teacher: Any, temperature: float = 1.0) -> Any:
    """KL(teacher || student) of the two softmax distributions over a query's candidates, times temperature squared.

    Args:
        scores: the student's, ``(B, 1 + N)``; NaN where a query has fewer candidates.
        teacher: the teacher's, of the same shape.
        temperature: both are divided by it (Hinton et al. 2015).
    """
    absent = scores.isnan() | teacher.isnan()
    student = torch.log_softmax(scores.masked_fill(absent, -torch.inf) / temperature, 1).masked_fill(absent, 0.0)
    target = torch.softmax(teacher.masked_fill(absent, -torch.inf) / temperature, 1)
    loss = torch.nn.functional.kl_div(student, target, reduction="batchmean")
    return loss * temperature**2


def quadratic_warmup(step: int, steps: int) -> float:
    """The share of lambda at ``step``: ``min(1, (step / steps)^2)`` (SPLADE, sec. 4); 1 if ``steps`` is 0."""
    return min(1.0, (step / steps) ** 2) if steps else 1.0
