//! The kernel tests under every instruction set: the ones of the host one after the other, ARM cross-compiled and run under qemu.
//!
//! The standard library for ARM has to come from the same build as the compiler. Debian's unstable suite carries both, so a chroot
//! of it gives a cross toolchain on any Debian or Ubuntu machine without asking anything of the toolchain that is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace;

/// A suite whose rustc is at least the workspace's `rust-version`.
const SUITE: &str = "sid";
/// Package names and, behind a colon, an architecture other than the host's.
const PACKAGES: &[&str] = &[
    "cargo",
    "gcc-aarch64-linux-gnu",
    "libc6-dev",
    "libc6-dev-arm64-cross",
    "libstd-rust-dev:arm64",
    "qemu-user",
    "rustc",
];
/// Caps on the dispatch, by the values of `EMBRAL_ISA`.
#[cfg(target_arch = "x86_64")]
const NATIVE: &[&str] = &["scalar", "avx2", "avx512"];
#[cfg(not(target_arch = "x86_64"))]
const NATIVE: &[&str] = &["scalar"];

/// Runs the tests of the host, then those of ARM.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let options = Options::parse(args)?;
    if options.native {
        native(&options.rest)?;
    }
    if options.arm {
        let chroot = options.dir.unwrap_or_else(|| workspace::root().join("target/isa"));
        arm(&chroot, &options.rest)?;
    }
    Ok(())
}

fn native(rest: &[String]) -> Result<()> {
    for isa in NATIVE {
        println!("\n== {isa}");
        if !host_has(isa) {
            println!("skipped: this CPU has no {isa}");
            continue;
        }
        let mut test = workspace::cargo();
        test.env("EMBRAL_ISA", isa).env("EMBRAL_REQUIRE_ISA", isa);
        workspace::run(test.args(["test", "--package", "embral-kernels", "--lib", "--tests", "--"]).args(rest))?;
    }
    Ok(())
}

#[cfg(target_arch = "x86_64")]
fn host_has(isa: &str) -> bool {
    match isa {
        "avx2" => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        "avx512" => {
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
        }
        _ => true,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn host_has(_: &str) -> bool {
    true
}

fn arm(chroot: &Path, rest: &[String]) -> Result<()> {
    println!("\n== neon");
    if workspace::output(workspace::command("id").arg("-u"))?.trim() != "0" {
        bail!("a chroot needs root: run `cargo xtask isa --only arm` as root");
    }
    for (program, package) in [("debootstrap", "debootstrap"), ("unshare", "util-linux"), ("chroot", "coreutils")] {
        if !workspace::has_program(program) {
            bail!("{program} is absent: `apt-get install {package}`");
        }
    }
    prepare(chroot)?;
    // The chroot builds offline from what the host's cargo has fetched.
    workspace::run(workspace::cargo().args(["fetch", "--locked"]))?;
    let registry = cargo_home()?.join("registry");
    let mut test = workspace::command("unshare");
    test.args(["--mount", "bash", "-c", include_str!("isa.sh"), "isa.sh"]);
    println!("$ cargo test --package embral-kernels --target aarch64-unknown-linux-gnu, in {}", chroot.display());
    let status = test.arg(chroot).arg(workspace::root()).arg(&registry).args(rest).status();
    if !status.context("could not start unshare")?.success() {
        bail!("the kernel tests failed on ARM");
    }
    Ok(())
}

/// Makes the chroot, or finds it finished.
fn prepare(chroot: &Path) -> Result<()> {
    let finished = chroot.join("embral-isa");
    let recipe = format!("{SUITE}\n{}\n", PACKAGES.join("\n"));
    if fs::read_to_string(&finished).ok().as_deref() == Some(recipe.as_str()) {
        return Ok(());
    }
    if chroot.exists() {
        fs::remove_dir_all(chroot).with_context(|| format!("could not clear {}", chroot.display()))?;
    }
    fs::create_dir_all(chroot).with_context(|| format!("could not create {}", chroot.display()))?;
    let mirror = mirror()?;
    workspace::run(workspace::command("debootstrap").args(["--variant=minbase", SUITE]).arg(chroot).arg(&mirror))?;
    for file in ["/etc/resolv.conf", "/etc/hosts"] {
        fs::copy(file, chroot.join(&file[1..])).with_context(|| format!("could not copy {file}"))?;
    }
    workspace::run(inside(chroot).args(["dpkg", "--add-architecture", "arm64"]))?;
    // A mirror may keep an older state of the suite, whose signature holds though its date has passed.
    let update = ["apt-get", "--quiet", "--option", "Acquire::Check-Valid-Until=false", "update"];
    workspace::run(inside(chroot).args(update))?;
    let install = ["apt-get", "--quiet", "--yes", "--no-install-recommends", "install"];
    workspace::run(inside(chroot).args(install).args(PACKAGES))?;
    fs::write(&finished, recipe).with_context(|| format!("could not write {}", finished.display()))
}

fn inside(chroot: &Path) -> Command {
    let mut command = workspace::command("chroot");
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8").arg(chroot);
    command
}

fn cargo_home() -> Result<PathBuf> {
    match std::env::var_os("CARGO_HOME") {
        Some(home) => Ok(home.into()),
        None => Ok(PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cargo")),
    }
}

/// The mirror that this machine's apt uses.
fn mirror() -> Result<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(folder) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(folder.filter_map(|entry| Some(entry.ok()?.path())));
    }
    files.sort();
    let sources = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    let mirror = sources.into_iter().find_map(|text| mirror_of(&text));
    mirror.context("no Debian mirror in /etc/apt/sources.list or /etc/apt/sources.list.d")
}

/// The first address of an apt source, in either format, that ends in `/debian`.
fn mirror_of(sources: &str) -> Option<String> {
    let lines = sources.lines().map(str::trim).filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"));
    let mut words = lines.flat_map(str::split_whitespace);
    words.find(|word| word.contains("://") && word.trim_end_matches('/').ends_with("/debian")).map(str::to_owned)
}

#[derive(Debug, PartialEq)]
struct Options {
    dir: Option<PathBuf>,
    native: bool,
    arm: bool,
    rest: Vec<String>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self { dir: None, native: true, arm: true, rest: Vec::new() };
        let mut args = args.iter();
        while let Some(argument) = args.next() {
            match argument.as_str() {
                "--dir" => options.dir = Some(std::path::absolute(args.next().context("--dir needs a folder")?)?),
                "--only" => match args.next().map(String::as_str) {
                    Some("x86") => options.arm = false,
                    Some("arm") => options.native = false,
                    other => bail!("--only takes x86 or arm, found {}", other.unwrap_or("nothing")),
                },
                "--" => options.rest.extend(args.by_ref().cloned()),
                other => bail!("`cargo xtask isa` has no option {other:?}"),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_read_from_either_format() {
        let stanzas = "Types: deb\n# http://old.example/debian\nURIs: http://security.example/debian-security http://mirror.example/debian/\n";
        assert_eq!(mirror_of(stanzas).as_deref(), Some("http://mirror.example/debian/"));
        let lines =
            "# deb http://old.example/debian sid main\ndeb [arch=amd64] https://mirror.example/pub/debian sid main\n";
        assert_eq!(mirror_of(lines).as_deref(), Some("https://mirror.example/pub/debian"));
        assert_eq!(mirror_of("deb http://other.example/tools stable main\n"), None);
    }

    #[test]
    fn options_are_read() {
        let args = ["--only", "arm", "--dir", "/a", "--", "gemm"].map(str::to_owned);
        let options = Options::parse(&args).expect("valid");
        let expected = Options { dir: Some("/a".into()), native: false, arm: true, rest: vec!["gemm".to_owned()] };
        assert_eq!(options, expected);
        assert!(Options::parse(&["--only".to_owned(), "mips".to_owned()]).is_err());
        assert!(Options::parse(&["--dir".to_owned()]).is_err());
    }
}
