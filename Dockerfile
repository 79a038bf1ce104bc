# Builds from the sources only (.dockerignore) and runs as a user that is not root. See "In containers" in doc/operations.md.
FROM rust:1-slim-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential clang libssl-dev pkg-config \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
RUN CARGO_PROFILE_RELEASE_STRIP=debuginfo cargo build --release --locked --bin ich

FROM debian:bookworm-slim
# libssl3, ca-certificates: for TLS to Kafka and PostgreSQL, and for tokens. tzdata: for the variable TZ.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libssl3 tzdata \
 && rm -rf /var/lib/apt/lists/* \
 && install -d -o 10001 -g 10001 -m 0700 /data
COPY --from=build /build/target/release/ich /usr/local/bin/ich
# A number, so that Kubernetes can check that it is not root (runAsNonRoot).
USER 10001:10001
ENV ICH_DATA_DIR=/data
VOLUME /data
WORKDIR /data
EXPOSE 8080
# Bash opens the connection, so the image needs no curl.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
  CMD ["bash", "-c", "exec 3<>\"/dev/tcp/127.0.0.1/${ICH_PORT:-8080}\" && printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [[ $status == 200 ]]"]
ENTRYPOINT ["ich"]
