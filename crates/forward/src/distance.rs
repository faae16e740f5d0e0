//! What is added to scores by distance, as the table that backends read.

use crate::load::Loader;
use embral_backend::{Backend, Bias, Dense, Embedding, Relative};
use embral_models::{Blueprint, DisentangledSpec, PositionBias, Role};
use embral_types::{Activation, Batch, Precision, Result, Tensor};

/// What attention adds to scores, as a backend has it.
pub(crate) enum Distances<B: Backend> {
    /// The same in every block.
    Table(B::Table),
    /// One a block.
    Rows(Vec<Relative<B>>),
}

impl<B: Backend> Distances<B> {
    pub(crate) fn load(backend: &B, blueprint: &Blueprint, from: &Loader<'_>) -> Result<Option<Self>> {
        match blueprint.attention.bias {
            None => Ok(None),
            Some(PositionBias::Alibi) => {
                let slopes = slopes(blueprint.attention.heads);
                let value = |head: usize, distance: i64| -(slopes[head] * distance.unsigned_abs() as f64) as f32;
                Ok(Some(Self::Table(backend.load_table(&table(blueprint, usize::MAX, value))?)))
            }
            Some(PositionBias::Learned { buckets, far }) => {
                let (heads, values) = (blueprint.attention.heads, from.weight(Role::DistanceBias, 0)?.to_f32());
                let value = |head, distance| values[bucket(distance, buckets, far) * heads + head];
                Ok(Some(Self::Table(backend.load_table(&table(blueprint, far, value))?)))
            }
            Some(PositionBias::Disentangled(spec)) => rows(backend, blueprint, &spec, from).map(Self::Rows).map(Some),
        }
    }

    pub(crate) fn of(&self, layer: usize) -> Bias<'_, B> {
        match self {
            Self::Table(table) => Bias::Distance(table),
            Self::Rows(rows) => Bias::Relative(&rows[layer]),
        }
    }
}

/// The rows of distances of each block: the table, normalised and projected, which is the same for every text. In f32 in any
/// precision, since it is done once.
fn rows<B: Backend>(
    backend: &B,
    blueprint: &Blueprint,
    spec: &DisentangledSpec,
    from: &Loader<'_>,
) -> Result<Vec<Relative<B>>> {
    let count = 2 * spec.span;
    let word = backend.load_table(&from.weight(Role::Distances, 0)?)?;
    let norm = spec.norm.then(|| from.norm(backend, &blueprint.norm, Role::DistancesNorm, 0)).transpose()?;
    let mut order = Batch::default();
    order.push(&(0..count as u32).collect::<Vec<_>>());
    let mut table = backend.buffer(count, blueprint.hidden)?;
    let tables = Embedding { word: &word, position: None, padding: None, kind: None, scale: 1.0, norm: norm.as_ref() };
    backend.embed(&backend.plan(&order)?, &tables, &mut table)?;
    let width = blueprint.attention.heads * blueprint.attention.head_dim;
    let project = |dense: Dense<'_>| {
        let mut rows = backend.buffer(count, width)?;
        let projection = backend.load_linear(&[dense], Precision::F32)?;
        backend.linear(&table, &projection, Activation::Identity, &mut rows)?;
        Ok(rows)
    };
    let (key, query) = if spec.shared { (Role::Key, Role::Query) } else { (Role::DistanceKey, Role::DistanceQuery) };
    let reach = blueprint.max_positions.saturating_sub(1) as i64;
    let distances: Vec<u32> = (-reach..=reach).map(|distance| row(-distance, spec) as u32).collect();
    let of_layer = |layer| {
        Ok(Relative {
            keys: spec.query.then(|| project(from.dense(key, layer, true)?)).transpose()?,
            queries: spec.key.then(|| project(from.dense(query, layer, true)?)).transpose()?,
            distances: distances.clone(),
        })
    };
    (0..blueprint.layers).map(of_layer).collect()
}

/// The row of the place of a query less that of a key.
fn row(distance: i64, spec: &DisentangledSpec) -> usize {
    let far_bucket = |far: usize| {
        let (middle, length) = (spec.span as i64 / 2, distance.abs());
        if length <= middle {
            return distance;
        }
        // f32, as the reference has it.
        let share = (length as f32 / middle as f32).ln() / ((far - 1) as f32 / middle as f32).ln();
        ((share * (middle - 1) as f32).ceil() as i64 + middle) * distance.signum()
    };
    let bucket = spec.far.map_or(distance, far_bucket);
    (bucket + spec.span as i64).clamp(0, 2 * spec.span as i64 - 1) as usize
}

/// The table `[heads, 2 reach + 1]` by the place of the key less that of the query; all distances from `far` on are one.
fn table(blueprint: &Blueprint, far: usize, value: impl Fn(usize, i64) -> f32) -> Tensor<'static> {
    let heads = blueprint.attention.heads;
    let reach = blueprint.max_positions.saturating_sub(1).min(far);
    let distances = -(reach as i64)..=reach as i64;
    let values: Vec<f32> =
        (0..heads).flat_map(|head| distances.clone().map(move |d| (head, d))).map(|(head, d)| value(head, d)).collect();
    Tensor::from_f32(vec![heads, 2 * reach + 1], &values)
}

/// The slopes of ALiBi.
fn slopes(heads: usize) -> Vec<f64> {
    let power = 1 << heads.ilog2();
    let slope = |i: usize, of: usize| (-8.0 * i as f64 / of as f64).exp2();
    let more = (0..heads - power).map(|i| slope(2 * i + 1, 2 * power));
    (1..=power).map(|i| slope(i, power)).chain(more).collect()
}

/// The bucket of T5 for the place of a key less that of the query.
fn bucket(distance: i64, buckets: usize, far: usize) -> usize {
    let half = buckets / 2;
    let (side, distance) = (if distance > 0 { half } else { 0 }, distance.unsigned_abs() as usize);
    let exact = half / 2;
    if distance < exact {
        return side + distance;
    }
    // f32, as the reference has it: at a boundary another format may fall on the other side.
    let share = (distance as f32 / exact as f32).ln() / (far as f64 / exact as f64).ln() as f32;
    let steps = share * (half - exact) as f32;
    side + (exact + steps as usize).min(half - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_those_of_the_paper() {
        assert_eq!(slopes(8), [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015_625, 0.007_812_5, 0.003_906_25]);
        // 12 heads: those of 8, and the first, third, fifth and seventh of 16.
        let twelve = slopes(12);
        assert_eq!(twelve[..8], slopes(8));
        let sixteen = slopes(16);
        assert_eq!(twelve[8..], [sixteen[0], sixteen[2], sixteen[4], sixteen[6]]);
        assert_eq!(slopes(1), [0.003_906_25]);
    }

    #[test]
    fn buckets_are_those_of_t5() {
        // Of MPNet in transformers 5.23, distances 0 to 140 by the first of each bucket; a key behind the query is 16 further.
        let firsts = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91];
        for (number, &first) in firsts.iter().enumerate() {
            assert_eq!(bucket(-first, 32, 128), number, "{first}");
            if first > 0 {
                assert_eq!(bucket(1 - first, 32, 128), number - 1, "{first}");
                assert_eq!(bucket(first, 32, 128), 16 + number);
            }
        }
        assert_eq!([bucket(-1000, 32, 128), bucket(1000, 32, 128)], [15, 31]);
    }

    #[test]
    fn rows_are_those_of_deberta() {
        let spec = DisentangledSpec { span: 256, far: Some(512), query: true, key: true, shared: true, norm: true };
        // Of transformers 5.23 with 256 buckets over 512 positions.
        for (distance, bucket) in [(0, 0), (5, 5), (127, 127), (128, 128), (129, 129), (200, 169), (511, 255)] {
            assert_eq!([row(distance, &spec), row(-distance, &spec)], [256 + bucket, 256 - bucket], "{distance}");
        }
        // Beyond the last bucket.
        assert_eq!([row(600, &spec), row(-600, &spec)], [511, 0]);
        let each = DisentangledSpec { span: 8, far: None, ..spec };
        assert_eq!([-9, -8, -3, 0, 7, 8].map(|d| row(d, &each)), [0, 0, 5, 8, 15, 15]);
    }
}
