//! CPU kernels of Embral: slices in, slices out, with runtime ISA dispatch.
