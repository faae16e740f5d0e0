//! Fitting the table to the teacher.

use super::{
    Refinement,
    corpus::Pair,
    objective::{Slope, View},
    optimise::{Adam, Pooled, each_row},
    pca::Basis,
    plan::{Group, Planner, dot},
    teacher::Vectors,
    tokens::Tokens,
};
use crate::{Progress, random::Random, share};
use embral_kernels::{
    Pool,
    op::gemm::{Epilogue, PackedMatrix, Precision, gemm},
};

/// Rows whose vectors are read by one task.
const BLOCK: usize = 128;
/// The part of all steps in which the learning rate rises to its full height.
const WARM_UP: f32 = 0.02;

/// What an epoch came to: means over its groups.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epoch {
    /// Mean of `1 - cosine` between the table's vector and the teacher's.
    pub direction: f64,
    /// Mean divergence of the similarities in a group.
    pub structure: f64,
}

/// What a refinement works on.
pub(crate) struct Material<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) vectors: &'a Vectors,
    pub(crate) tokens: &'a Tokens,
    pub(crate) pairs: &'a [Pair],
    pub(crate) basis: &'a Basis,
    pub(crate) settings: &'a Refinement,
    pub(crate) seed: u64,
}

/// Moves the rows of `table` (`[vocab, dims]`) for as many epochs as the settings say.
pub(crate) fn refine(table: &mut [f32], material: &Material<'_>, progress: &mut dyn Progress) -> Vec<Epoch> {
    let Material { pool, vectors, tokens, pairs, basis, settings, seed } = *material;
    let width = basis.dims();
    let full = |text: u32| !tokens.text(text).is_empty();
    let texts: Vec<u32> = (0..tokens.len() as u32).filter(|&t| full(t)).collect();
    let pairs: Vec<Pair> = pairs.iter().copied().filter(|p| full(p.query) && full(p.passage)).collect();
    let planner = Planner {
        pool,
        vectors,
        texts: &texts,
        pairs: &pairs,
        batch: settings.batch,
        leaf: settings.leaf,
        pair_limit: settings.pair_limit,
    };
    let projection = PackedMatrix::pack(Precision::F32, width, basis.width, &basis.directions);
    let mut random = Random::new(seed);
    let mut adam = Adam::new(table.len() / width, width);
    let mut plan = planner.draw(&mut random);
    // Every epoch has as many groups as the first, give or take the last pairs of one query.
    let steps = (plan.len() * settings.epochs).max(1) as f32;
    progress.begin("refinement", steps as u64, "groups");
    let (mut epochs, mut step) = (Vec::new(), 0.0);
    for epoch in 0..settings.epochs {
        let mut sum = Epoch { direction: 0.0, structure: 0.0 };
        for group in &plan {
            step += 1.0;
            let rate = settings.learning_rate * (step / (WARM_UP * steps)).min(1.0) * (1.0 - step / steps).max(0.0);
            let (slope, texts) = material.slope(table, group, &projection);
            adam.step(pool, table, &texts, &slope.by_unit, rate);
            sum.direction += slope.direction / plan.len() as f64;
            sum.structure += slope.structure / plan.len() as f64;
            progress.advance(1);
        }
        progress.say(&format!(
            "epoch {} of {}: 1 - cosine {:.4}, divergence {:.4}",
            epoch + 1,
            settings.epochs,
            sum.direction,
            sum.structure
        ));
        epochs.push(sum);
        if epoch + 1 < settings.epochs {
            plan = planner.draw(&mut random);
        }
    }
    epochs
}

impl<'a> Material<'a> {
    /// The loss of a group and its slope by the row of each id of each text; and the ids of the texts.
    fn slope(&self, table: &[f32], group: &Group, projection: &PackedMatrix) -> (Slope, Vec<&'a [u32]>) {
        let Material { pool, vectors, tokens, settings, .. } = *self;
        let (n, width, teacher_width) = (group.texts.len(), projection.rows_out(), vectors.dim);
        let texts: Vec<&[u32]> = group.texts.iter().map(|&t| tokens.text(t)).collect();
        let pooled = Pooled::of(pool, table, width, &texts);
        let mut teacher = vec![0.0; n * teacher_width];
        share::each(
            pool,
            teacher.chunks_mut(BLOCK * teacher_width).zip(group.texts.chunks(BLOCK)),
            |_, (rows, texts)| {
                for (row, &text) in each_row(rows, teacher_width).zip(texts) {
                    vectors.read(text as usize, row);
                }
            },
        );
        let mut targets = vec![0.0; n * width];
        gemm(pool, &teacher, n, projection, &Epilogue::default(), &mut targets);
        for target in each_row(&mut targets, width) {
            let length = dot(target, target).sqrt().max(1e-9);
            target.iter_mut().for_each(|v| *v /= length);
        }
        let view = View {
            units: &pooled.units,
            targets: &targets,
            teacher: &teacher,
            width,
            teacher_width,
            paired: group.paired,
        };
        let mut slope = settings.objective.slope(pool, &view);
        pooled.back(&mut slope.by_unit, width, &texts);
        (slope, texts)
    }
}
