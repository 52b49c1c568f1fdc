# The image that runs the steps of ours: the program, Git for https, and nothing else but what these
# need. It runs as uid 10001 with a read-only root, given a writable /tmp.
#
# The build context is the directory of a static build, so that the image has the very program that
# was tested:
#
#   RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --target x86_64-unknown-linux-gnu
#   docker build --tag astra-dispatch --file Dockerfile target/x86_64-unknown-linux-gnu/release

# A Debian, only to take Git from.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS files
# The shell is for Git: it hands over the token through a shell function.
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates dash git
# Programs, then the libraries and the loader that they name, then the licence of each package.
RUN set -eu; \
    mkdir -p /image/dev /image/proc /image/bin /image/usr/bin /image/usr/lib/git-core /image/usr/local/bin /image/etc/ssl/certs; \
    mkdir -m 1777 /image/tmp; \
    cp -L /bin/dash /image/bin/sh; \
    cp -L /usr/bin/git /image/usr/bin/git; \
    cp -L /usr/lib/git-core/git-remote-http /image/usr/lib/git-core/git-remote-http; \
    ln -s git-remote-http /image/usr/lib/git-core/git-remote-https; \
    cp -L /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt; \
    echo 'hosts: files dns' >/image/etc/nsswitch.conf; \
    echo 'astra:x:10001:10001::/tmp:/bin/sh' >/image/etc/passwd; \
    echo 'astra:x:10001:' >/image/etc/group; \
    ldd /image/bin/sh /image/usr/bin/git /image/usr/lib/git-core/git-remote-http | \
        sed -nE 's|^[^/]*(/[^ ]+) \(0x.*|\1|p' | sort -u >/libraries; \
    xargs -a /libraries cp -L --parents -t /image; \
    for file in $(cat /libraries); do dpkg -S "$(realpath "$file")" 2>/dev/null || dpkg -S "$file"; done | \
        sed 's|:.*||' | sort -u >/packages; \
    for package in dash git ca-certificates $(cat /packages); do \
        cp -L --parents -t /image "/usr/share/doc/$package/copyright"; \
    done

FROM scratch
COPY --from=files /image /
COPY astra-dispatch /usr/local/bin/astra-dispatch
ENV PATH=/usr/local/bin:/usr/bin:/bin HOME=/tmp
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["/usr/local/bin/astra-dispatch"]
