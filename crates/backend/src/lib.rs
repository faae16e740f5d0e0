//! The op-level Backend trait of Embral and the suite that tests it.
