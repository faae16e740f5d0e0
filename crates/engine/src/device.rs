//! The hardware that would be used.

use embral_kernels::Isa;

/// The CPU as the kernels see it.
#[derive(Clone, Debug)]
pub struct CpuInfo {
    /// The name the CPU gives itself, or `unknown`.
    pub name: String,
    /// The instruction set in use.
    pub isa: String,
    /// Every instruction set this build and this CPU have, best first.
    pub available: Vec<String>,
    /// The cores this process may use.
    pub cores: usize,
    /// The threads used where none are named.
    pub threads: usize,
}

/// Looks at the CPU.
pub fn cpu() -> CpuInfo {
    CpuInfo {
        name: name().unwrap_or_else(|| "unknown".to_owned()),
        isa: Isa::active().name().to_owned(),
        available: Isa::available().iter().map(|isa| isa.name().to_owned()).collect(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        threads: embral_kernels::Pool::shared(None).threads(),
    }
}

fn name() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|l| l.starts_with("model name") || l.starts_with("Model"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
