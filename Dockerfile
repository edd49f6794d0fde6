# One image with the three daemons and `skerry`; docs/operations.md ("Deploy") says how it is run.
#
#   docker build -t skerry .
#
# Only what every builder understands is used, so that BuildKit and its predecessor both build it.

FROM debian:bookworm-slim AS build
WORKDIR /src
COPY scripts/install-deps scripts/
RUN scripts/install-deps --build
COPY . .
# libraft comes from backports, which the image is to do without: it is linked from its archive.
RUN cmake --preset release -DSKERRY_RAFT_ARCHIVE=ON \
    && cmake --build --preset release --target metad shardd gateway skerry \
    && cmake --install build/release --prefix /installed --strip \
    && scripts/runtime-packages /installed/bin/* >/installed/packages

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="Skerry" \
      org.opencontainers.image.description="A sharded, replicated, strongly consistent key-value database" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /installed/packages /usr/local/share/skerry/packages
# /data, /secret and /token are what volumes are mounted on: a new volume takes its owner from there.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive xargs apt-get install -y --no-install-recommends \
        </usr/local/share/skerry/packages \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
    && groupadd --gid 10001 skerry \
    && useradd --uid 10001 --gid skerry --no-create-home --home-dir /data --shell /usr/sbin/nologin skerry \
    && install -d -o skerry -g skerry -m 0700 /data /secret /token
COPY LICENSE /usr/local/share/skerry/
COPY --from=build /installed/bin /usr/local/bin
USER 10001:10001
WORKDIR /data
ENV SKERRY_DATA_DIR=/data
CMD ["skerry", "--help"]
