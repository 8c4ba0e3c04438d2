# One image for every process of ours; the command says which. It runs with a read-only root: only /tmp is written to.
FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /opt/renewal
COPY requirements.run.lock ./
RUN /opt/renewal/bin/pip install --no-cache-dir --require-hashes -r requirements.run.lock
COPY pyproject.toml ./
COPY schemas schemas
COPY platforms platforms
COPY backends backends
COPY producers producers
COPY workers workers
COPY ops ops
COPY simulator simulator
RUN /opt/renewal/bin/pip install --no-cache-dir --no-deps --no-build-isolation .
# The console shows them beside its alerts.
COPY docs/runbooks /opt/renewal/lib/python3.11/site-packages/ops/console/runbooks

FROM python:3.11-slim
# A fixed id, so that files with keys and secrets can be given to it.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin renewal
COPY --from=build /opt/renewal /opt/renewal
ENV PATH=/opt/renewal/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Where the simulator puts the catalogue that points at itself.
RUN install --directory --owner=10001 --group=10001 /catalogue
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["renewal"]
CMD ["--help"]
