# An image in which Snakemake and its jobs run, for any user:
#   docker build --build-arg VERSION=0.1.0 -t cubeflow .
#   docker run --rm -v "$PWD:/work" -u "$(id -u)" cubeflow snakemake -s /opt/workflow/Snakefile --cores 2 --configfile mine.yaml
FROM python:3.13-slim AS build
ARG VERSION=0.1.dev0
COPY pyproject.toml README.md LICENSE /source/
COPY src /source/src
COPY workflow /source/workflow
RUN SETUPTOOLS_SCM_PRETEND_VERSION_FOR_CUBEFLOW="$VERSION" \
    pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM python:3.13-slim
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir /wheels/*.whl \
    && ln -s "$(dirname "$(cubeflow workflow)")" /opt/workflow
# Of a user without a home, too, as a cluster or apptainer has them.
ENV HOME=/tmp
WORKDIR /work
USER 1000
CMD ["cubeflow", "--help"]
