# syntax=docker/dockerfile:1

# Everything that building and developing needs. The runtime is the one that package-lock.json names. It runs on the machine that
# builds, whatever the image is for.
FROM --platform=$BUILDPLATFORM node:22-bookworm-slim AS tools
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --no-audit --no-fund
ENV PATH=/app/node_modules/.bin:$PATH

# Development: docker build --target dev -t ws-service:dev . && docker run -p 127.0.0.1:8086:8086 -v ./src:/app/src ws-service:dev
# Edited handlers answer at once, on the sockets that are open.
FROM tools AS dev
COPY bunfig.toml tsconfig.json build.ts ./
COPY configs configs
COPY docs/protocol.md docs/
COPY src src
# Trusted mode believes ?user_id=: the container's port is to be published on the developer's own machine only, and pages
# may come from these addresses of it (WS__SERVER__ALLOWED_ORIGINS names others).
ENV WS__SERVER__HOST=0.0.0.0 WS__AUTH__BEHIND_GATEWAY=true
ENV WS__SERVER__ALLOWED_ORIGINS=http://localhost:8086,http://127.0.0.1:8086,http://localhost:3000,http://localhost:5173
EXPOSE 8086
CMD ["bun", "--hot", "src/main.ts", "serve"]

FROM tools AS build
COPY tsconfig.json build.ts ./
COPY docs/protocol.md docs/
COPY src src
ARG TARGETARCH
RUN case "$TARGETARCH" in arm64) target=linux-arm64;; amd64) target=linux-x64;; esac; \
  bun build.ts executable $target && mkdir -p /empty/data

# Production: libc, the CA certificates and the executable, no shell. The root file system may be read-only:
#   docker run --read-only -v ws-data:/data -p 8086:8086 -e WS__AUTH__MODE=token -e WS__AUTH__SECRET=… -e WS__DIRECTORY__MODE=managed ws-service
FROM gcr.io/distroless/base-nossl-debian12:nonroot AS runtime
COPY --from=build /app/dist/ws-service /usr/local/bin/ws-service
# A new volume takes over the owner of what it covers.
COPY --from=build --chown=65532:65532 /empty/data /data
# Where nothing else is configured the storage is sqlite:data/ws-service.db, from here. Not in ENV: that would be stronger than DATABASE_URL
# and than any file of configuration.
WORKDIR /
# Trusted mode (the default) is refused on this address: a token mode or a gateway is to be chosen.
ENV WS__SERVER__HOST=0.0.0.0
USER 65532:65532
VOLUME /data
EXPOSE 8086
STOPSIGNAL SIGTERM
# Asks /ready as configured, with server.tls by HTTPS and whatever names the certificate has. It fails while the service
# drains, too, so that nothing new is sent here. Where the service listens on an address that it cannot reach itself by,
# `health --url <url>` asks another one, and `--insecure` does not judge the certificate found there.
HEALTHCHECK --interval=10s --timeout=4s --start-period=5s --retries=3 CMD ["/usr/local/bin/ws-service", "health"]
ENTRYPOINT ["/usr/local/bin/ws-service"]
CMD ["serve"]
