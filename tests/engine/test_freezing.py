"""What `train.trained_parts` leaves out stays as it was, in every model."""

import copy

import pytest
import torch
from detectron2 import model_zoo
from detectron2.config import instantiate
from detectron2.layers import ShapeSpec
from detectron2.structures import BitMasks
from detectron2.utils import comm
from torch import nn

from glipv2_d2.compat import create_ddp_model, launch
from glipv2_d2.config import get_config
from glipv2_d2.engine.ema import ModelEMA
from glipv2_d2.engine.freezing import FrozenParts, freeze_all_but
from glipv2_d2.engine.optim import get_glip_optimizer_params
from glipv2_d2.engine.trainer import GLIPTrainer
from glipv2_d2.errors import ConfigError
from tests.support.tiny import tiny_glipv2_config, tiny_input


class Net(nn.Module):
    """Everything that a step could change: dropout, statistics, a shared weight, its own weight."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleDict(
            {"stem": nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), "fpn": nn.Linear(4, 4)}
        )
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 4))
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.head[1].weight
        self.losses = nn.MSELoss()
        self.scale = nn.Parameter(torch.ones(1))
        self.backbone.stem[0].bias.requires_grad_(False)

    def forward(self, batch):
        x = self.backbone["stem"](torch.stack([item["x"] for item in batch]))
        return {
            "loss_stem": x.square().mean(),
            "loss_head": self.losses(self.head(self.backbone["fpn"](x)), self.scale * x.detach()),
            "loss_tied": self.tied(x).square().mean(),
        }


def batches(count=5):
    generator = torch.Generator().manual_seed(0)
    return [[{"x": torch.randn(4, generator=generator)} for _ in range(3)] for _ in range(count)]


def trained(model, parts, data, lr=1e-2):
    """The model after a step on each of the batches; the trainer, and the average of its weights.

    After the first step an evaluation leaves the whole model in training mode.
    """
    frozen = freeze_all_but(model, parts)
    ema = ModelEMA(model, decay=0.5)
    optimizer = torch.optim.AdamW(
        get_glip_optimizer_params(model, base_lr=lr, weight_decay=0.1), fused=False
    )
    trainer = GLIPTrainer(model, data, optimizer)

    class Rest(FrozenParts):
        def after_step(self):
            ema.update()
            model.eval().train()

    trainer.register_hooks([FrozenParts(frozen), Rest([])])
    trainer.train(0, len(data))
    return trainer, ema


@pytest.mark.parametrize(
    ("parts", "changing"),
    [
        (["head"], {"head.1.weight", "head.1.bias", "tied.weight"}),
        (["backbone.fpn", "scale"], {"backbone.fpn.weight", "backbone.fpn.bias", "scale"}),
        (
            ["backbone.stem"],  # whose bias the model has frozen
            {"backbone.stem.0.weight", "backbone.stem.1.weight", "backbone.stem.1.bias"}
            | {f"backbone.stem.1.{n}" for n in ("running_mean", "running_var")}
            | {"backbone.stem.1.num_batches_tracked"},
        ),
    ],
)
def test_nothing_else_changes_in_five_steps(parts, changing):
    torch.manual_seed(0)
    model = Net()
    before = copy.deepcopy(model.state_dict())
    trainer, ema = trained(model, parts, batches())
    after = model.state_dict()
    assert {name for name in before if not torch.equal(after[name], before[name])} == changing
    own = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert own <= changing and set(ema.shadow) == own
    with ema.applied():
        averaged = model.state_dict()
        assert all(torch.equal(averaged[n], before[n]) for n in before.keys() - changing)
    groups = trainer.optimizer.param_groups
    assert sum(len(group["params"]) for group in groups) == len(trainer.optimizer.state) == len(own)


def test_frozen_modules_are_in_evaluation_mode_in_every_step():
    model, seen = Net(), []
    model.register_forward_pre_hook(
        lambda model, _: seen.append({n for n, m in model.named_modules() if not m.training})
    )
    trained(model, ["backbone.fpn"], batches(3))
    frozen = {name for name, _ in model.named_modules() if not name.startswith("backbone")}
    frozen |= {name for name, _ in model.named_modules() if name.startswith("backbone.stem")}
    assert seen == [frozen - {""}] * 3


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ("head", "is a list of parts.*got 'head'"),
        ([], r"is a list of parts.*got \[\]"),
        (3, "is a list of parts.*got 3"),
        (["hed", "losses", "head"], "names 'hed', 'losses', of .*: scale, backbone, head, tied$"),
        (["backbone.fpm"], "names 'backbone.fpm', .* it has: backbone.stem, backbone.fpn$"),
        (["head.0"], r"names 'head.0', .* it has: head.1$"),
        (["backbone.stem.0.bias"], ".* it has: backbone.stem.0.weight$"),
        (["none.of.it"], ".* it has: scale, backbone, head, tied$"),
    ],
)
def test_what_cannot_be_trained_is_refused(parts, message):
    model = Net()
    with pytest.raises(ConfigError, match=f"train.trained_parts {message}"):
        freeze_all_but(model, parts)
    assert model.head[1].weight.requires_grad  # nothing has happened


def test_losses_that_nothing_trained_contributes_to_are_one_error():
    model = Net()
    freeze_all_but(model, ["scale"])
    model.forward = lambda batch: {"loss_stem": Net.forward(model, batch)["loss_stem"]}
    trainer = GLIPTrainer(model, batches(), torch.optim.SGD([model.scale], lr=1))
    with pytest.raises(ConfigError, match=r"nothing that is trained contributes to .*\(loss_stem"):
        trainer.train(0, 1)


def masked_input(seed):
    inputs = tiny_input(seed=seed)
    instances = inputs["instances"]
    masks = torch.zeros(len(instances), *inputs["image"].shape[1:], dtype=torch.bool)
    for mask, box in zip(masks, instances.gt_boxes.tensor.long().tolist()):
        mask[box[1] : box[3], box[0] : (box[0] + box[2]) // 2] = True
    instances.gt_masks = BitMasks(masks)
    return inputs


def test_the_mask_stage_equals_one_that_knows_of_the_mask_head_alone():
    """Bit by bit over some steps, with the other losses logged beside."""
    config = tiny_glipv2_config()
    config.contrast = config.mlm_head = None
    config.mask_head = get_config("mask/glipv2_t_mask.py").model.mask_head
    config.mask_head.hourglass.channels = 16
    torch.manual_seed(0)
    model = instantiate(config)
    reference = copy.deepcopy(model).requires_grad_(False)
    reference.mask_head.requires_grad_(True)
    data = [[masked_input(2 * i), masked_input(2 * i + 1)] for i in range(4)]
    torch.manual_seed(1)
    trainer, _ = trained(model, ["mask_head"], data)
    torch.manual_seed(1)
    optimizer = torch.optim.AdamW(
        get_glip_optimizer_params(reference.mask_head, base_lr=1e-2, weight_decay=0.1), fused=False
    )
    losses = []
    for batch in data:
        reference.eval()
        reference.training = True
        reference.mask_head.train()
        losses.append(reference(batch)["loss_mask"])
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    for name, value in reference.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    logged = [value for value, _ in trainer.storage.history("total_loss").values()]
    assert logged == [loss.item() for loss in losses]


def one_of_two_processes(folder):
    torch.manual_seed(0)
    model = Net()
    frozen = freeze_all_but(model, ["backbone.fpn"])
    wrapped = create_ddp_model(model, broadcast_buffers=False)  # waits for every parameter it has
    optimizer = torch.optim.SGD(get_glip_optimizer_params(model, base_lr=1e-2, weight_decay=0.1))
    own = [batch[comm.get_rank() :] for batch in batches(3)]
    trainer = GLIPTrainer(wrapped, own, optimizer)
    trainer.register_hooks([FrozenParts(frozen)])
    trainer.train(0, 3)
    torch.save(model.state_dict(), folder / f"{comm.get_rank()}.pth")


@pytest.mark.slow
def test_two_processes(tmp_path, quick_processes):
    launch(one_of_two_processes, 0, num_processes=2, dist_url="auto", args=(tmp_path,))
    first, second = (torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in (0, 1))
    torch.manual_seed(0)
    before = Net().state_dict()
    changed = {name for name in before if not torch.equal(first[name], before[name])}
    assert changed == {"backbone.fpn.weight", "backbone.fpn.bias"}
    assert all(torch.equal(first[name], second[name]) for name in before)


@pytest.mark.parametrize(
    ("part", "terms"),
    [("roi_heads", ("cls", "box_reg", "mask")), ("roi_heads.mask_head", ("mask",))],
)
def test_a_part_of_a_stock_mask_rcnn(part, terms):
    config = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
    resnet, heads = config.backbone.bottom_up, config.roi_heads
    resnet.stages.depth = 18
    resnet.stages.norm = resnet.stem.norm = "BN"
    del resnet.stages.stride_in_1x1
    heads.box_head.fc_dims = [16]
    heads.box_predictor.input_shape = ShapeSpec(channels=16)
    torch.manual_seed(0)
    model = instantiate(config)
    before = copy.deepcopy(model.state_dict())
    trainer, ema = trained(model, [part], [[masked_input(i)] for i in range(2)], lr=1e-4)
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(after[name], before[name])}
    assert changed == {name for name in before if name.startswith(part)} == set(ema.shadow)
    logged = {name: value for name, (value, _) in trainer.storage.latest().items()}
    # Of parts that are frozen inside of a trained one; the frozen RPN computes none.
    assert {"loss_cls", "loss_box_reg", "loss_mask"} <= set(logged)
    own = sum(logged[f"loss_{name}"] for name in terms)
    assert logged["total_loss"] == pytest.approx(own, rel=1e-6)
