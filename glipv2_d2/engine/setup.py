"""From the command line to a config that is ready to run."""

import argparse
import inspect
import logging
import runpy
from typing import Any

import torch
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import nn

from ..checkpoint import (
    FoundCheckpoint,
    checkpoints_in,
    find_checkpoint,
    random_parts,
    with_frozen_vocabulary,
)
from ..checkpoint.names import is_within
from ..config import apply_overrides, get_config, resolve_config, target_of
from ..data import GroundingDatasetMapper
from ..data.shared_records import agreed
from ..errors import ConfigError, user_message
from ..language.prompt import TASKS
from ..modeling import GLIP
from ..modeling.devices import resolve_device
from ..modeling.heads import VqaHead
from .evaluate import add_test_set, pair_test_sets
from .loading import require_settings_of_export, with_settings_of_export
from .recipes import add_recipe
from .transfer import set_mode

__all__ = [
    "find_resumed",
    "load_config",
    "make_deterministic",
    "require_best_metric",
    "require_free_folder",
    "require_masks",
    "require_micro_batches",
    "setup_logging",
    "start_data_at",
    "tell_tasks",
    "warn_of_random_parts",
]

logger = logging.getLogger(__name__)


def load_config(args: argparse.Namespace) -> DictConfig:
    """Load `--config-file`, add `--tune`, `--eval`, `--mode` and the overrides; set the device.

    Before it come the files of `--register`, at last the test sets of `--old`.

    Raises:
        ConfigError: a file is not there, the config lacks a part that training needs, a recipe or
            mode does not fit it, or an override cannot be read.
    """
    for file in args.register:
        runpy.run_path(file)
    path = resolve_config(args.config_file)
    args.config_file = path
    config = get_config(path)
    _require_parts(config, path, eval_only=args.eval_only)
    for recipe in (args.tune, args.eval):
        if recipe:
            add_recipe(config, recipe)
    if args.mode:
        set_mode(config, args.mode)
    # What Detectron2 takes in a file means "where there is one"; an override is meant literally.
    if config.train.get("device", "cuda") == "cuda":
        config.train.device = "auto"
    config = apply_overrides(config, args.opts)
    weights = config.train.get("init_checkpoint", "")
    if args.eval_only:
        config = with_settings_of_export(config, weights, args.opts)
        require_settings_of_export(config.model, weights)
    # Here, so that the data loaders, too, ask for the vocabulary of the weights.
    config.model = with_frozen_vocabulary(config.model, weights)
    for name in args.old:
        add_test_set(config.dataloader, name)
    wanted = config.train.device
    config.train.device = resolve_device(wanted, use_gpu=args.num_gpus > 0)
    if args.num_gpus > 0 and (wanted, config.train.device) == ("auto", "cpu"):
        logger.warning("PyTorch sees no GPU here: the model runs on the CPU")
    return config


def _require_parts(config: DictConfig, path: str, *, eval_only: bool) -> None:
    needed = {"model", "train", "dataloader"}
    needed |= set() if eval_only else {"optimizer", "lr_multiplier"}
    if absent := sorted(needed - set(config)):
        hint = ""
        if "train" in absent and "dataloader" in config:
            hint = ". It is a recipe: give it as --eval or --tune, beside the config of a model"
        raise ConfigError(f"the config '{path}' does not define: {', '.join(absent)}{hint}")


def require_masks(config: DictConfig) -> None:
    """A mask head that will be trained needs masks: said before anything is built or read.

    Raises:
        ConfigError: the mapper of `dataloader.train` does not give any.
    """
    trained = config.train.get("trained_parts")
    trains_masks = trained is None or any(is_within(part, "mask_head") for part in trained)
    if config.model.get("mask_head") is None or not trains_masks:
        return
    mapper = OmegaConf.select(config, "dataloader.train.mapper")
    if mapper is None or target_of(mapper) is not GroundingDatasetMapper:
        return  # another mapper may have another name for it
    if not mapper.get("use_masks", False):
        raise ConfigError(
            "model.mask_head is trained on masks, and the training data come without: set "
            "dataloader.train.mapper.use_masks=True and train on data sets with segmentations, or "
            "model.mask_head=null"
        )


def require_best_metric(config: DictConfig) -> None:
    """Of several test sets each has its own metrics: said before the first evaluation.

    Raises:
        ConfigError: `train.best_metric` does not say of which test set it is.
    """
    best = config.train.get("best_metric") or []
    names = pair_test_sets(config.dataloader)
    for metric in [best] if isinstance(best, str) else best:
        if len(names) > 1 and not str(metric).startswith(tuple(f"{name}/" for name in names)):
            raise ConfigError(
                f"train.best_metric is {metric!r}, and there are several test sets: put the name "
                f"of one before it, '{next(iter(names))}/{metric}' (of: {', '.join(names)})"
            )


def require_micro_batches(config: DictConfig) -> None:
    """`train.micro_batches` divides the batch of each process: said before anything is built.

    Raises:
        ConfigError: it does not, or is no number of parts.
    """
    count = config.train.get("micro_batches", 1)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigError(f"train.micro_batches is a number from 1 on, got {count!r}")
    size, world = config.dataloader.train.get("total_batch_size"), comm.get_world_size()
    if size and count > 1 and size % (world * count):  # other loaders may not say it
        raise ConfigError(
            f"train.micro_batches={count} does not divide the batch of a process: "
            f"dataloader.train.total_batch_size={size} must be a multiple of the number of "
            f"processes x micro_batches, {world} x {count}"
        )


def require_fsdp(config: DictConfig) -> None:
    """`train.fsdp` is possible here: said before anything is built.

    Raises:
        ConfigError: one process, another PyTorch, fp16, or a training of prompts alone.
    """
    if not config.train.get("fsdp", False):
        return
    amp, parts = config.train.amp, config.train.get("trained_parts") or ()
    reason = ""
    if comm.get_world_size() < 2:
        reason = "cuts a model over processes, and there is one: start more (--num-gpus N)"
    elif not _has_fsdp2():
        reason = f"needs PyTorch 2.6 or newer, here is {torch.__version__}"
    elif amp.enabled and amp.get("precision", "bf16") == "fp16":
        # Its scaler looks for overflows in the gradients of each process by itself.
        reason = "trains in bf16 or float32: set train.amp.precision=bf16"
    elif any(part.split(".")[0] == "prompt_embeddings" for part in parts):
        reason = "is for large parts that are trained, and a tuned prompt has kilobytes"
    if reason:
        raise ConfigError(f"train.fsdp=True {reason}; or leave it out (train.fsdp=False)")


def _has_fsdp2() -> bool:
    try:
        from torch.distributed.fsdp import fully_shard  # noqa: F401
    except ImportError:
        return False
    return True


def require_free_folder(folder: str, resume: bool) -> None:
    """A run does not begin where another has left checkpoints: its own would replace them.

    Raises:
        ConfigError: `folder` has checkpoints, and they are not to be resumed.
    """
    if not resume and (found := checkpoints_in(folder)):
        raise ConfigError(
            f"train.output_dir='{folder}' holds checkpoints of another run ({found[0].name} is the "
            "newest), which this one would write over: go on with that run by --resume, name "
            "another train.output_dir, or remove the folder"
        )


def find_resumed(config: DictConfig) -> FoundCheckpoint | None:
    """What `--resume` goes on from; that there is nothing, or nothing to do, is said."""
    # By the main process, whose disk has it; on a shared one all see the same.
    return agreed(lambda: _find_resumed(config) if comm.is_main_process() else None)[0]


def _find_resumed(config: DictConfig) -> FoundCheckpoint | None:
    folder, max_iter = config.train.output_dir, config.train.max_iter
    found = find_checkpoint(folder)
    if found is None:
        logger.warning(
            "--resume: '%s' holds no checkpoint, so that the training starts at iteration 0.",
            folder,
        )
    elif found.iteration + 1 >= max_iter:
        logger.warning(
            "Nothing is left to train: '%s' was saved after iteration %d, and train.max_iter "
            "is %d. To go on, raise train.max_iter.", found.path, found.iteration, max_iter,
        )  # fmt: skip
    return found


def make_deterministic() -> None:
    """Prefer deterministic algorithms; PyTorch warns where it has none."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def setup_logging(output_dir: str) -> None:
    """Show and keep what this package logs, where Detectron2 does so for itself.

    Detectron2's `default_setup` gives handlers to its own loggers only. Process 0 prints and
    writes `log.txt`, process N writes `log.txt.rankN`.
    """
    setup_logger(output_dir, distributed_rank=comm.get_rank(), name="glipv2_d2")
    # Where the loop of a trainer logs the traceback of whatever ends it.
    logging.getLogger("detectron2.engine.train_loop").addFilter(_in_one_line)


def _in_one_line(record: logging.LogRecord) -> bool:
    """A logging filter: of an error that the user can mend there is the message, no traceback."""
    error = record.exc_info[1] if record.exc_info else None
    message = None if error is None else user_message(error)
    if message is not None:
        record.msg, record.args, record.exc_info = "%s %s", (record.getMessage(), message), None
    return True


def warn_of_random_parts(config: DictConfig) -> None:
    """Say loudly which encoders are about to be trained from random weights.

    The papers start from weights of ImageNet, BERT, CLIP or UniCL; without them a recipe trains for
    weeks and ends somewhere else. `pretrained=False` of an encoder says that it is meant so, as
    in the demo's configs.
    """
    keys = random_parts(config.model, config.train.init_checkpoint)
    if keys:
        parts = " and ".join(f"model.{key.removesuffix('.pretrained')}" for key in keys)
        given = {key: "True" if key.startswith("language") else "FILE_OR_TIMM_NAME" for key in keys}
        options = ", ".join(f"model.{key}={value}" for key, value in given.items())
        logger.warning(
            "RANDOM WEIGHTS: %s will be trained from scratch, where the papers start from weights "
            "of ImageNet, BERT, CLIP or UniCL. Give them with %s, or with train.init_checkpoint="
            "FILE; pretrained=False in place of them says that random weights are meant.",
            parts,
            options,
        )


def start_data_at(config: DictConfig, iteration: int) -> None:
    """Make the training data of a resumed run go on where the run stopped.

    The sampler is a random stream that depends on the seed alone, so going on means to skip what
    was seen (exact without aspect ratio grouping, which holds images back in its buckets).

    Args:
        config: `dataloader.train` gets `start_iteration` if its builder takes that; otherwise
            the data order starts anew, which is logged.
        iteration: the first iteration to train.
    """
    if iteration <= 0:
        return
    node = config.dataloader.train
    if not _told(node, "start_iteration", iteration):
        logger.warning(
            "%s takes no start_iteration: the order of the training data starts anew.",
            node["_target_"],
        )


def tell_tasks(config: DictConfig, model: nn.Module) -> None:
    """Tell the loader of the training data which tasks the model learns, and which answers it can
    give, so that it refuses other data before the first step."""
    if isinstance(model, GLIP):
        tasks = [task for task, head in TASKS.items() if head in model.task_heads]
        _told(config.dataloader.train, "tasks", tasks)
        for head in model.heads_of(VqaHead):
            _told(config.dataloader.train, "answers", head.answers)


def _told(node: DictConfig, name: str, value: Any) -> bool:
    """Whether what `node` builds takes an argument of this name; it is set then."""
    takes = name in inspect.signature(target_of(node)).parameters
    if takes:
        with open_dict(node):
            node[name] = value
    return takes
