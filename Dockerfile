# An image with the same files as that of `make image`, by a container engine. Build it from the root of the repository:
#
#   docker build --tag conjur-operator --build-arg VERSION=… --build-arg REVISION="$(git rev-parse HEAD)" .
FROM docker.io/library/rust:1.95-slim-bookworm AS build
RUN apt-get update && \
    apt-get install --yes --no-install-recommends ca-certificates cmake gcc g++ git make && \
    rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    git config --global --add safe.directory /src && make image CONJUR_OPERATOR_CACHE=/cache && \
    target/debug/operator-image rootfs --program target/release/conjur-operator --out /rootfs

FROM scratch
ARG VERSION=unknown REVISION=unknown SOURCE=https://github.com/conjur-operator/conjur-operator
LABEL org.opencontainers.image.title=conjur-operator \
      org.opencontainers.image.description="Keeps CyberArk Conjur and a Kubernetes cluster in step" \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$REVISION \
      org.opencontainers.image.source=$SOURCE \
      org.opencontainers.image.licenses=Apache-2.0
COPY --from=build /rootfs /
ENV PATH=/ SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
ENTRYPOINT ["/conjur-operator"]
