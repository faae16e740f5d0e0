//! The hardware that would be used.

use embral_kernels::{Dots, Isa, Numbers};
use embral_types::Precision;

/// The CPU as the kernels see it.
#[derive(Clone, Debug)]
pub struct CpuInfo {
    /// The name the CPU gives itself, or `unknown`.
    pub name: String,
    /// The instruction set in use.
    pub isa: String,
    /// Every instruction set this build and this CPU have, best first.
    pub available: Vec<String>,
    /// The instructions that multiply bf16, where the one in use has some.
    pub bf16: Option<String>,
    /// The instructions that multiply 8-bit integers, where the one in use has some.
    pub int8: Option<String>,
    /// The precisions that are no faster than f32 here: bf16 without its instructions, 8-bit integers without any vectors.
    pub slow: Vec<Precision>,
    /// The cores this process may use.
    pub cores: usize,
    /// The threads used where none are named.
    pub threads: usize,
}

/// Looks at the CPU.
pub fn cpu() -> CpuInfo {
    let isa = Isa::active();
    let (bf16, int8) = (isa.dots(Numbers::Bf16), isa.dots(Numbers::Int8));
    let named = |dots: Option<Dots>| dots.map(|dots| dots.name().to_owned());
    CpuInfo {
        name: name().unwrap_or_else(|| "unknown".to_owned()),
        isa: isa.name().to_owned(),
        bf16: named(bf16),
        int8: named(int8),
        slow: slow(isa, bf16, int8),
        available: Isa::available().iter().map(|isa| isa.name().to_owned()).collect(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        threads: embral_kernels::Pool::shared(None).threads(),
    }
}

/// Without instructions of their own, products of bf16 are as many multiplications as those of f32 and some unpacking (0.85 to 1.0
/// of the speed), those of 8-bit integers half as many (1.4 to 1.6 of it), but one by one without vectors.
fn slow(isa: Isa, bf16: Option<Dots>, int8: Option<Dots>) -> Vec<Precision> {
    let mut slow = Vec::new();
    if bf16.is_none() {
        slow.push(Precision::Bf16);
    }
    if int8.is_none() && isa == Isa::Scalar {
        slow.push(Precision::Int8);
    }
    slow
}

fn name() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|l| l.starts_with("model name") || l.starts_with("Model"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lacks_its_instructions_is_slow() {
        assert_eq!(slow(Isa::Scalar, None, None), [Precision::Bf16, Precision::Int8]);
        assert_eq!(slow(Isa::Avx2, None, None), [Precision::Bf16]);
        assert_eq!(slow(Isa::Avx2, None, Some(Dots::AvxVnni)), [Precision::Bf16]);
        assert_eq!(slow(Isa::Avx512, Some(Dots::Avx512Bf16), Some(Dots::Avx512Vnni)), []);
        let here = cpu();
        assert_eq!(here.bf16.is_none(), here.slow.contains(&Precision::Bf16));
    }
}
