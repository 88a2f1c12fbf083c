#!/usr/bin/env bash
# Everything that only a GPU can show, once; rerun it to go on where it ended.
#
#   tools/gpu_check.sh                        on the GPU
#   TINY=1 DEVICE=cpu tools/gpu_check.sh      the same steps at tiny size, to find silly mistakes first
#
# Settings, by environment:
#   OUT=output/gpu_check   folder of the report (gpu_check.md, gpu_check.json) and of every part's log
#   PARTS="tests parity"   only these, also where they were done before; default: all that are missing
#   LIMIT=350              seconds for the whole; a part that does not fit waits for the next run
#   PYTHON=python3         an interpreter that has the packages (default: .venv's where there is one)
#
# Parts: tests (the suite's GPU tests), parity (the golden cases of the official code, float32, TF32
# off), speed (images per second at batch 1, 8 and 32 for 80 names, the official arrangement beside
# it), graphs (the same of ours with CUDA graphs), lvis, steps (a training step of GLIP-T, the
# official arrangement beside it), profile, agreement (detections of GLIP-T in bf16 and fp16 against
# float32), shortlist (1,203 and 20,000 names by a GLIPv2), train (200 steps on scenes with AMP,
# losses beside the CPU's), memory (the peak of each side), names (speed for 1 and 20 names),
# precision (AP of the shipped model in float32, bf16 and fp16; needs MiniLM's weights).
# On an H200 with slow CPU cores a part takes 40 to 90 seconds, 15 of them to import and build.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

DEVICE=${DEVICE:-cuda}
OUT=${OUT:-output/gpu_check}
LIMIT=${LIMIT:-350}
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    [ -x .venv/bin/python ] && PYTHON=.venv/bin/python
fi
ALL="tests parity speed graphs lvis steps profile agreement shortlist train memory names precision"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 PYTHONWARNINGS=ignore

mkdir -p "$OUT/parts"
"$PYTHON" -c 'import sys; from glipv2_d2.engine.setup import resolve_device; resolve_device(sys.argv[1])' \
    "$DEVICE" 2>"$OUT/start.log" || { tail -n 1 "$OUT/start.log" >&2; exit 2; }

gpus=$([ "$DEVICE" = cpu ] && echo 0 || echo 1)
bench=(-m tools.benchmark --device "$DEVICE")
speed=(--batch 1,8,32 --sides official,official-bf16,ours,ours-bf16)
coco=(--prompts coco) names=(--prompts one,twenty) v2=(--config-file pretrain/glipv2_t.py)
steps=200 precisions="fp32 bf16 fp16" chunks=31 size=() half=bf16,fp16
if [ -n "${TINY:-}" ]; then  # a small model and data set, and what a CPU can do
    bench+=(--quick --precision float32,bf16)
    speed=(--batch 1,2 --sides official,official-bf16,ours,ours-bf16)
    coco=(--prompts one) names=(--prompts twenty) v2=(--config-file demo/scenes_glipv2.py)
    steps=4 chunks=2 size=(--train 16 --val 4 --novel 2)
    [ "$DEVICE" = cpu ] && precisions="fp32 bf16" half=bf16
    export DETECTRON2_DATASETS=$OUT/datasets
else
    bench+=(--precision float32,bf16)
fi

scenes() { "$PYTHON" datasets/prepare_scenes.py "${size[@]}"; }
train_net() { "$PYTHON" train_net.py --config-file configs/demo/scenes.py --num-gpus "$gpus" "$@"; }

part_tests() {
    # Files without such a test may need packages that are not there.
    "$PYTHON" -m pytest -q -p no:cacheprovider -m gpu $(grep -rl --include='test_*.py' mark.gpu tests)
}
part_parity() {
    # One case and no gradients at tiny size: the whole takes minutes on a CPU.
    local cases=()
    [ -n "${TINY:-}" ] && cases=(tools/parity/golden/case_a.npz)
    "$PYTHON" -m tools.parity "${cases[@]}" --device "$DEVICE"
}
part_train() {
    rm -rf "$OUT/train"
    # Random text features, the same on every machine: MiniLM's weights are a large download.
    scenes && train_net train.max_iter="$steps" train.eval_period=-1 train.log_period=10 \
        model.language_backbone.pretrained=False train.output_dir="$OUT/train"
}
part_precision() {
    "$PYTHON" -c '
import sys
from pathlib import Path
from glipv2_d2.language.pretrained_names import resolve_pretrained
sys.exit(not list(Path(resolve_pretrained("minilm")).glob("model.safetensors")))' || return 77
    scenes || return
    for precision in $precisions; do
        train_net --eval-only inference.precision="$precision" \
            train.init_checkpoint=weights/glip_scenes.safetensors \
            train.output_dir="$OUT/precision_$precision" || return
    done
}
part_agreement() { "$PYTHON" "${bench[@]}" --only agreement --precision "$half" --output "$OUT/agreement"; }
part_speed() { "$PYTHON" "${bench[@]}" --only speed "${speed[@]}" "${coco[@]}" --output "$OUT/speed"; }
part_names() { "$PYTHON" "${bench[@]}" --only speed "${speed[@]}" "${names[@]}" --output "$OUT/names"; }
part_graphs() {
    # A shape is recorded when it comes for the second time: the median is of what is played back.
    "$PYTHON" "${bench[@]}" --only speed "${speed[@]}" "${coco[@]}" --sides ours,ours-bf16 --repeats 9 \
        --output "$OUT/graphs" model.cuda_graphs=16
}
part_steps() { "$PYTHON" "${bench[@]}" --only train --output "$OUT/steps"; }
part_shortlist() {
    "$PYTHON" "${bench[@]}" --only shortlist "${v2[@]}" --chunks 4 --output "$OUT/shortlist"
}
part_profile() { "$PYTHON" "${bench[@]}" --only profile --batch 8 --prompts coco --output "$OUT/profile"; }
part_lvis() {
    "$PYTHON" "${bench[@]}" --only lvis --batch 1 --chunks "$chunks" --repeats 1 --output "$OUT/lvis"
}
part_memory() {
    "$PYTHON" "${bench[@]}" --only memory --batch 1 --prompts coco --output "$OUT/memory"
}

export -f part_tests part_parity part_train part_precision part_agreement part_speed part_names \
    part_graphs part_steps part_shortlist part_profile part_lvis part_memory scenes train_net
failed=0
for part in ${PARTS:-$ALL}; do
    record=$OUT/parts/$part
    if [ -z "${PARTS:-}" ] && grep -qs '^0 ' "$record"; then
        echo "$part: done before"
        continue
    fi
    left=$((LIMIT - SECONDS))
    if [ "$left" -le $((LIMIT / 16)) ]; then
        echo "$part: no time left (LIMIT=$LIMIT); run the script again"
        failed=1
        continue
    fi
    start=$SECONDS
    # In a process group of its own, which the time limit ends as a whole.
    ( set -m; "part_$part" >"$OUT/parts/$part.log" 2>&1 & child=$!
      ( sleep "$left"; kill -- -"$child" ) 2>/dev/null & guard=$!
      wait "$child"; status=$?; kill -- -"$guard"; exit "$status" ) 2>/dev/null
    status=$?
    echo "$status $((SECONDS - start))" >"$record"
    case $status in
        0) echo "$part: passed in $((SECONDS - start)) s" ;;
        77) echo "$part: skipped" ;;
        *) echo "$part: FAILED with status $status, see $OUT/parts/$part.log"; failed=1 ;;
    esac
done
"$PYTHON" -m tools.gpu_report "$OUT" --device "$DEVICE" || failed=1
exit $failed
