# Two stages: build with the whole toolchain, run with the program alone, not as root.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin cmk && cargo build --release --locked -p azure-sim \
    && mkdir /out && cp target/release/cmk target/release/azure-sim /out/

FROM debian:bookworm-slim AS azure-sim
RUN useradd --system --uid 10001 --create-home sim && mkdir /state && chown sim /state
COPY --from=build /out/azure-sim /usr/local/bin/azure-sim
USER 10001
VOLUME /state
EXPOSE 8443
ENTRYPOINT ["azure-sim", "--listen", "0.0.0.0:8443", "--state-dir", "/state"]

FROM debian:bookworm-slim AS cmk
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home cmk
COPY --from=build /out/cmk /usr/local/bin/cmk
USER 10001
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["cmk"]
CMD ["serve"]
