"""Everything about a training run that is neither model, data nor optimizer (GLIP's defaults)."""

train = dict(
    output_dir="./output",
    # Weights to start from: .pth, .safetensors or a Detectron2 zoo .pkl; may cover a part of the
    # model. With --eval-only and in detect.py they must cover all of it.
    init_checkpoint="",
    max_iter=90000,
    # The only parts of the model that are trained, by attribute path: ["mask_head"],
    # ["backbone.fpn", "head"]; all else is frozen and stays in evaluation mode. None: everything.
    trained_parts=None,
    # For `glip train` "cuda" in a config is cpu with --num-gpus 0, and where there is no GPU; on
    # the command line it is cuda. Detectron2's own program does as it is told: train.device=cpu.
    device="cuda",
    # Negative: another one each run. Rank r uses seed + r; the data order depends on the seed
    # alone.
    seed=42,
    # Deterministic algorithms where PyTorch has them, with a warning where it has not.
    deterministic=False,
    amp=dict(enabled=True, precision="bf16"),  # precision: "bf16" or "fp16"
    # Parts of a process's batch that go through the model one after another: losses and gradients
    # are those of the whole batch, memory is that of a part, a step takes a forward pass more.
    micro_batches=1,
    clip_grad=1.0,  # norm of the whole model's gradient; 0 turns it off
    weight_decay_steps=(),  # fractions of the run at which weight decay falls to a tenth (GLIP-L)
    ema=dict(enabled=True, decay=0.999, warmup=True),  # evaluated and released in place of the last
    # gradient_as_bucket_view: the gradients lie in the buckets that are reduced, not beside them.
    ddp=dict(
        broadcast_buffers=False,
        find_unused_parameters=False,
        fp16_compression=False,
        gradient_as_bucket_view=True,
    ),
    # FSDP2 in place of DDP: each process keeps its part of weights, gradients, optimizer state and
    # average (docs/scaling.md). Checkpoints are the same whole files.
    fsdp=False,
    # Iterations between two checkpoints; a run has four at least, and one where a signal stops it.
    # So many of these stay, beside model_final.pth and model_best.pth; None: all.
    checkpointer=dict(period=5000, max_to_keep=5),
    eval_period=5000,  # 0: at the end only; -1: never
    # A metric such as "bbox/AP50" keeps model_best.pth, too (of several test sets:
    # "scenes_val/bbox/AP50"). Of a list of them the mean decides.
    best_metric="",
    # For fine-tuning on few images: after so many evaluations without a new best_metric the rates
    # are divided by ten (lower_rate), the training ends (stop); None: never.
    patience=dict(lower_rate=None, stop=None),
    log_period=20,
    # Beside the console, metrics.json and TensorBoard: "wandb", "mlflow", where they are installed.
    writers=(),
    cudnn_benchmark=False,
)

# How images are shown to the model in use (GroundingPredictor, detect.py) and by the test loaders.
# tta: several sizes and mirrored images (the starred numbers of the paper) in evaluation.
# merge_iou: in use, not in evaluation, only the best phrase of boxes that overlap by more than
# this stays, where one object would else be listed under every name that fits a little; None: all.
# shortlist: of a longer list of names each image is asked for so many, which its regions are most
# like before fusion, and for those that are pinned (docs/shortlist.md); None: for all.
# precision: "fp32", "bf16" (1.7 times faster on CPU, see docs/benchmarks.md) or, on CUDA, "fp16".
inference = dict(
    min_size=800,
    max_size=1333,
    score_threshold=0.5,
    merge_iou=None,
    tta=False,
    precision="fp32",
    shortlist=None,
    pinned=(),
)
