//! What the tests of the ops share: every level of this host, sizes around its vectors, pools of several widths.

use crate::{Isa, Pool};
use std::sync::Arc;

/// Runs `test` on each level this machine has and prints which those are.
///
/// # Panics
/// Where `EMBRAL_REQUIRE_ISA` (names with commas between them) names a level that the machine does not have.
pub(crate) fn each_isa(op: &str, test: impl Fn(Isa)) {
    for isa in Isa::available() {
        test(*isa);
        println!("{op}: {} ran", isa.name());
    }
    let required = std::env::var("EMBRAL_REQUIRE_ISA").unwrap_or_default();
    for name in required.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let isa = Isa::from_name(name).unwrap_or_else(|| panic!("EMBRAL_REQUIRE_ISA names {name}, which is no level"));
        assert!(isa.is_available(), "{op}: EMBRAL_REQUIRE_ISA wants {name}, and this machine does not have it");
    }
    for isa in Isa::ALL.into_iter().filter(|isa| !isa.is_available()) {
        println!("{op}: {} skipped, this machine does not have it", isa.name());
    }
}

/// Sizes that meet every tail: 0 to three vectors and one more.
pub(crate) fn sizes(isa: Isa) -> std::ops::RangeInclusive<usize> {
    0..=3 * isa.lanes() + 1
}

/// Pools of 1, 2 and 3 threads.
pub(crate) fn pools() -> [Arc<Pool>; 3] {
    [1, 2, 3].map(|threads| Pool::shared(Some(threads)))
}

/// The same numbers one value off any alignment.
pub(crate) struct Misaligned(Vec<f32>);

impl Misaligned {
    pub(crate) fn of(x: &[f32]) -> Self {
        let mut all = vec![f32::NAN; x.len() + 1];
        all[1..].copy_from_slice(x);
        Self(all)
    }
}

impl std::ops::Deref for Misaligned {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0[1..]
    }
}

impl std::ops::DerefMut for Misaligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0[1..]
    }
}

/// The bits, so that NaN equals itself and 0 is not -0.
pub(crate) fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}
