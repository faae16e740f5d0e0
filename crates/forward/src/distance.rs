//! What is added to scores by distance, as the table that backends read.

use embral_models::{Blueprint, DistanceBias};
use embral_types::Tensor;

/// The table `[heads, 2 reach + 1]` by the place of the key less that of the query; `learned` is `[buckets, heads]`.
pub(crate) fn table(blueprint: &Blueprint, bias: DistanceBias, learned: Option<Tensor<'_>>) -> Tensor<'static> {
    let heads = blueprint.attention.heads;
    let farthest = blueprint.max_positions.saturating_sub(1);
    let (reach, value): (usize, Box<dyn Fn(usize, i64) -> f32>) = match bias {
        DistanceBias::Alibi => {
            let slopes = slopes(heads);
            (farthest, Box::new(move |head, distance| -(slopes[head] * distance.unsigned_abs() as f64) as f32))
        }
        DistanceBias::Learned { buckets, far } => {
            let values = learned.map(|tensor| tensor.to_f32()).unwrap_or_default();
            let at = move |head, distance| values[bucket(distance, buckets, far) * heads + head];
            (farthest.min(far), Box::new(at))
        }
    };
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
}
