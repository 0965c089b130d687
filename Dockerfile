# For docker (BuildKit), podman and buildah; `make image` calls what there is.
# The build runs on the builder's own platform and compiles for the target's.
FROM --platform=$BUILDPLATFORM docker.io/library/golang:1.26.8-bookworm AS build
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=devel
ENV CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN go build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=${VERSION}" \
      -o /out/countersign ./cmd/countersign
# The state directory must be the user's own: the program refuses one that
# others can read. The whole tree is made here, since the image has no shell.
# Its dates are fixed: the same source gives the same layer, to the byte.
RUN install -d -m 0755 /out/root/etc/ssl/certs /out/root/usr/local/bin /out/root/etc/countersign \
      /out/root/usr/share/doc/countersign && \
    install -d -m 0700 -o 65532 -g 65532 /out/root/var/lib/countersign && \
    install -d -m 1777 /out/root/tmp && \
    install -m 0644 /etc/ssl/certs/ca-certificates.crt /out/root/etc/ssl/certs/ && \
    install -m 0755 /out/countersign /out/root/usr/local/bin/ && \
    install -m 0644 LICENSE /out/root/usr/share/doc/countersign/copyright && \
    printf 'countersign:x:65532:65532::/var/lib/countersign:/sbin/nologin\n' > /out/root/etc/passwd && \
    find /out/root -exec touch --no-dereference --date=@0 {} +

FROM scratch
ARG VERSION=devel
ARG REVISION=
LABEL org.opencontainers.image.title="countersign" \
      org.opencontainers.image.description="A forward proxy that gives programs access to AWS without giving them AWS keys" \
      org.opencontainers.image.source="https://github.com/countersign-proxy/countersign" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/root /
ENV HOME=/var/lib/countersign \
    COUNTERSIGN_STATE_DIR=/var/lib/countersign
USER 65532:65532
VOLUME /var/lib/countersign
EXPOSE 8800 8801
# Asks the admin listener of the same configuration; there is no shell or curl.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
  CMD ["/usr/local/bin/countersign", "serve", "--health"]
ENTRYPOINT ["/usr/local/bin/countersign"]
CMD ["serve"]
