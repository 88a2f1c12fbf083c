"""Training losses of the grounding head, with the official GLIP's definitions and normalizers."""

import torch
import torch.nn.functional as F
from fvcore.nn import sigmoid_focal_loss
from torch.autograd.function import once_differentiable
from torchvision.ops import generalized_box_iou_loss

from .blocks import block_rows
from .boxes import InclusiveBoxCoder
from .heads.grounding import GroundingOutput
from .matcher import ATSSMatcher, GroundingTargets
from .precision import at_least_float32
from .processes import mean_over_processes

__all__ = ["GroundingLosses"]


class GroundingLosses:
    """Token focal loss, GIoU loss and centerness loss.

    - token: sigmoid focal loss of every position against every real token ([CLS], [SEP] and
      punctuation included), divided by the number of positives;
    - box: GIoU loss of the positives, weighted by their centerness target, divided by its sum;
    - centerness: binary cross-entropy of the positives, divided by their number.

    Boxes of images that are not `regressed` are matched for the token loss, and take no part in the
    other two. All divisors are averages over the processes, at least 1 for a number of positives.

    Args:
        matcher, box_coder: assign boxes to anchors; code them.
        alpha, gamma: of the focal loss.
        token_weight, box_weight, centerness_weight: factors of the three terms.
    """

    def __init__(
        self,
        *,
        matcher: ATSSMatcher,
        box_coder: InclusiveBoxCoder,
        alpha: float = 0.25,
        gamma: float = 2.0,
        token_weight: float = 1.0,
        box_weight: float = 2.0,
        centerness_weight: float = 1.0,
    ):
        self.matcher = matcher
        self.box_coder = box_coder
        self.alpha = alpha
        self.gamma = gamma
        self.weights = {
            "loss_token": token_weight,
            "loss_box": box_weight,
            "loss_centerness": centerness_weight,
        }

    def match(self, anchors: list[torch.Tensor], targets: GroundingTargets) -> torch.Tensor:
        """(B, N) int64, the image's box that each anchor is to predict; -1 for none.

        Args:
            anchors: per level (n, 4), inclusive, N in all, shared by the batch.
        """
        return torch.stack([self.matcher(anchors, boxes) for boxes in targets.boxes])

    def __call__(
        self,
        output: GroundingOutput,
        anchors: list[torch.Tensor],
        targets: GroundingTargets,
        matches: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Weighted scalars by name.

        Args:
            anchors: see `match`.
            matches: what `match` gave for them, where it is known already.
        """
        matches = self.match(anchors, targets) if matches is None else matches
        positive = matches >= 0
        regressed = positive & targets.regressed[:, None]
        boxes = torch.cat([b[i[r]] for b, i, r in zip(targets.boxes, matches, regressed)])
        counts = torch.stack((positive.sum(), regressed.sum())).float()
        num_positive, num_regressed = mean_over_processes(counts, least=1.0)
        token_loss = self._token_loss(output.logits, matches, targets) / num_positive

        all_anchors = torch.cat(anchors).expand_as(output.deltas)
        centerness_target = centerness_of(all_anchors[regressed], boxes)
        # The smallest positive number keeps an all-empty batch at 0 instead of 0 / 0.
        divisor = mean_over_processes(centerness_target.sum()).clamp(min=1e-6)
        decoded = self.box_coder.decode(output.deltas[regressed], all_anchors[regressed])
        # Narrower than a pixel, an inclusive box ends before it begins: taken as empty.
        decoded = torch.cat((decoded[:, :2], torch.maximum(*decoded.split(2, dim=1))), dim=1)
        box_loss = generalized_box_iou_loss(decoded, boxes) * centerness_target
        centerness_loss = F.binary_cross_entropy_with_logits(
            output.centerness[regressed], centerness_target, reduction="sum"
        )
        losses = {
            "loss_token": token_loss,
            # Without positives the sums are 0 but still part of the graph, so that every process of
            # a distributed run has a gradient for every parameter.
            "loss_box": box_loss.sum() / divisor + 0.0 * output.deltas.sum(),
            "loss_centerness": centerness_loss / num_regressed + 0.0 * output.centerness.sum(),
        }
        return {name: loss * self.weights[name] for name, loss in losses.items()}

    def _token_loss(
        self, logits: torch.Tensor, matches: torch.Tensor, targets: GroundingTargets
    ) -> torch.Tensor:
        """Every pair of a position and a token as background, and what the words of the positives
        change in that: nearly all targets are 0, and are never written down."""
        background = _BackgroundFocal.apply(logits, targets.mask, self.alpha, self.gamma)
        change = logits.new_zeros(())
        for row, index, tokens, mask in zip(logits, matches, targets.tokens, targets.mask):
            positive = index >= 0
            x = at_least_float32(row[positive, : tokens.shape[1]])
            gold = tokens[index[positive]].to(x.dtype)
            options = {"alpha": self.alpha, "gamma": self.gamma}
            loss = sigmoid_focal_loss(x, gold, **options)
            loss = loss - sigmoid_focal_loss(x, torch.zeros_like(gold), **options)
            change = change + (loss * mask[: tokens.shape[1]]).sum()
        return background + change


class _BackgroundFocal(torch.autograd.Function):
    """The focal loss summed with all targets 0. Of its intermediates only the gradient is kept,
    which is computed with it, block by block on CPU."""

    @staticmethod
    def forward(ctx, logits, mask, alpha, gamma):
        gradient = torch.empty_like(logits)
        total = logits.new_zeros((), dtype=torch.promote_types(logits.dtype, torch.float32))
        rows = block_rows(logits.detach(), logits.shape[2])
        weight = mask[:, None] * (1 - alpha if alpha >= 0 else 1.0)
        for x, slope in zip(logits.split(rows, dim=1), gradient.split(rows, dim=1)):
            x = at_least_float32(x)
            probability, loss = x.sigmoid(), F.softplus(x)
            scale = probability**gamma * weight
            total += (scale * loss).sum()
            slope.copy_(scale * (gamma * (1 - probability) * loss + probability))
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None, None, None


def centerness_of(anchors: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """How central the anchors' centers lie in their boxes, (M,) in (0, 1]; FCOS's definition.

    Args:
        anchors, boxes: (M, 4), inclusive, pixels; each center lies inside its box.
    """
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    near, far = centers - boxes[:, :2], boxes[:, 2:] - centers
    ratios = torch.minimum(near, far) / torch.maximum(near, far)
    return ratios.prod(dim=1).sqrt()
