"""Records what the model computes on the way, under the official names and in their layout.

By forward hooks on whole modules: what happens inside them may change, what they take and give
may not.
"""

from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import nn

Tensors = dict[str, torch.Tensor]


def split_levels(flat: torch.Tensor, sizes: list[tuple[int, int]]) -> list[torch.Tensor]:
    """(B, N, C) over all levels -> (B, C, h, w) of each."""
    parts = flat.split([h * w for h, w in sizes], dim=1)
    return [part.transpose(1, 2).unflatten(2, size) for part, size in zip(parts, sizes)]


class Capture:
    """Context manager: what one forward pass of `model` computes, to be read from `tensors()`.

    Calls of one module are told apart by their order: of the dynamic convolution's parts the
    finest level comes first, and of a level's branches its own, the finer and the coarser one.
    """

    def __init__(self, model: nn.Module):
        self._modules = _watched(model)
        self._levels = list(model.backbone.output_shape())
        self._calls: dict[str, list[tuple[tuple, object]]] = defaultdict(list)
        self._handles: list = []

    def __enter__(self) -> "Capture":
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_hook(self._recorder(name)))
        return self

    def __exit__(self, *error) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _recorder(self, name: str):
        def record(module: nn.Module, inputs: tuple, output: object) -> None:
            self._calls[name].append((inputs, output))

        return record

    def _outputs(self, name: str) -> list:
        return [output for _, output in self._calls[name]]

    def _inputs(self, name: str) -> list:
        return [inputs[0] for inputs, _ in self._calls[name]]

    def tensors(self) -> Tensors:
        """Official name -> tensor, all of it, detached, on the CPU."""
        found: Tensors = {}
        self._backbones(found)
        self._tower(found)
        self._first_fusion(found)
        self._first_conv(found)
        self._head(found)
        return {name: tensor.detach().float().cpu() for name, tensor in found.items()}

    def _named(self, prefix: str, levels: list[torch.Tensor]) -> Tensors:
        return {f"{prefix}.{level}": value for level, value in zip(self._levels, levels)}

    def _sizes(self) -> list[tuple[int, int]]:
        (pyramid,) = self._outputs("backbone")
        return [tuple(level.shape[-2:]) for level in pyramid.values()]

    def _backbones(self, found: Tensors) -> None:
        (first_stage,) = self._outputs("first_stage")
        found["swin.c2"] = first_stage.permute(0, 3, 1, 2)
        (stages,) = self._outputs("swin")
        found.update({name.replace("res", "swin.c"): value for name, value in stages.items()})
        (pyramid,) = self._outputs("backbone")
        found.update(self._named("fpn", list(pyramid.values())))
        (text,) = self._outputs("text")
        found["bert.hidden"], found["bert.embedded"] = text.hidden, text.embedded

    def _tower(self, found: Tensors) -> None:
        for k in range(sum(name.startswith("fusion") for name in self._modules)):
            ((visual, words),) = self._outputs(f"fusion{k}")
            found.update(self._named(f"block{k}.fuse", split_levels(visual, self._sizes())))
            found[f"block{k}.fuse.lang"] = words
            (found[f"block{k}.bert.lang"],) = self._outputs(f"text_layer{k}")
            (levels,) = self._outputs(f"dynamic_conv{k}")
            found.update(self._named(f"block{k}.dyconv", levels))

    def _first_fusion(self, found: Tensors) -> None:
        (found["fuse0.ln_v"],) = self._outputs("norm_v")
        (found["fuse0.ln_l"],) = self._outputs("norm_l")
        ((found["fuse0.delta_v"], found["fuse0.delta_l"]),) = self._outputs("attention")

    def _first_conv(self, found: Tensors) -> None:
        found.update(self._named("dyconv0.offset", self._outputs("offset")))
        # Each branch has a target level: all have their own, all but the finest a finer one,
        # all but the coarsest a coarser one.
        targets = {"mid": self._levels, "low": self._levels[1:], "high": self._levels[:-1]}
        for branch, levels in targets.items():
            for level, before, after in zip(levels, self._inputs(branch), self._outputs(branch)):
                found[f"dyconv0.{branch}.dcn.{level}"] = before
                found[f"dyconv0.{branch}.{level}"] = after
        merged = [(level, b) for level in self._levels for b in targets if level in targets[b]]
        for (level, branch), weight in zip(merged, self._outputs("scale_attention")):
            found[f"dyconv0.attn.{level}.{branch}"] = F.relu(weight)
        found.update(self._named("dyconv0.mean", self._inputs("relu")))
        coefficients = [F.hardsigmoid(x) for x in self._outputs("coefficients")]
        found.update(self._named("dyconv0.dyrelu", coefficients))

    def _head(self, found: Tensors) -> None:
        (found["proj_tokens"],) = self._outputs("projection")
        (output,) = self._outputs("head")
        logits = output.logits.split(output.level_lengths(), dim=1)
        found.update(self._named("dot_product_logits", logits))
        sizes = output.level_sizes
        found.update(self._named("bbox_reg", split_levels(output.deltas, sizes)))
        centerness = split_levels(output.centerness[..., None], sizes)
        found.update(self._named("centerness", centerness))


def _watched(model: nn.Module) -> dict[str, nn.Module]:
    swin = model.backbone.bottom_up
    first = model.neck.blocks[0]
    conv = first.dynamic_conv
    modules = {
        "first_stage": swin.stages[0],
        "swin": swin,
        "backbone": model.backbone,
        "text": model.language_backbone,
        "norm_v": first.fusion.norm_v,
        "norm_l": first.fusion.norm_l,
        "attention": first.fusion.attention,
        "offset": conv.offset,
        "mid": conv.conv_mid.norm,
        "low": conv.conv_low.norm,
        "high": conv.conv_high.norm,
        "scale_attention": conv.scale_attention,
        "relu": conv.relu,
        "coefficients": conv.relu.fc2,
        "projection": model.head.text_projection,
        "head": model.head,
    }
    for k, block in enumerate(model.neck.blocks):
        modules[f"fusion{k}"] = block.fusion
        modules[f"text_layer{k}"] = block.text_layer
        modules[f"dynamic_conv{k}"] = block.dynamic_conv
    return modules
