# syntax=docker/dockerfile:1
# The image: one program, without its demo, no shell, user 65532.
#
#   docker build -t routr-registry .
#   docker run -v ./registry.yaml:/etc/routr/registry.yaml routr-registry        # runs from a configuration file
#   docker run -v ./registry.yaml:/etc/routr/registry.yaml routr-registry check  # or any other subcommand
#   docker run -e REQUESTER_TOKEN -p 51909:51909 routr-registry requester        # in the place of Routr's own
#   docker run -v ./registry.yaml:/etc/routr/registry.yaml routr-registry run --requester  # both in one
#   docker buildx build --platform linux/amd64,linux/arm64 -t REGISTRY/routr-registry:0.1.0 --push .
#
# For another architecture the compiler runs on the builder's own and cross-compiles: nothing is emulated.

# The tag follows rust-version in Cargo.toml; its Debian is that of the last stage, so that both have the same libc. The digests are what
# is used, whatever the tags lead to: `docker buildx imagetools inspect NAME:TAG` shows that of today.
FROM --platform=$BUILDPLATFORM rust:1.95-trixie@sha256:f49565f188ee00bc2a18dd418183f2c5f23ef7d6e691890517ed341a598f67c3 AS build
# Set by BuildKit; a default here would win over it.
ARG TARGETARCH
WORKDIR /src

# hadolint ignore=DL3008
RUN own="$(dpkg --print-architecture)"; \
    case "${TARGETARCH:=$own}" in \
        amd64) rust=x86_64 gcc=x86-64 ;; \
        arm64) rust=aarch64 gcc=aarch64 ;; \
        *) echo "TARGETARCH $TARGETARCH: only amd64 and arm64 are known here" >&2; exit 1 ;; \
    esac; \
    echo "$rust-unknown-linux-gnu" >/target \
    && rustup target add "$rust-unknown-linux-gnu" \
    && if [ "$own" != "$TARGETARCH" ]; then \
        apt-get update \
        && apt-get install -y --no-install-recommends "gcc-$gcc-linux-gnu" "libc6-dev-$TARGETARCH-cross" \
        && rm -rf /var/lib/apt/lists/* \
        && printf '[target.%s]\nlinker = "%s"\n' "$rust-unknown-linux-gnu" "$rust-linux-gnu-gcc" >>"$CARGO_HOME/config.toml"; \
    fi

COPY . .
# The cache mounts make a second build quick; nothing of them is in the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=target-$TARGETARCH \
    target="$(cat /target)" \
    && cargo build --release --locked --no-default-features --bin routr-registry --target "$target" \
    && install -m 755 "target/$target/release/routr-registry" /routr-registry

# glibc, libgcc and the authorities for TLS.
FROM gcr.io/distroless/cc-debian13:nonroot@sha256:a77defd6fedbb3392b175ba8ea3d1c22be963c1597c248c3ba987ddd80bfb512
LABEL org.opencontainers.image.title="routr-registry" \
      org.opencontainers.image.description="Keeps the SIP registrations of Routr's trunks alive" \
      org.opencontainers.image.source="https://github.com/fonoster/routr" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /routr-registry /usr/local/bin/routr-registry
# By number: Kubernetes cannot tell from a name that it is not root.
USER 65532:65532
# The Requester listens on all addresses, as Routr's own does; a token or certificates close that door.
ENV BIND_ADDR=0.0.0.0:51909
EXPOSE 51909
# Probes and metrics. 8081, with the trunks, is on loopback only.
EXPOSE 8080
# No HEALTHCHECK: Kubernetes has its own probes, and there is no shell or HTTP client here to make one with; outside of
# Kubernetes, ask http://HOST:8080/readyz from outside.
ENTRYPOINT ["/usr/local/bin/routr-registry"]
CMD ["run"]
