//! Which instruction set the kernels use: detected once per process, capped by `EMBRAL_ISA`.

use std::sync::OnceLock;

/// An instruction-set level that the kernels have a variant for, slowest first within one architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Portable code; what the compiler's baseline allows.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, VL and DQ.
    Avx512,
    /// AArch64 with Advanced SIMD.
    Neon,
}

/// Numbers that some machines multiply faster than f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// bf16, summed in f32.
    Bf16,
    /// 8-bit integers, summed in 32 bits.
    Int8,
}

/// Instructions beyond a level that multiply and add several small numbers in each lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dots {
    /// `vdpbf16ps` on 512 bits.
    Avx512Bf16,
    /// `vpdpbusd` on 512 bits.
    Avx512Vnni,
    /// `vpdpbusd` on 256 bits without AVX-512.
    AvxVnni,
    /// `bfdot`.
    NeonBf16,
    /// `sdot`.
    NeonDotprod,
}

impl Dots {
    /// What they multiply.
    pub fn of(self) -> Numbers {
        match self {
            Self::Avx512Bf16 | Self::NeonBf16 => Numbers::Bf16,
            Self::Avx512Vnni | Self::AvxVnni | Self::NeonDotprod => Numbers::Int8,
        }
    }

    /// The name of the feature, as the processor's documentation has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512Bf16 => "avx512-bf16",
            Self::Avx512Vnni => "avx512-vnni",
            Self::AvxVnni => "avx-vnni",
            Self::NeonBf16 => "bf16",
            Self::NeonDotprod => "dotprod",
        }
    }
}

impl Isa {
    /// The instructions that this machine has at this level for products of `numbers`; `None` where the level makes them of
    /// others.
    pub fn dots(self, numbers: Numbers) -> Option<Dots> {
        static FOUND: OnceLock<Vec<(Isa, Dots)>> = OnceLock::new();
        let all = FOUND.get_or_init(detect_dots);
        all.iter().find(|(isa, dots)| *isa == self && dots.of() == numbers).map(|(_, dots)| *dots)
    }

    /// Every level, whether this machine has it or not.
    pub const ALL: [Self; 4] = [Self::Scalar, Self::Avx2, Self::Avx512, Self::Neon];

    /// The name that `EMBRAL_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
        }
    }

    /// The level named `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|isa| isa.name().eq_ignore_ascii_case(name))
    }

    /// The levels this machine has, best first. `EMBRAL_ISA` does not change it.
    pub fn available() -> &'static [Self] {
        static FOUND: OnceLock<Vec<Isa>> = OnceLock::new();
        FOUND.get_or_init(|| Self::ALL.into_iter().rev().filter(|isa| isa.detect()).collect())
    }

    /// The level in use: the best one of this machine that `EMBRAL_ISA` (`scalar`, `avx2`, `avx512`, `neon`) allows. A name that
    /// is not known allows everything, and says so once on standard error.
    pub fn active() -> Self {
        static ACTIVE: OnceLock<Isa> = OnceLock::new();
        *ACTIVE.get_or_init(|| {
            let cap = std::env::var("EMBRAL_ISA").ok().filter(|name| !name.is_empty()).and_then(|name| {
                let isa = Self::from_name(&name);
                if isa.is_none() {
                    eprintln!("embral: EMBRAL_ISA={name} is not scalar, avx2, avx512 or neon; it is ignored");
                }
                isa
            });
            best(Self::available(), cap)
        })
    }

    /// Whether this machine has the level.
    pub fn is_available(self) -> bool {
        Self::available().contains(&self)
    }

    fn detect(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => has_avx2(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                has_avx2()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
            }
            #[cfg(target_arch = "aarch64")]
            Self::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[allow(unreachable_patterns, reason = "which levels are left depends on the architecture")]
            _ => false,
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

#[cfg(target_arch = "x86_64")]
fn detect_dots() -> Vec<(Isa, Dots)> {
    [
        (Isa::Avx512, Dots::Avx512Bf16, is_x86_feature_detected!("avx512bf16")),
        (Isa::Avx512, Dots::Avx512Vnni, is_x86_feature_detected!("avx512vnni")),
        (Isa::Avx2, Dots::AvxVnni, is_x86_feature_detected!("avxvnni")),
    ]
    .into_iter()
    .filter_map(|(isa, dots, found)| (found && isa.is_available()).then_some((isa, dots)))
    .collect()
}

#[cfg(target_arch = "aarch64")]
fn detect_dots() -> Vec<(Isa, Dots)> {
    [
        (Dots::NeonBf16, std::arch::is_aarch64_feature_detected!("bf16")),
        (Dots::NeonDotprod, std::arch::is_aarch64_feature_detected!("dotprod")),
    ]
    .into_iter()
    .filter_map(|(dots, found)| found.then_some((Isa::Neon, dots)))
    .collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detect_dots() -> Vec<(Isa, Dots)> {
    Vec::new()
}

/// The best of `available` (best first) that is no better than `cap`.
fn best(available: &[Isa], cap: Option<Isa>) -> Isa {
    available.iter().copied().find(|&isa| cap.is_none_or(|cap| isa <= cap)).unwrap_or(Isa::Scalar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_takes_the_best_level_below_it() {
        let x86 = [Isa::Avx512, Isa::Avx2, Isa::Scalar];
        assert_eq!(best(&x86, None), Isa::Avx512);
        assert_eq!(best(&x86, Isa::from_name("AVX2")), Isa::Avx2);
        assert_eq!(best(&x86, Some(Isa::Scalar)), Isa::Scalar);
        assert_eq!(best(&[Isa::Scalar], Some(Isa::Avx512)), Isa::Scalar);
        assert_eq!(best(&[Isa::Neon, Isa::Scalar], Some(Isa::Scalar)), Isa::Scalar);
        assert_eq!(Isa::from_name("sse"), None);
    }

    #[test]
    fn scalar_is_everywhere_and_last() {
        assert_eq!(Isa::available().last(), Some(&Isa::Scalar));
        assert!(Isa::active().is_available());
    }
}
