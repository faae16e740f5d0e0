//! Choices with names: what a model does in a place where models differ, and how it is computed.

use crate::{Error, ErrorKind};
use std::{fmt, str::FromStr};

/// How the token rows of a sequence become one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// The mean of the rows.
    Mean,
    /// The first row.
    Cls,
    /// The largest value of each component.
    Max,
    /// The last row.
    Last,
}

impl Pooling {
    /// Every pooling, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Mean, Self::Cls, Self::Max, Self::Last];

    /// The name in sentence-transformers configurations and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
            Self::Max => "max",
            Self::Last => "lasttoken",
        }
    }
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Pooling {
    type Err = Error;

    /// Takes the names of [`Pooling::name`], and `last` and `last-token` for [`Pooling::Last`].
    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "mean" => Ok(Self::Mean),
            "cls" => Ok(Self::Cls),
            "max" => Ok(Self::Max),
            "last" | "lasttoken" | "last-token" => Ok(Self::Last),
            _ => Err(Error::new(
                ErrorKind::Unsupported,
                format!("unknown pooling {name:?}: expected mean, cls, max or last"),
            )),
        }
    }
}

/// In which numbers a model is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 32-bit floats throughout.
    #[default]
    F32,
    /// Products of bf16, with sums and everything else in f32.
    Bf16,
    /// Linear layers of 8-bit integers (weights by column, activations by row), attention in bf16, everything else in f32.
    Int8,
}

impl Precision {
    /// Every precision, most exact first.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::Int8];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|precision| precision.name() == name).ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, format!("unknown precision {name:?}: expected f32, bf16 or int8"))
        })
    }
}

/// The function between the two linear layers of a block. The forms of GELU differ by up to 5e-4 and are never merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x`.
    Identity,
    /// `x Φ(x)`, with the exact normal distribution function.
    GeluErf,
    /// `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
    GeluTanh,
    /// `x / (1 + exp(-x))`.
    Silu,
    /// `max(x, 0)`.
    Relu,
    /// `tanh(x)`.
    Tanh,
}

/// What a row is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NormKind {
    /// `(x - mean) / √(var + ε) · γ + β`.
    Layer,
    /// `x / √(mean(x²) + ε) · γ`.
    Rms,
}

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mask {
    /// All of its sequence.
    Full,
    /// Itself and those before it.
    Causal,
    /// Those at most so many places away, on either side.
    Window(usize),
    /// Itself and those at most so many places before it.
    CausalWindow(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_to_itself_and_others_are_refused() {
        for pooling in Pooling::ALL {
            assert_eq!(pooling.name().parse::<Pooling>().unwrap(), pooling);
        }
        assert!("average".parse::<Pooling>().unwrap_err().to_string().contains("expected mean"));
        for precision in Precision::ALL {
            assert_eq!(precision.name().parse::<Precision>().unwrap(), precision);
        }
        assert!("f8".parse::<Precision>().unwrap_err().to_string().contains("f8"));
    }
}
