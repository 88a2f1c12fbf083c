"""tiny_train.py whose data loaders take the tokenizer of the model, as configs/common has them."""

from detectron2.config import LazyCall as L

from glipv2_d2.modeling.text import build_tokenizer

from .tiny_train import dataloader, inference, lr_multiplier, model, optimizer, train  # noqa: F401

for _loader in (dataloader.train, dataloader.test):
    _loader.mapper.tokenizer = L(build_tokenizer)(
        backbone="${model.language_backbone.name}",
        model="${model.language_backbone.model}",
        max_tokens="${model.language_backbone.max_tokens}",
    )
