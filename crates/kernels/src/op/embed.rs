//! Token embeddings: the rows of the tables, added, scaled and normalised in one pass.

use super::norm::{Norm, normalize};
use super::sequences;
use crate::parts::split_rows;
use crate::simd::{Kernel, Simd};
use crate::{Isa, Pool};

/// The tables a token's row is the sum of.
#[derive(Clone, Copy, Debug)]
pub struct EmbedTables<'a> {
    /// One row an id.
    pub word: &'a [f32],
    /// Learned positions.
    pub position: Option<Positions<'a>>,
    /// One row a token type, and the type of each token; none where all have the first.
    pub kind: Option<(&'a [f32], &'a [u8])>,
    /// The width of a row.
    pub width: usize,
    /// The sum is multiplied by it.
    pub scale: f32,
}

/// A table of positions.
#[derive(Clone, Copy, Debug)]
pub struct Positions<'a> {
    /// One row a position.
    pub table: &'a [f32],
    /// The row of the first token.
    pub first: usize,
    /// A token that is at no place: it has the row before the first, and is not counted.
    pub padding: Option<u32>,
}

/// `out[t] = norm(scale · (word[ids[t]] + position[first + place of t in its sequence] + kind[type[t]]))`, `[ids.len(), width]`.
///
/// # Panics
/// Where an id, a position or a token type has no row, or a buffer has another size.
pub fn embed(
    pool: &Pool,
    ids: &[u32],
    offsets: &[u32],
    tables: &EmbedTables<'_>,
    norm: Option<&Norm<'_>>,
    out: &mut [f32],
) {
    embed_with(Isa::active(), pool, ids, offsets, tables, norm, out);
}

#[allow(clippy::too_many_arguments, reason = "the arguments of `embed` and the level")]
pub(crate) fn embed_with(
    isa: Isa,
    pool: &Pool,
    ids: &[u32],
    offsets: &[u32],
    tables: &EmbedTables<'_>,
    norm: Option<&Norm<'_>>,
    out: &mut [f32],
) {
    let width = tables.width;
    assert!(width > 0, "a table has a width");
    assert_eq!(out.len(), ids.len() * width, "out is [{}, {width}]", ids.len());
    sequences(offsets, ids.len());
    if let Some(norm) = norm {
        norm.check();
        assert_eq!(norm.gamma.len(), width, "the normalisation has the width of the tables");
    }
    let has_row = |position: Positions<'_>| position.padding.is_none() || position.first > 0;
    assert!(tables.position.is_none_or(has_row), "there is a row before the first position");
    if let Some((kind, types)) = tables.kind {
        assert!(kind.len() >= width, "there is a first token type");
        assert!(types.is_empty() || types.len() == ids.len(), "{} token types of {} tokens", types.len(), ids.len());
    }
    split_rows(pool, out, width, 1, &|first, out| isa.run(Rows { ids, offsets, tables, norm, first, out }));
}

struct Rows<'a> {
    ids: &'a [u32],
    offsets: &'a [u32],
    tables: &'a EmbedTables<'a>,
    norm: Option<&'a Norm<'a>>,
    first: usize,
    out: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { ids, offsets, tables, norm, first, out } = self;
        let width = tables.width;
        let scale = s.splat(tables.scale);
        let mut sequence = offsets.partition_point(|&start| start as usize <= first) - 1;
        let padding = tables.position.and_then(|position| position.padding);
        let is_padding = |token: usize| padding == Some(ids[token]);
        let mut skipped = (offsets[sequence] as usize..first).filter(|&token| is_padding(token)).count();
        for (row, out) in out.chunks_exact_mut(width).enumerate() {
            let token = first + row;
            while offsets[sequence + 1] as usize <= token {
                sequence += 1;
                skipped = 0;
            }
            let word = table_row(tables.word, ids[token] as usize, width);
            let position = tables.position.map(|position| {
                let place = position.first + token - offsets[sequence] as usize - skipped;
                table_row(position.table, if is_padding(token) { position.first - 1 } else { place }, width)
            });
            skipped += usize::from(is_padding(token));
            let kind = tables
                .kind
                .map(|(table, types)| table_row(table, types.get(token).copied().unwrap_or(0).into(), width));
            for (i, part) in out.chunks_mut(S::LANES).enumerate() {
                let columns = i * S::LANES..i * S::LANES + part.len();
                let mut v = s.read(&word[columns.clone()]);
                if let Some(kind) = kind {
                    v = s.add(v, s.read(&kind[columns.clone()]));
                }
                if let Some(position) = position {
                    v = s.add(v, s.read(&position[columns]));
                }
                s.write(part, s.mul(v, scale));
            }
            if let Some(norm) = norm {
                normalize(s, norm, out);
            }
        }
    }
}

#[inline]
fn table_row(table: &[f32], row: usize, width: usize) -> &[f32] {
    let rows = table.len() / width;
    assert!(row < rows, "row {row} of a table of {rows}");
    &table[row * width..(row + 1) * width]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::norm::NormKind;
    use crate::sweep::{bits, each_isa, pools, sizes};
    use embral_testkit::oracle;

    /// Three sums of numbers below 1, times 2: 4 units in the last place of 4; after the normalisation as in `norm`.
    const EMBED_ERROR: f64 = 2e-6;

    fn positions_of(table: &[f32], first: usize) -> Positions<'_> {
        Positions { table, first, padding: None }
    }

    #[test]
    fn padding_in_a_text_has_a_row_of_its_own_and_no_place() {
        let words = [0.0; 8];
        let table: Vec<f32> = (0..6).map(|row| row as f32).collect();
        let t = EmbedTables {
            word: &words,
            position: Some(Positions { padding: Some(7), ..positions_of(&table, 2) }),
            kind: None,
            width: 1,
            scale: 1.0,
        };
        let ids = [3, 7, 4, 7, 7, 5, 7, 1, 2];
        let wanted = [2.0, 1.0, 3.0, 1.0, 1.0, 4.0, 1.0, 2.0, 3.0];
        each_isa("embed padding", |isa| {
            let mut out = [f32::NAN; 9];
            embed_with(isa, &Pool::shared(Some(2)), &ids, &[0, 6, 9], &t, None, &mut out);
            assert_eq!(out, wanted);
            // A task that starts within a sequence counts what is before it.
            let rows = Rows { ids: &ids, offsets: &[0, 6, 9], tables: &t, norm: None, first: 2, out: &mut out[2..] };
            isa.run(rows);
            assert_eq!(out, wanted);
        });
    }

    #[test]
    fn rows_are_the_sums_of_f64() {
        each_isa("embed", |isa| {
            for width in sizes(isa).skip(1).chain([384]) {
                let (words, places) = (oracle::numbers(1, 20 * width), oracle::numbers(2, 9 * width));
                let kind = oracle::numbers(3, 2 * width);
                let gamma = oracle::numbers(4, width);
                let ids = [3, 19, 0, 7, 7, 1];
                let offsets = [0, 2, 2, 6];
                let positions = [0, 1, 0, 1, 2, 3];
                let types: &[u8] = if width % 2 == 0 { &[] } else { &[0, 1, 0, 0, 1, 1] };
                let t = EmbedTables {
                    word: &words,
                    position: Some(positions_of(&places, 2)),
                    kind: Some((&kind, types)),
                    width,
                    scale: 2.0,
                };
                let wide = |table: &[f32], row: usize, c: usize| f64::from(table[row * width + c]);
                let sums: Vec<f64> = (0..ids.len())
                    .flat_map(|t| (0..width).map(move |c| (t, c)))
                    .map(|(t, c)| {
                        let kind = wide(&kind, types.get(t).copied().unwrap_or(0).into(), c);
                        2.0 * (wide(&words, ids[t] as usize, c) + wide(&places, positions[t] + 2, c) + kind)
                    })
                    .collect();
                let n = Norm { kind: NormKind::Rms, gamma: &gamma, beta: None, eps: 1e-5 };
                let normed = oracle::norm(&sums, &gamma, None, 1e-5, true);
                for (norm, wanted) in [(None, &sums), (Some(&n), &normed)] {
                    let mut out = vec![f32::NAN; ids.len() * width];
                    embed_with(isa, &Pool::shared(Some(1)), &ids, &offsets, &t, norm, &mut out);
                    let error = oracle::largest_difference(&out, wanted);
                    assert!(error <= EMBED_ERROR, "{} width {width}: {error:e}", isa.name());
                }
            }
        });
    }

    #[test]
    fn threads_change_nothing() {
        let width = 96;
        let words = oracle::numbers(1, 50 * width);
        let ids: Vec<u32> = (0..700).map(|i| i * 13 % 50).collect();
        let offsets: Vec<u32> = (0..=100).map(|i| i * 7).collect();
        let t = EmbedTables { word: &words, position: Some(positions_of(&words, 0)), kind: None, width, scale: 1.0 };
        each_isa("embed threads", |isa| {
            let [one, two, three] = pools().map(|pool| {
                let mut out = vec![0.0; ids.len() * width];
                embed_with(isa, &pool, &ids, &offsets, &t, None, &mut out);
                bits(&out)
            });
            assert!(one == two && two == three);
        });
    }

    #[test]
    #[should_panic(expected = "row 20 of a table of 20")]
    fn an_id_without_a_row_is_refused() {
        let words = vec![0.0; 20];
        let t = EmbedTables { word: &words, position: None, kind: None, width: 1, scale: 1.0 };
        embed(&Pool::shared(Some(1)), &[20], &[0, 1], &t, None, &mut [0.0]);
    }
}
