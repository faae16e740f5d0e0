//! How much of the machine the matrix product uses: GFLOP/s of `gemm` beside that of a loop of fused multiply-adds that touches
//! no memory, in one run. `cargo run --release -p embral-kernels --example gemm_peak [threads]`.

use embral_kernels::op::activation::Activation;
use embral_kernels::op::attention::{AttentionShape, Mask, attention, attention_bf16};
use embral_kernels::op::gemm::{Epilogue, PackedMatrix, Precision, Residual, gemm};
use embral_kernels::op::norm::{Norm, NormKind, norm_in_place};
use embral_kernels::{Isa, Pool};
use std::hint::black_box;
use std::time::Instant;

/// Seconds of the fastest of several calls.
fn fastest(mut call: impl FnMut()) -> f64 {
    let begin = Instant::now();
    let mut best = f64::INFINITY;
    while begin.elapsed().as_secs_f64() < 0.4 {
        let start = Instant::now();
        call();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

/// 24 independent chains of `x = x * y + z`; returns the floating-point operations done.
macro_rules! chains {
    ($name:ident, $features:literal, $lanes:literal, $splat:ident, $fma:ident) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        fn $name(rounds: usize) -> f64 {
            use std::arch::x86_64::*;
            let (y, z) = ($splat(black_box(0.999)), $splat(black_box(0.001)));
            let mut x = [$splat(black_box(1.0)); 12];
            for _ in 0..rounds {
                for x in &mut x {
                    *x = $fma(*x, y, z);
                }
            }
            black_box(x);
            (rounds * 12 * $lanes * 2) as f64
        }
    };
}
chains!(chains512, "avx512f", 16, _mm512_set1_ps, _mm512_fmadd_ps);
/// As `chains`, for an instruction that multiplies several numbers a lane.
macro_rules! dot_chains {
    ($name:ident, $features:literal, $ops:literal, $V:ty, $dot:expr) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        fn $name(rounds: usize) -> f64 {
            use std::arch::x86_64::*;
            // SAFETY: vectors of plain numbers; all zeros are one.
            #[allow(unsafe_code)]
            let (y, mut x): ($V, [$V; 12]) = unsafe { std::mem::zeroed() };
            let y = black_box(y);
            for _ in 0..rounds {
                for x in &mut x {
                    *x = $dot(*x, y);
                }
            }
            black_box(x);
            (rounds * 12 * $ops * 2) as f64
        }
    };
}
dot_chains!(bf16, "avx512f,avx512bf16", 32, __m512, |x, y: __m512| {
    // SAFETY: vectors of equal size.
    #[allow(unsafe_code)]
    let y = unsafe { std::mem::transmute::<__m512, __m512bh>(y) };
    _mm512_dpbf16_ps(x, y, y)
});
dot_chains!(vnni, "avx512f,avx512vnni", 64, __m512i, |x, y| _mm512_dpbusd_epi32(x, y, y));
chains!(chains256, "avx2,fma", 8, _mm256_set1_ps, _mm256_fmadd_ps);

/// FLOP/s of all threads in registers, where the level has a loop for it.
fn peak(pool: &Pool, precision: Precision) -> Option<f64> {
    const ROUNDS: usize = 2_000_000;
    let isa = Isa::active();
    let dots = precision.numbers().and_then(|n| isa.dots(n));
    #[allow(unsafe_code)]
    let one = |_: usize| -> f64 {
        // SAFETY: the level is one the machine has.
        unsafe {
            match (isa, precision, dots) {
                #[cfg(target_arch = "x86_64")]
                (Isa::Avx512, Precision::F32, _) => chains512(ROUNDS),
                #[cfg(target_arch = "x86_64")]
                (Isa::Avx2, Precision::F32, _) => chains256(ROUNDS),
                #[cfg(target_arch = "x86_64")]
                (_, _, Some(embral_kernels::Dots::Avx512Bf16)) => bf16(ROUNDS),
                #[cfg(target_arch = "x86_64")]
                (_, _, Some(embral_kernels::Dots::Avx512Vnni)) => vnni(ROUNDS),
                _ => 0.0,
            }
        }
    };
    let flop = one(0);
    let seconds = fastest(|| {
        pool.run(pool.threads(), &|i| {
            black_box(one(i));
        });
    });
    (one(1) > 0.0 && flop >= 0.0).then(|| one(0) * pool.threads() as f64 / seconds)
}

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 2_654_435_761) % 1000) as f32 / 1000.0 - 0.5).collect()
}

fn main() {
    let threads = std::env::args().nth(1).and_then(|n| n.parse().ok());
    let pool = Pool::shared(threads);
    let _busy = pool.busy();
    for precision in Precision::ALL {
        let peak = peak(&pool, precision);
        let share = |flops: f64| peak.map_or(String::new(), |peak| format!("{:5.1} %", 100.0 * flops / peak));
        println!("{precision:?} x {}, registers only: {:.1} GFLOP/s", pool.threads(), peak.unwrap_or(0.0) / 1e9);
        for (rows, k, n, activation) in [
            (4096, 384, 1536, Activation::Identity),
            (4096, 384, 1536, Activation::GeluErf),
            (4096, 1536, 384, Activation::Identity),
            (4096, 384, 384, Activation::Identity),
            (4096, 384, 1152, Activation::Identity),
            (384, 384, 1536, Activation::Identity),
            (128, 384, 1536, Activation::Identity),
            (11, 384, 1536, Activation::Identity),
            (11, 1536, 384, Activation::Identity),
        ] {
            let (a, w, bias) = (numbers(rows * k), PackedMatrix::pack(precision, n, k, &numbers(n * k)), numbers(n));
            let mut out = vec![0.0; rows * n];
            let e = Epilogue { bias: Some(&bias), activation, residual: Residual::None };
            let seconds = fastest(|| gemm(&pool, &a, rows, &w, &e, &mut out));
            let flops = (2 * rows * k * n) as f64 / seconds;
            println!(
                "gemm [{rows} x {k} x {n}] {activation:?}: {:.1} GFLOP/s {} {:.1} us",
                flops / 1e9,
                share(flops),
                seconds * 1e6
            );
        }
        for tokens in [11, 128, 384, 1024, 4096] {
            let (micros, linear) = layers(&pool, tokens, precision);
            println!(
                "6 layers of MiniLM, {tokens} tokens in texts of 11: {micros:.0} us, {:.0} tokens/s, linear layers alone {linear:.0} us",
                tokens as f64 / micros * 1e6
            );
        }
    }
    for (sequences, length) in [(32, 12), (32, 27), (32, 145), (8, 512)] {
        let shape = AttentionShape { heads: 12, kv_heads: 12, dim: 32, scale: 0.177, mask: Mask::Full };
        let rows = sequences * length;
        let qkv = numbers(rows * shape.qkv_width());
        let offsets: Vec<u32> = (0..=sequences).map(|i| (i * length) as u32).collect();
        let mut out = vec![0.0; rows * shape.out_width()];
        let seconds = fastest(|| attention(&pool, &qkv, &offsets, &shape, &mut out));
        let flops = (4 * rows * length * shape.out_width()) as f64 / seconds;
        println!("attention [{sequences} x {length}]: {:.1} GFLOP/s {:.1} us", flops / 1e9, seconds * 1e6);
        let seconds = fastest(|| attention_bf16(&pool, &qkv, &offsets, &shape, &mut out));
        let flops = (4 * rows * length * shape.out_width()) as f64 / seconds;
        println!("attention bf16 [{sequences} x {length}]: {:.1} GFLOP/s {:.1} us", flops / 1e9, seconds * 1e6);
    }
}

/// Microseconds of the six layers of all-MiniLM-L6-v2, and of their matrix products alone.
fn layers(pool: &Pool, tokens: usize, precision: Precision) -> (f64, f64) {
    const HIDDEN: usize = 384;
    const WIDE: usize = 1536;
    let matrix = |n, k| PackedMatrix::pack(precision, n, k, &numbers(n * k));
    let weights: Vec<_> = (0..6)
        .map(|_| [matrix(3 * HIDDEN, HIDDEN), matrix(HIDDEN, HIDDEN), matrix(WIDE, HIDDEN), matrix(HIDDEN, WIDE)])
        .collect();
    let (bias, ones) = (vec![0.01; WIDE], vec![1.0; HIDDEN]);
    let norm = Norm { kind: NormKind::Layer, gamma: &ones, beta: Some(&ones), eps: 1e-12 };
    let shape = AttentionShape { heads: 12, kv_heads: 12, dim: 32, scale: 0.177, mask: Mask::Full };
    let offsets: Vec<u32> = (0..tokens).step_by(11).chain([tokens]).map(|t| t as u32).collect();
    let mut x = numbers(tokens * HIDDEN);
    let mut qkv = vec![0.0; tokens * 3 * HIDDEN];
    let mut context = vec![0.0; tokens * HIDDEN];
    let mut wide = vec![0.0; tokens * WIDE];
    let mut pass = |all: bool| {
        for [w_qkv, w_out, w_up, w_down] in &weights {
            let plain = |n| Epilogue { bias: Some(&bias[..n]), ..Epilogue::default() };
            gemm(pool, &x, tokens, w_qkv, &plain(3 * HIDDEN), &mut qkv);
            if all {
                attention(pool, &qkv, &offsets, &shape, &mut context);
            }
            let add = Epilogue { residual: Residual::InPlace, ..plain(HIDDEN) };
            gemm(pool, &context, tokens, w_out, &add, &mut x);
            if all {
                norm_in_place(pool, &mut x, &norm);
            }
            let up = Epilogue { activation: Activation::GeluErf, ..plain(WIDE) };
            gemm(pool, &x, tokens, w_up, &up, &mut wide);
            gemm(pool, &wide, tokens, w_down, &add, &mut x);
            if all {
                norm_in_place(pool, &mut x, &norm);
            }
        }
    };
    let all = fastest(|| pass(true));
    let linear = fastest(|| pass(false));
    (all * 1e6, linear * 1e6)
}
