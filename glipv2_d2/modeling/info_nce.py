"""Contrastive loss between the rows of two lists that belong together, over all processes."""

import torch
import torch.nn.functional as F
from detectron2.utils import comm

from .processes import gather_rows, join_rows

__all__ = ["info_nce"]


def info_nce(
    rows: torch.Tensor,
    texts: torch.Tensor,
    scale: torch.Tensor,
    conflict_threshold: float | None = None,
) -> torch.Tensor:
    """InfoNCE of row i with text i, the mean of both directions (CLOC, Eq. 1 and 2).

    The others are the rows and texts of all micro-batches and processes. The mean of what the
    processes get is the loss of one process that has all of them. Without any pair it is 0, and
    still part of the graph.

    Args:
        rows: images or regions, (n, D) of unit length; n may differ between processes.
        texts: (n, D) of unit length.
        scale: the inverse of the temperature.
        conflict_threshold: row i and text j are no negatives of each other where texts i and j are
            more alike (CLOC, Section 3.4, "text filtering"): by the cosine, which has no gradient,
            of what is left of them without the mean of all texts. Not of the texts themselves:
            while a text tower from scratch still reads all texts much alike, each pair would be a
            conflict and nothing be learned (seen on scenes). None: all are.
    """
    rows, texts = join_rows(rows), join_rows(texts)
    rows_of_processes, texts_of_processes = gather_rows(rows), gather_rows(texts)
    all_rows, all_texts = torch.cat(rows_of_processes), torch.cat(texts_of_processes)
    own = torch.arange(len(rows), device=rows.device)
    target = own + sum(len(part) for part in rows_of_processes[: comm.get_rank()])
    total = rows.new_zeros(())
    if conflict_threshold is None:
        conflicts = None
    else:
        mean = all_texts.detach().mean(dim=0)
        own_part, parts = (F.normalize(x.detach() - mean, dim=1) for x in (texts, all_texts))
        conflicts = own_part @ parts.T > conflict_threshold
        conflicts[own, target] = False
    for one, others in ((rows, all_texts), (texts, all_rows)):
        logits = one @ others.T * scale
        if conflicts is not None:
            logits = logits.masked_fill(conflicts, -torch.inf)
        total = total + F.cross_entropy(logits, target, reduction="sum") / 2
    count = len(all_rows) / len(rows_of_processes)
    return total / max(count, 1 / len(rows_of_processes))
