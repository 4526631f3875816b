# An image for cluster files, with Ray and GPUs: its folder is a clone's, so that both commands of the
# README work in it. `docker build -t YOURS/mae-ablation .`, then push it where your nodes can pull it.
FROM rayproject/ray:2.60.0-py311-gpu
COPY --chown=ray:users platform mae-ablation/platform
COPY --chown=ray:users studies mae-ablation/studies
COPY --chown=ray:users pyproject.toml constraints.txt README.md LICENSE mae-ablation/
WORKDIR /home/ray/mae-ablation
RUN pip install --no-cache-dir -c constraints.txt -e .
ENV RAY_USAGE_STATS_ENABLED=0 MLFLOW_DISABLE_TELEMETRY=true
