"""The grounding head against its formula, position by position."""

import torch
from torch import nn

from glipv2_d2.modeling.heads import GroundingHead


def test_head_by_formula():
    torch.manual_seed(0)
    head = GroundingHead(channels=6, text_channels=4, num_levels=2, log_scale=0.7, max_logit=2.5)
    for parameter in head.parameters():
        nn.init.normal_(parameter)
    features = [torch.randn(2, 6, 3, 2), torch.randn(2, 6, 1, 1)]
    words = torch.randn(2, 5, 4)
    out = head(features, words)
    assert out.level_sizes == [(3, 2), (1, 1)] and out.level_lengths() == [6, 1]
    positions = [
        (level, y, x)
        for level in (0, 1)
        for y in range((3, 1)[level])
        for x in range((2, 1)[level])
    ]
    clamped = 0
    for b in range(2):
        for n, (level, y, x) in enumerate(positions):
            feature = features[level][b, :, y, x]
            box = head.bbox_pred.weight[:, :, 0, 0] @ feature + head.bbox_pred.bias
            torch.testing.assert_close(out.deltas[b, n], box * head.box_scales[level])
            center = head.centerness.weight[0, :, 0, 0] @ feature + head.centerness.bias[0]
            torch.testing.assert_close(out.centerness[b, n], center)
            for t in range(5):
                e = words[b, t] / words[b, t].norm()
                token = head.text_projection.weight @ (e / 2) + head.text_projection.bias
                logit = feature @ token / head.log_scale.exp() + e @ head.bias_lang + head.bias0
                clamped += bool(logit.abs() > 2.5)
                expected = logit[0].clamp(-2.5, 2.5)
                torch.testing.assert_close(out.logits[b, n, t], expected, atol=1e-5, rtol=1e-5)
    assert 0 < clamped < out.logits.numel() / 2
