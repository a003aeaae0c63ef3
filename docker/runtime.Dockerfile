# Serves an exported model or watches a line, without torch. Build from the repository's root:
#   docker build -f docker/runtime.Dockerfile -t flawmap .
FROM python:3.12-slim

COPY pyproject.toml README.md LICENSE /build/
COPY recipes /build/recipes
COPY src /build/src
RUN pip install --no-cache-dir "/build[serve,watch]" \
    && rm -r /build \
    && useradd --uid 10001 --create-home flawmap \
    && mkdir /data \
    && chown flawmap /data

USER 10001
WORKDIR /data
EXPOSE 8321
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8321/readyz', timeout=4)"]
# Everything outside the container is another machine, so a token is wanted: docker run -e FLAWMAP_TOKEN=...
ENTRYPOINT ["flawmap"]
CMD ["serve", "/models/model.onnx", "--host", "0.0.0.0"]
