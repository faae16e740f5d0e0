//! The figures as a table and as JSON.

use serde::Serialize;
use std::fmt;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The name of the CPU.
    pub cpu: String,
    /// The level in use.
    pub isa: &'static str,
    /// Threads that worked.
    pub threads: usize,
    /// The model that the shapes are from.
    pub model: String,
    /// What the instructions can do at most.
    pub peaks: Vec<Peak>,
    /// One a kernel, precision, shape and variant.
    pub rows: Vec<Row>,
}

/// The most that the instructions of one variant do.
#[derive(Clone, Debug, Serialize)]
pub struct Peak {
    /// The numbers that are multiplied.
    pub precision: &'static str,
    /// The instructions.
    pub variant: String,
    /// Additions and multiplications a second, of all threads.
    pub per_second: f64,
    /// Whether products of this precision take it.
    pub pick: bool,
}

/// One variant of a kernel at one shape.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The kernel, or the layer that a product is of.
    pub kernel: &'static str,
    /// The numbers that are multiplied, in kernels where there is a choice.
    pub precision: Option<&'static str>,
    /// Rows, inputs and outputs; sequences and their length; rows and their width.
    pub shape: String,
    /// The instructions.
    pub variant: String,
    /// Whether the dispatcher takes it for this precision.
    pub pick: bool,
    /// The fastest call.
    pub microseconds: f64,
    /// Operations or bytes a second.
    pub per_second: f64,
    /// Of what.
    pub unit: Unit,
    /// The part of the peak of its instructions, 0 to 1.
    pub share: Option<f64>,
}

/// What a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// Additions and multiplications of floats.
    #[serde(rename = "FLOP/s")]
    Flops,
    /// Additions and multiplications of integers.
    #[serde(rename = "OP/s")]
    Ops,
    /// Bytes read and written.
    #[serde(rename = "B/s")]
    Bytes,
}

impl Unit {
    fn in_billions(self) -> &'static str {
        match self {
            Self::Flops => "GFLOP/s",
            Self::Ops => "GOP/s",
            Self::Bytes => "GB/s",
        }
    }
}

impl Report {
    /// One JSON object; rates are in units, not in billions.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("names and numbers are JSON") + "\n"
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, isa, threads, model, peaks, rows } = self;
        writeln!(f, "{cpu}, {isa}, {threads} threads, shapes of {model}; * is what embral takes")?;
        writeln!(f, "\npeak of the instructions, registers only")?;
        let width = peaks.iter().map(|p| p.variant.len()).max().unwrap_or(0);
        for p in peaks {
            let unit = if p.precision == "int8" { Unit::Ops } else { Unit::Flops }.in_billions();
            let (mark, precision, variant) = (mark(p.pick), p.precision, &p.variant);
            writeln!(f, "{mark} {precision:<5} {variant:<width$} {:>8.1} {unit}", p.per_second / 1e9)?;
        }
        // A kernel is a block, its shapes columns, its variants lines.
        for block in rows.chunk_by(|a, b| a.kernel == b.kernel) {
            let mut shapes: Vec<&str> = Vec::new();
            let mut lines: Vec<(Option<&str>, &str, bool)> = Vec::new();
            for row in block {
                if !shapes.contains(&row.shape.as_str()) {
                    shapes.push(&row.shape);
                }
                let line = (row.precision, row.variant.as_str(), row.pick);
                if !lines.contains(&line) {
                    lines.push(line);
                }
            }
            let unit = match block[0].unit {
                Unit::Bytes => "GB/s",
                _ if block.iter().any(|row| row.share.is_some()) => "GFLOP/s or GOP/s, and the share of the peak",
                unit => unit.in_billions(),
            };
            writeln!(f, "\n{}, {unit}", block[0].kernel)?;
            let cells = shapes.iter().map(|shape| shape.len().max(14)).collect::<Vec<_>>();
            write!(f, "{:<8} {:<width$}", "", "")?;
            for (shape, cell) in shapes.iter().zip(&cells) {
                write!(f, "  {shape:>cell$}")?;
            }
            writeln!(f)?;
            for (precision, variant, pick) in lines {
                write!(f, "{} {:<6} {variant:<width$}", mark(pick), precision.unwrap_or(""))?;
                for (shape, cell) in shapes.iter().zip(&cells) {
                    let here = |row: &&Row| {
                        row.shape == *shape
                            && (row.precision, row.variant.as_str(), row.pick) == (precision, variant, pick)
                    };
                    let text = block.iter().find(here).map_or_else(String::new, |row| {
                        let share = row.share.map_or_else(String::new, |share| format!(" {:>4.0} %", 100.0 * share));
                        format!("{:.1}{share}", row.per_second / 1e9)
                    });
                    write!(f, "  {text:>cell$}")?;
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

fn mark(pick: bool) -> char {
    if pick { '*' } else { ' ' }
}
