//! How much memory the process uses, and may use: by its control groups (v1 and v2), by its own limits, and of the machine.
//!
//! It is the one part of the crate that asks the system for something. Where there is no `/proc`, every answer is "not known".

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Bytes in use, and the most there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// In use.
    pub used: u64,
    /// The limit.
    pub limit: u64,
}

impl MemoryUse {
    /// What is in use, as a fraction of the limit; a limit of nothing is used up.
    pub fn fraction(&self) -> f64 {
        if self.limit == 0 { 1.0 } else { self.used as f64 / self.limit as f64 }
    }
}

/// What is known of memory; what is not known, or has no limit, is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryReport {
    /// Of the control group, or of the one above it that is nearest to its limit. Files that are only cached are not counted: the
    /// kernel drops them when there is need.
    pub group: Option<MemoryUse>,
    /// Of the address space of the process (`ulimit -v`).
    pub address_space: Option<MemoryUse>,
    /// What the process has resident, of all the memory of the machine.
    pub machine: Option<MemoryUse>,
}

impl MemoryReport {
    /// The fraction in use of the limit that is nearest; zero where nothing is known.
    pub fn pressure(&self) -> f64 {
        let uses = [self.group, self.address_space, self.machine];
        uses.iter().flatten().map(MemoryUse::fraction).fold(0.0, f64::max)
    }

    /// Bytes up to the limit that is nearest, where one is known.
    pub fn room(&self) -> Option<u64> {
        [self.group, self.address_space, self.machine].iter().flatten().map(|u| u.limit.saturating_sub(u.used)).min()
    }
}

/// Reads [`MemoryReport`]s of this process.
#[derive(Clone, Debug)]
pub struct MemoryReader {
    root: PathBuf,
}

impl Default for MemoryReader {
    fn default() -> Self {
        Self::at("/")
    }
}

impl MemoryReader {
    /// Reads below another root than `/`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// What is known now. Some ten small files of the kernel are read.
    pub fn read(&self) -> MemoryReport {
        let process = self.root.join("proc/self");
        let status = text(&process.join("status")).unwrap_or_default();
        let resident = kilobytes(&status, "VmRSS:");
        let total = text(&self.root.join("proc/meminfo")).and_then(|info| kilobytes(&info, "MemTotal:"));
        let most = text(&process.join("limits")).and_then(|limits| soft_limit(&limits, "Max address space"));
        MemoryReport {
            group: text(&process.join("cgroup")).and_then(|groups| self.group(&groups)),
            address_space: both(kilobytes(&status, "VmSize:"), most),
            machine: both(resident, total),
        }
    }

    /// The group nearest to its limit, of those that the process is in.
    fn group(&self, groups: &str) -> Option<MemoryUse> {
        let mount = self.root.join("sys/fs/cgroup");
        let v1 = group_path(groups, Version::V1).map(|path| (mount.join("memory"), path, Version::V1));
        let v2 = group_path(groups, Version::V2).map(|path| (mount, path, Version::V2));
        let uses =
            [v1, v2].into_iter().flatten().flat_map(|(mount, path, version)| uses_upwards(&mount, &path, version));
        uses.max_by(|a, b| a.fraction().total_cmp(&b.fraction()))
    }
}

#[derive(Clone, Copy)]
enum Version {
    V1,
    V2,
}

/// The use of a group and of those above it, up to the mount. A container often sees its group under another path than
/// `/proc/self/cgroup` says, at the mount itself: folders that are not there are passed by.
fn uses_upwards(mount: &Path, path: &Path, version: Version) -> Vec<MemoryUse> {
    path.ancestors().filter_map(|path| use_of(&mount.join(path), version)).collect()
}

fn use_of(group: &Path, version: Version) -> Option<MemoryUse> {
    let (limits, used, cached): (&[&str], _, _) = match version {
        Version::V1 => (&["memory.limit_in_bytes"], "memory.usage_in_bytes", "total_inactive_file"),
        Version::V2 => (&["memory.max", "memory.high"], "memory.current", "inactive_file"),
    };
    let limit = limits.iter().filter_map(|name| limit(&text(&group.join(name))?)).min()?;
    let used: u64 = text(&group.join(used))?.trim().parse().ok()?;
    let cached = text(&group.join("memory.stat")).and_then(|stat| field(&stat, cached)).unwrap_or(0);
    Some(MemoryUse { used: used.saturating_sub(cached), limit })
}

/// The path of the memory group in `/proc/self/cgroup`, relative to the mount. One that leads out of the mount is the mount.
fn group_path(groups: &str, version: Version) -> Option<PathBuf> {
    groups.lines().find_map(|line| {
        // number:controllers:path, and v2 has number 0 and no controllers.
        let mut parts = line.splitn(3, ':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let found = match version {
            Version::V1 => controllers.split(',').any(|name| name == "memory"),
            Version::V2 => number == "0" && controllers.is_empty(),
        };
        let path = path.trim_start_matches('/');
        let inside = !path.split('/').any(|part| part == "..");
        found.then(|| if inside { PathBuf::from(path) } else { PathBuf::new() })
    })
}

/// A limit of a group: v2 says `max` where there is none, v1 a number near 2^63, rounded down to a page.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes: &u64| *bytes < 1 << 62)
}

/// A line `name number` of `memory.stat`.
fn field(stat: &str, name: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// A line `name   number kB` of `/proc/self/status` or `/proc/meminfo`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The soft limit, the first column after the name, of `/proc/self/limits`; none where it says `unlimited`.
fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    limits.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

fn both(used: Option<u64>, limit: Option<u64>) -> Option<MemoryUse> {
    Some(MemoryUse { used: used?, limit: limit? })
}

/// Files of the kernel are small; what is not there or no text is not known.
fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STATUS: &str =
        "Name:\tembral\nUmask:\t0022\nVmPeak:\t  901244 kB\nVmSize:\t  835584 kB\nVmRSS:\t  204800 kB\nThreads:\t4\n";
    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
        Max cpu time              unlimited            unlimited            seconds   \n\
        Max address space         1073741824           unlimited            bytes     \n";
    const MEMINFO: &str = "MemTotal:        8388608 kB\nMemFree:          514880 kB\nMemAvailable:    4000000 kB\n";
    const V1: &str = "12:pids:/docker/4f2a\n9:cpu,cpuacct:/docker/4f2a\n4:hugetlb,memory:/docker/4f2a\n1:name=systemd:/docker/4f2a\n";

    /// A root with these files.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn report(files: &[(&str, &str)]) -> MemoryReport {
        MemoryReader::at(root(files).path()).read()
    }

    #[test]
    fn v2_in_a_container_is_at_the_mount() {
        let report = report(&[
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "1000000\n"),
            ("sys/fs/cgroup/memory.current", "700000\n"),
            ("sys/fs/cgroup/memory.stat", "anon 500000\nfile 180000\ninactive_file 100000\nactive_file 80000\n"),
        ]);
        assert_eq!(report.group, Some(MemoryUse { used: 600_000, limit: 1_000_000 }));
        assert_eq!((report.pressure(), report.room()), (0.6, Some(400_000)));
    }

    #[test]
    fn v2_limits_of_the_groups_above_count() {
        let files = [
            ("proc/self/cgroup", "0::/system.slice/embral.service\n"),
            ("sys/fs/cgroup/system.slice/embral.service/memory.max", "max\n"),
            ("sys/fs/cgroup/system.slice/embral.service/memory.current", "100\n"),
            ("sys/fs/cgroup/system.slice/memory.max", "4000\n"),
            ("sys/fs/cgroup/system.slice/memory.high", "2000\n"),
            ("sys/fs/cgroup/system.slice/memory.current", "1000\n"),
        ];
        assert_eq!(report(&files).group, Some(MemoryUse { used: 1000, limit: 2000 }));
        assert_eq!(report(&files[..3]).group, None);
    }

    #[test]
    fn v1_is_found_by_its_controller_and_may_be_at_the_mount() {
        let at_the_path = [
            ("proc/self/cgroup", V1),
            ("sys/fs/cgroup/memory/docker/4f2a/memory.limit_in_bytes", "536870912\n"),
            ("sys/fs/cgroup/memory/docker/4f2a/memory.usage_in_bytes", "402653184\n"),
            (
                "sys/fs/cgroup/memory/docker/4f2a/memory.stat",
                "cache 1\ninactive_file 7\ntotal_inactive_file 134217728\n",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "5000000000\n"),
        ];
        assert_eq!(report(&at_the_path).group, Some(MemoryUse { used: 268_435_456, limit: 536_870_912 }));
        let at_the_mount = [
            ("proc/self/cgroup", V1),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "950\n"),
        ];
        assert_eq!(report(&at_the_mount).pressure(), 0.95);
    }

    #[test]
    fn a_path_out_of_the_mount_is_the_mount() {
        let report = report(&[
            ("proc/self/cgroup", "0::/../../other\n"),
            ("sys/fs/cgroup/memory.max", "1000\n"),
            ("sys/fs/cgroup/memory.current", "10\n"),
            ("sys/other/memory.max", "1\n"),
            ("sys/other/memory.current", "1\n"),
        ]);
        assert_eq!(report.group, Some(MemoryUse { used: 10, limit: 1000 }));
    }

    #[test]
    fn the_process_and_the_machine_have_limits_too() {
        let files = [("proc/self/status", STATUS), ("proc/self/limits", LIMITS), ("proc/meminfo", MEMINFO)];
        let all = report(&files);
        assert_eq!(all.address_space, Some(MemoryUse { used: 835_584 * 1024, limit: 1 << 30 }));
        assert_eq!(all.machine, Some(MemoryUse { used: 204_800 * 1024, limit: 8 << 30 }));
        assert_eq!(all.pressure(), 835_584.0 / 1_048_576.0);
        let unlimited = LIMITS.replace("1073741824", "unlimited ");
        assert_eq!(report(&[files[0], ("proc/self/limits", &unlimited), files[2]]).address_space, None);
    }

    #[test]
    fn where_nothing_is_known_there_is_no_pressure() {
        assert_eq!(report(&[]), MemoryReport::default());
        assert_eq!((MemoryReport::default().pressure(), MemoryReport::default().room()), (0.0, None));
        assert_eq!(MemoryUse { used: 0, limit: 0 }.fraction(), 1.0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_resident_in_a_machine() {
        let machine = MemoryReader::default().read().machine.expect("/proc is mounted");
        assert!(machine.used > 100_000 && machine.used < machine.limit, "{machine:?}");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,200}", lines in "([0-9]{0,3}:[a-z,]{0,8}:[/.a-z]{0,12}\n){0,4}") {
            let files = [
                ("proc/self/cgroup", lines.as_str()), ("proc/self/status", &text), ("proc/self/limits", &text), ("proc/meminfo", &text),
                ("sys/fs/cgroup/memory.max", &text), ("sys/fs/cgroup/memory.current", &text), ("sys/fs/cgroup/memory.stat", &text),
            ];
            prop_assert!(report(&files).pressure() >= 0.0);
        }

        #[test]
        fn any_number_is_read_back(number: u64, before in "[A-Z][a-z]{0,9}:? [0-9]{0,9}\n") {
            prop_assert_eq!(limit(&format!(" {number}\n")), (number < 1 << 62).then_some(number));
            prop_assert_eq!(field(&format!("{before}inactive_file_x 3\ninactive_file {number}\n"), "inactive_file"), Some(number));
            prop_assert_eq!(kilobytes(&format!("{before}VmRSS:\t  {number} kB\n"), "VmRSS:"), number.checked_mul(1024));
            prop_assert_eq!(soft_limit(&format!("{before}Max address space    {number}  9 bytes\n"), "Max address space"), Some(number));
        }
    }
}
