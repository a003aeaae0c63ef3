# Trains, evaluates and exports. Build from the repository's root:
#   docker build -f docker/training.Dockerfile -t flawmap-training .
# With an NVIDIA GPU, leave the processor's build of torch out: --build-arg TORCH_INDEX=https://pypi.org/simple
FROM python:3.12-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --index-url "${TORCH_INDEX}" torch torchvision

COPY pyproject.toml README.md LICENSE /build/
COPY recipes /build/recipes
COPY src /build/src
RUN pip install --no-cache-dir "/build[train,export]" \
    && rm -r /build \
    && useradd --uid 10001 --create-home flawmap \
    && mkdir /data \
    && chown flawmap /data

USER 10001
WORKDIR /data
ENTRYPOINT ["flawmap"]
CMD ["--help"]
