"""Ways of transfer to a task of one's own: what of a model is trained (GLIPv2, Section 4.2)."""

import logging
from collections.abc import Iterator
from pathlib import Path

from detectron2.config import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from ..checkpoint import load_weights, save_prompt
from ..checkpoint.names import is_within
from ..config import named_setting, target_of
from ..data import GroundingDatasetMapper
from ..errors import ConfigError
from ..language.prompt import Prompt
from ..modeling import GLIP

__all__ = ["MODES", "PROMPT_FILE", "add_tuned_prompts", "set_mode", "write_prompt_file"]

logger = logging.getLogger(__name__)

PROMPT_FILE = "prompt.safetensors"
# Mode -> the parts that are trained (None: all). In the official code: "full", none of that name,
# "linear_prob", "language_prompt_v2" and "language_prompt_v1".
MODES: dict[str, list[str] | None] = {
    "full": None,
    "head": ["neck", "head"],
    "linear": [
        "head.bbox_pred",
        "head.centerness",
        "head.text_projection",
        "head.log_scale",
        "head.bias0",
        "head.bias_lang",
    ],
    "prompt": ["prompt_embeddings"],
    "language": ["language_backbone"],
}
# Of the official README for ODinW.
PROMPT_TUNING = {"lr": 0.05, "weight_decay": 0.25}


def set_mode(
    config: DictConfig,
    mode: str,
    *,
    freeze_language: bool = False,
    frozen_stages: int | None = None,
) -> None:
    """Change a config so that a training of it trains what a mode says, in place.

    | mode | what is trained |
    |---|---|
    | `full` | everything |
    | `head` | neck and head; both encoders are frozen |
    | `linear` | the last projections of the grounding head |
    | `prompt` | the embedding of the prompt, nothing of the model (paper, Section 3.3) |
    | `language` | the language backbone |

    A prompt that is tuned has all classes, in a fixed order, in as many chunks as the token limit
    asks for; it is left as `prompt.safetensors` in the output folder.

    Args:
        config: a whole LazyConfig, before the overrides of the command line. Mode `prompt` sets the
            official learning rate and weight decay, too.
        mode: one of `MODES`.
        freeze_language: in mode `full`, freeze the language backbone.
        frozen_stages: in mode `full`, freeze so many first stages of the image backbone, see
            `SwinBackbone`; None: as the config has it.

    Raises:
        ConfigError: another mode, an option that is not of the mode, or a config that cannot be
            trained so.
    """
    if mode not in MODES:
        raise ConfigError(f"the mode of transfer is {mode!r}: choose one of {', '.join(MODES)}")
    if mode != "full" and (freeze_language or frozen_stages is not None):
        raise ConfigError(
            f"freeze_language and frozen_stages are for the mode 'full': {mode!r} says itself what "
            "is trained"
        )
    _update(config, "train.trained_parts", MODES[mode])
    if mode == "prompt":
        _set_tuned_prompt(config)
    if mode == "language" or freeze_language:
        _update(config, "model.language_backbone.frozen", freeze_language)
    if frozen_stages is not None:
        _update(config, "model.backbone.bottom_up.frozen_stages", frozen_stages)


def _update(config: DictConfig, key: str, value: object) -> None:
    OmegaConf.update(config, key, value, merge=False, force_add=True)


def _set_tuned_prompt(config: DictConfig) -> None:
    loader = config.dataloader.train
    mapper = loader.get("mapper")
    if mapper is None or target_of(mapper) is not GroundingDatasetMapper:
        raise ConfigError(
            "a prompt is tuned on prompts that the data loader writes: dataloader.train.mapper "
            "must be a GroundingDatasetMapper"
        )
    for key in _mappers(config.dataloader):
        _update(config, f"{key}.tuned_datasets", "${dataloader.train.datasets}")
        if key != "dataloader.test.mapper":
            _update(config, f"{key}.chunk_size", "${dataloader.test.mapper.chunk_size}")
        elif "chunk_size" not in config.dataloader.test.mapper:
            _update(config, f"{key}.chunk_size", None)
    for key, value in PROMPT_TUNING.items():
        _update(config, f"optimizer.{key}", value)


def _mappers(dataloader: DictConfig) -> Iterator[str]:
    """The keys of all mappers of ours: of the training data and of every test set."""
    further = dataloader.get("further_tests") or ()
    keys = ["train", "test", *(f"further_tests.{name}.test" for name in further)]
    for key in keys:
        mapper = OmegaConf.select(dataloader, f"{key}.mapper")
        if mapper is not None and target_of(mapper) is GroundingDatasetMapper:
            yield f"dataloader.{key}.mapper"


def add_tuned_prompts(config: DictConfig, model: nn.Module) -> list[Prompt]:
    """Offsets of zero for the prompts that a training tunes.

    Call it before anything is frozen and before weights are loaded.

    Returns:
        The prompts; none where `train.trained_parts` does not name `prompt_embeddings`.

    Raises:
        ConfigError: a model or data without prompts to tune.
    """
    parts = config.train.get("trained_parts") or ()
    if not any(is_within(part, "prompt_embeddings") for part in parts):
        return []
    mapper = config.dataloader.train.get("mapper")
    if not isinstance(model, GLIP) or not (mapper and mapper.get("tuned_datasets")):
        raise ConfigError(
            "train.trained_parts names prompt_embeddings, and the training asks for no prompt that "
            "could be tuned: take a GLIP, and set the mode of transfer (--mode prompt, set_mode)"
        )
    with named_setting("dataloader.train.mapper"):
        prompts = instantiate(mapper).vocabulary.tuned()
    channels = model.head.bias_lang.numel()
    for prompt, mask in zip(prompts, model.tokenizer(prompts).mask):
        offsets = model.pixel_mean.new_zeros(int(mask.sum()), channels)
        model.prompt_embeddings.add(str(prompt.embedding_id), offsets, trained=True)
    return prompts


def write_prompt_file(config: DictConfig, model: nn.Module, prompts: list[Prompt]) -> Path:
    """Leave the prompts that a training has tuned in its output folder.

    Args:
        model: of the training, which is over; it gets the weights of its result: the best ones by
            `train.best_metric`, or else the last.
        prompts: of `add_tuned_prompts`.
    """
    assert isinstance(model, GLIP)  # `add_tuned_prompts` refuses others
    folder = Path(config.train.output_dir)
    best = folder / "model_best.pth"
    result = best if best.is_file() else folder / "model_final.pth"
    load_weights(model, result)
    name = str(prompts[0].embedding_id).rpartition("/")[0]
    notes = {
        "weights": Path(config.train.init_checkpoint).name,
        "result": result.name,
        "datasets": config.dataloader.train.datasets,
    }
    path = save_prompt(model, folder / PROMPT_FILE, prompts, name=name, notes=notes)
    logger.info("The tuned prompt %r of %s is in '%s'", name, result.name, path)
    return path
