//! Ops do not allocate once their threads have been through them: measured by an allocator that counts.
#![allow(unsafe_code)]

use embral_kernels::Pool;
use embral_kernels::op::activation::{Activation, activate};
use embral_kernels::op::attention::{AttentionShape, DistanceBias, Mask, attention, attention_bf16, attention_biased};
use embral_kernels::op::bag::{Bag, Table, bag};
use embral_kernels::op::embed::{EmbedTables, embed};
use embral_kernels::op::gemm::{Epilogue, PackedMatrix, Precision, gemm};
use embral_kernels::op::norm::{Norm, NormKind, norm_in_place};
use embral_kernels::op::pooling::{Pooling, pool_rows};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_second_pass_allocates_nothing() {
    const WIDTH: usize = 64;
    let (ids, offsets) = ((0..90).map(|i| i % 20).collect::<Vec<u32>>(), [0, 7, 7, 50, 90]);
    let rows = ids.len();
    let words: Vec<f32> = (0..20 * WIDTH).map(|i| (i % 17) as f32 - 8.0).collect();
    let gamma = vec![1.0; WIDTH];
    let norm = Norm { kind: NormKind::Layer, gamma: &gamma, beta: None, eps: 1e-12 };
    let tables = EmbedTables { word: &words, position: None, kind: None, width: WIDTH, scale: 1.0 };
    let weights: Vec<f32> = (0..3 * WIDTH * WIDTH).map(|i| (i % 13) as f32 * 0.01).collect();
    let matrices = Precision::ALL.map(|precision| PackedMatrix::pack(precision, 3 * WIDTH, WIDTH, &weights));
    let shape = AttentionShape { heads: 4, kv_heads: 4, dim: 16, scale: 0.25, mask: Mask::Full };
    let bias = DistanceBias { values: &words[..4 * 31], heads: 4 };
    let mut x = vec![0.0; rows * WIDTH];
    let mut qkv = vec![0.0; rows * 3 * WIDTH];
    let mut pooled = vec![0.0; 4 * WIDTH];
    let table = Bag { table: Table::F32(&words), width: WIDTH, weights: None, mapping: None };
    for threads in [1, 2] {
        let pool = Pool::new(threads);
        let _busy = pool.busy();
        let mut pass = || {
            embed(&pool, &ids, &offsets, &tables, Some(&norm), &mut x);
            for w in &matrices {
                gemm(&pool, &x, rows, w, &Epilogue::default(), &mut qkv);
            }
            attention(&pool, &qkv, &offsets, &shape, &mut x);
            attention_bf16(&pool, &qkv, &offsets, &shape, &mut x);
            attention_biased(&pool, &qkv, (&offsets[..]).into(), &shape, bias, false, &mut x);
            activate(&pool, Activation::GeluErf, &mut x);
            norm_in_place(&pool, &mut x, &norm);
            pool_rows(&pool, &x, &offsets, WIDTH, Pooling::Mean, true, &mut pooled);
            bag(&pool, &ids, &offsets, &table, true, &mut pooled);
        };
        // A worker that came late to the first passes has its memory still to make; it comes to one of these.
        let quiet = (0..200).any(|_| {
            let before = COUNT.load(Ordering::Relaxed);
            (0..5).for_each(|_| pass());
            COUNT.load(Ordering::Relaxed) == before
        });
        assert!(quiet, "{threads} threads: each of 200 rounds allocated");
    }
}
