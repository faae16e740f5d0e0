//! CPU kernels of Embral: slices in, slices out, with runtime ISA dispatch.
//!
//! What goes in and comes out is f32, row-major and contiguous; a product may be made of bf16 or of 8-bit integers inside. An op is
//! a module of [`op`]; its body is written once over the trait of `simd` and compiled for every instruction set ([`Isa`]); its rows
//! are shared out by a [`Pool`].
//!
//! What every op keeps: a row of the result depends on its own inputs only. The order in which an element's terms are added is
//! fixed by the width of the matrix, never by the number of rows, the tiles, the threads or the load, so that the result is the
//! same to the bit alone and in company. Different instruction sets may differ in the last bits.
#![allow(unsafe_code, reason = "SIMD loads and stores, and buffers shared out among threads")]

mod isa;
mod math;
pub mod measure;
pub mod op;
mod parts;
mod pool;
mod scratch;
mod simd;
#[cfg(test)]
mod sweep;
mod tile;

pub use isa::{Dots, Isa, Numbers};
pub use pool::{Beside, Busy, Pool};
