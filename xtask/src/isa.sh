# Runs the kernel tests for aarch64 inside the chroot, in a mount namespace of its own, so that no mount outlives it.
# Arguments: chroot, workspace, cargo registry of the host, then arguments of the test binaries.
set -euo pipefail
chroot=$1 workspace=$2 registry=$3
shift 3

mkdir -p "$chroot/workspace" "$chroot/cargo/registry" "$chroot/build"
mount --make-rprivate /
mount --bind "$workspace" "$chroot/workspace"
mount -o remount,bind,ro "$chroot/workspace"
mount --bind "$registry" "$chroot/cargo/registry"
mount --bind /dev "$chroot/dev"
mount -t proc proc "$chroot/proc"

# `-cpu max` emulates every extension that qemu knows: dotprod, i8mm and bf16 among them.
exec chroot "$chroot" /usr/bin/env -i \
    PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
    CARGO_HOME=/cargo CARGO_TARGET_DIR=/build CARGO_NET_OFFLINE=true EMBRAL_REQUIRE_ISA=neon \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu" \
    sh -ec 'cd /workspace && exec cargo test --locked --package embral-kernels --lib --tests --target aarch64-unknown-linux-gnu -- "$@"' \
    sh "$@"
