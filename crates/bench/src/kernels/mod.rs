//! Every variant of every kernel on this machine, at the shapes of a model: numbers a second, and the share of what the
//! instructions can do at most, measured in the same run.

mod report;
mod shapes;

pub use report::{Peak, Report, Row, Unit};
pub use shapes::Shapes;

use embral_kernels::measure::{self, Layer, Rows, Timed, Variant};
use embral_kernels::op::{activation::Activation, gemm::Precision, pooling::Pooling};
use embral_kernels::{Isa, Pool};
use std::time::Duration;

/// Rows of a product beside those that are asked for: one text's single vector, a query, a passage.
const ROWS: [usize; 3] = [1, 11, 128];
/// Tokens of a sequence in attention.
const LENGTHS: [usize; 3] = [12, 128, 512];
/// Tokens of a sequence where a kernel hardly depends on it.
const LENGTH: usize = 32;

/// What is measured, and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads that work; `None` is one for each core.
    pub threads: Option<usize>,
    /// The most rows of a product, and the rows of everything else.
    pub tokens: usize,
    /// Time for one measurement; a slow call is made once, however long it takes.
    pub budget: Duration,
}

/// Measures.
pub fn run(options: &Options, shapes: &Shapes) -> Report {
    let pool = Pool::shared(options.threads);
    let mut run = Run { pool: &pool, options, shapes, peaks: Vec::new(), rows: Vec::new() };
    run.peaks();
    run.products();
    run.attention();
    run.rest();
    Report {
        cpu: embral::cpu().name,
        isa: Isa::active().name(),
        threads: pool.threads(),
        model: shapes.name.clone(),
        peaks: run.peaks.into_iter().map(|(_, peak)| peak).collect(),
        rows: run.rows,
    }
}

struct Run<'a> {
    pool: &'a Pool,
    options: &'a Options,
    shapes: &'a Shapes,
    peaks: Vec<(Variant, Peak)>,
    rows: Vec<Row>,
}

impl Run<'_> {
    fn peaks(&mut self) {
        for variant in Precision::ALL.into_iter().flat_map(Variant::available) {
            // A peak is what all shares hang on: it gets the time of several measurements.
            let per_second = measure::peak(self.pool, variant, 3 * self.options.budget);
            let peak = Peak {
                precision: name(variant.precision),
                variant: variant.name(),
                per_second,
                pick: variant == Variant::chosen(variant.precision),
            };
            self.peaks.push((variant, peak));
        }
    }

    /// A row of a kernel whose limit is arithmetic.
    fn counted(
        &mut self,
        kernel: &'static str,
        precision: Precision,
        shape: String,
        variant: Variant,
        pick: bool,
        t: Timed,
    ) {
        let unit = if variant.precision == Precision::Int8 { Unit::Ops } else { Unit::Flops };
        let peak = self.peaks.iter().find(|(v, _)| *v == variant).map(|(_, peak)| peak.per_second);
        self.rows.push(Row {
            kernel,
            precision: Some(name(precision)),
            shape,
            // Where bf16 has no instructions, attention that may take it takes f32.
            variant: match variant.precision {
                own if own == precision => variant.name(),
                other => format!("{} in {}", variant.name(), name(other)),
            },
            pick,
            microseconds: t.seconds * 1e6,
            per_second: t.rate(),
            unit,
            share: peak.map(|peak| t.rate() / peak),
        });
    }

    fn products(&mut self) {
        let mut rows: Vec<usize> = ROWS.into_iter().filter(|&n| n < self.options.tokens).collect();
        rows.push(self.options.tokens);
        for (kernel, layer) in self.shapes.layers() {
            for precision in Precision::ALL {
                for variant in Variant::available(precision) {
                    let all = measure::product(self.pool, variant, &layer, &rows, self.options.budget);
                    for (rows, timed) in rows.iter().zip(all) {
                        let Layer { inputs, outputs, .. } = layer;
                        let columns = if layer.gated { format!("2 x {outputs}") } else { outputs.to_string() };
                        let pick = variant == Variant::chosen(precision);
                        self.counted(kernel, precision, format!("{rows} x {inputs} x {columns}"), variant, pick, timed);
                    }
                }
            }
        }
    }

    fn attention(&mut self) {
        let shape = self.shapes.attention;
        for precision in [Precision::F32, Precision::Bf16] {
            let chosen = match precision {
                Precision::F32 => Variant::chosen(Precision::F32),
                _ => Variant::chosen_for_attention_in_bf16(&shape),
            };
            let mut variants = Variant::available(precision);
            if precision != chosen.precision {
                variants.insert(0, chosen);
            }
            for length in LENGTHS {
                let rows = self.options.tokens.max(length) / length * length;
                for &variant in &variants {
                    let timed = measure::attention(self.pool, variant, &shape, (rows, length), self.options.budget);
                    let what = format!("{} x {length}", rows / length);
                    self.counted("attention", precision, what, variant, variant == chosen, timed);
                }
            }
        }
    }

    /// A kernel without products: no precision, and one variant a level.
    fn by_level(&mut self, kernel: &'static str, shape: &str, unit: Unit, time: impl Fn(Isa, Duration) -> Timed) {
        for &isa in Isa::available() {
            let t = time(isa, self.options.budget);
            self.rows.push(Row {
                kernel,
                precision: None,
                shape: shape.to_owned(),
                variant: isa.name().to_owned(),
                pick: isa == Isa::active(),
                microseconds: t.seconds * 1e6,
                per_second: t.rate(),
                unit,
                share: None,
            });
        }
    }

    fn rest(&mut self) {
        let (pool, s, count) = (self.pool, self.shapes, self.options.tokens);
        let rows = Rows { count, width: s.hidden, length: LENGTH };
        let wide = Rows { width: s.layers()[2].1.outputs, ..rows };
        let shape = format!("{count} x {}", rows.width);
        let function = if s.activation == Activation::Identity { Activation::GeluErf } else { s.activation };
        self.by_level("norm", &shape, Unit::Bytes, |isa, time| measure::norm(pool, isa, &rows, s.norm, time));
        self.by_level("activation", &format!("{count} x {}", wide.width), Unit::Bytes, |isa, time| {
            measure::activation(pool, isa, &wide, function, time)
        });
        self.by_level("embed", &shape, Unit::Bytes, |isa, time| measure::embed(pool, isa, &rows, s.vocab, time));
        self.by_level("pooling", &shape, Unit::Bytes, |isa, time| {
            measure::pooling(pool, isa, &rows, Pooling::Mean, time)
        });
        self.by_level("bag", &shape, Unit::Bytes, |isa, time| measure::bag(pool, isa, &rows, s.vocab, time));
        if let Some(rope) = &s.rope {
            let shape = format!("{count} x {}", s.attention.qkv_width());
            let frequencies = rope.frequencies();
            let (factor, interleaved) = (rope.attention_factor(), rope.interleaved);
            let rope = embral_kernels::op::rope::Rope { frequencies: &frequencies, factor, interleaved };
            self.by_level("rope", &shape, Unit::Bytes, |isa, time| {
                measure::rope(pool, isa, &s.attention, (count, LENGTH), &rope, time)
            });
        }
        if s.head_norms {
            let shape = format!("{count} x {}", s.attention.qkv_width());
            self.by_level("head norm", &shape, Unit::Bytes, |isa, time| {
                measure::head_norm(pool, isa, &s.attention, count, time)
            });
        }
        self.by_level("similarity", &format!("1 x {} x {count}", s.hidden), Unit::Flops, |isa, time| {
            measure::similarity(pool, isa, count, s.hidden, time)
        });
    }
}

fn name(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
        Precision::Int8 => "int8",
    }
}

#[cfg(test)]
mod tests;
