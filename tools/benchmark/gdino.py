"""Hugging Face's Grounding DINO tiny, what a user would pick instead: config and random weights.

transformers' defaults *are* those of IDEA-Research/grounding-dino-tiny: the conversion script sets
Swin to window 7, width 96, depths 2-2-6-2, heads 3-6-12-24 (`TINY_SWIN`), and nothing else; BERT is
BERT-base, 6 + 6 layers, 900 queries, 4 levels. The time does not depend on the values of the
weights. Only the model is timed, not its image processor or post-processing, in its favor.
"""

import torch
from torch import nn
from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection

from glipv2_d2.language import Prompt

TINY_SWIN = {
    "embed_dim": 96,
    "depths": [2, 2, 6, 2],
    "num_heads": [3, 6, 12, 24],
    "window_size": 7,
    "image_size": 224,
    "out_indices": [2, 3, 4],
}
SMALL_SWIN = TINY_SWIN | {"embed_dim": 24, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8]}
SMALL = {
    "d_model": 64,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_queries": 50,
}
SMALL_TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


class GroundingDino(nn.Module):
    """Takes the inputs of a GLIP model with a tokenizer of the same vocabulary.

    Args:
        tokenizer: the GLIP model's PromptTokenizer, of bert-base-uncased's vocabulary.
        small: a fraction of the model, for a quick look at the machinery.
    """

    def __init__(self, tokenizer, seed: int = 0, small: bool = False):
        super().__init__()
        torch.manual_seed(seed)
        config = GroundingDinoConfig(**(SMALL if small else {}))
        for key, value in (SMALL_SWIN if small else TINY_SWIN).items():
            setattr(config.backbone_config, key, value)
        for key, value in (SMALL_TEXT if small else {}).items():
            setattr(config.text_config, key, value)
        self.tokenizer = tokenizer
        self.model = GroundingDinoForObjectDetection(config).eval()

    def forward(self, batched_inputs: list[dict]):
        """Images of one size with one Prompt each -> the model's output object."""
        device = next(self.parameters()).device
        images = torch.stack([x["image"].to(device).float() for x in batched_inputs])
        mean = images.new_tensor([103.530, 116.280, 123.675]).view(3, 1, 1)
        pixels = (images - mean) / 57.7
        tokens = self.tokenizer([_with_final_period(x["prompt"]) for x in batched_inputs])
        return self.model(
            pixel_values=pixels,
            input_ids=tokens.input_ids.to(device),
            attention_mask=tokens.mask.long().to(device),
            token_type_ids=torch.zeros_like(tokens.input_ids).to(device),
            pixel_mask=torch.ones_like(pixels[:, 0], dtype=torch.long),
        )


def _with_final_period(prompt: Prompt) -> Prompt:
    """Grounding DINO wants a period after every name, the last one too."""
    caption = prompt.caption if prompt.caption.endswith(".") else prompt.caption + "."
    return Prompt(caption, prompt.kind, prompt.spans, prompt.names, prompt.class_ids)
