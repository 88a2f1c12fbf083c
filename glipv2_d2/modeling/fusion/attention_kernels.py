"""Both softmaxes of the bi-directional attention's scores in one pass, as a Triton kernel.

20,000 positions times 8 heads times T tokens are more numbers than any other tensor of the model;
PyTorch reads or writes them a dozen times between the two products, in float32 for the softmax.
"""

import torch
import triton
import triton.language as tl

__all__ = ["both_softmaxes"]

VALUES = 2048  # of the scores that a program holds


@triton.jit(do_not_specialize=("positions",))
def _softmax_kernel(
    scores, bias, peak, to_text, partial, positions, T,
    HEADS: tl.constexpr, TOKENS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    part, head, image = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    token = tl.arange(0, TOKENS)
    known = token < T
    at = part * ROWS + tl.arange(0, ROWS)
    mask = (at < positions)[:, None] & known[None, :]
    place = ((image * positions + at)[:, None] * HEADS + head) * T + token[None, :]
    of_head = (image * HEADS + head) * T + token
    score = tl.load(scores + place, mask=mask, other=float("-inf")).to(tl.float32)
    biased = score + tl.load(bias + of_head, mask=known, other=0.0).to(tl.float32)[None, :]
    # Rows beyond the last position are all -inf; they are not stored.
    largest = tl.max(biased, 1)
    share = tl.exp(biased - tl.where(largest == float("-inf"), 0.0, largest)[:, None])
    share = share / tl.sum(share, 1)[:, None]
    tl.store(to_text + place, share.to(to_text.dtype.element_ty), mask=mask)
    top = tl.load(peak + of_head, mask=known, other=0.0).to(tl.float32)
    # What is summed is what the product gets: rounded.
    weight = tl.exp(score - top[None, :]).to(scores.dtype.element_ty)
    tl.store(scores + place, weight, mask=mask)
    total = tl.sum(weight.to(tl.float32), 0)
    place = ((image * tl.num_programs(0) + part) * HEADS + head) * T + token
    tl.store(partial + place, total, mask=known)


def both_softmaxes(
    scores: torch.Tensor, bias: torch.Tensor, peak: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The softmax over the tokens, and the exponentials of the one over the positions.

    Args:
        scores: (B, N, heads, T), contiguous. They become exp(scores - peak), in place.
        bias: (B, 1, heads, T), added for the softmax over the tokens; -inf for padding.
        peak: (B, 1, heads * T), the largest score of all positions.

    Returns:
        Softmax of scores + bias over T, of their shape and precision; and the sum of the
        exponentials over the positions, (B, 1, heads * T), float32.
    """
    images, positions, heads, tokens = scores.shape
    width = triton.next_power_of_2(tokens)
    rows = max(1, VALUES // width)
    parts = triton.cdiv(positions, rows)
    to_text = torch.empty_like(scores)
    partial = scores.new_empty(images, parts, heads * tokens, dtype=torch.float32)
    _softmax_kernel[(parts, heads, images)](
        scores, bias.contiguous(), peak.contiguous(), to_text, partial, positions, tokens,
        HEADS=heads, TOKENS=width, ROWS=rows, num_warps=4,
    )  # fmt: skip
    return to_text, partial.sum(1, keepdim=True)
