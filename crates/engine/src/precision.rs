//! Parts of a model in other numbers than the rest of it.

use embral_forward::{Precisions, Site};
use embral_types::{Error, ErrorKind, Precision, Result};
use std::{fmt, str::FromStr};

pub use embral_forward::Site as Part;

/// A part of a layer, and the numbers in which it is computed: an element of [`Config::parts`](crate::Config::parts).
///
/// As text it is `LAYER.PART=PRECISION`, the layer counted from 0.
///
/// ```
/// use embral::{Part, PartPrecision, Precision};
/// let down: PartPrecision = "5.down=bf16".parse()?;
/// assert_eq!(down, PartPrecision { layer: 5, part: Part::Down, precision: Precision::Bf16 });
/// assert_eq!(down.to_string(), "5.down=bf16");
/// # Ok::<(), embral::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartPrecision {
    /// The layer, from 0.
    pub layer: usize,
    /// The part of it.
    pub part: Part,
    /// Its numbers. Attention has no product of 8-bit integers: with int8 it is computed in bf16 or f32.
    pub precision: Precision,
}

impl fmt::Display for PartPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}={}", self.layer, self.part.name(), self.precision)
    }
}

impl FromStr for PartPrecision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |what: String| {
            let message = format!("{text:?}: {what}");
            Error::new(ErrorKind::InvalidInput, message).hint("write LAYER.PART=PRECISION, such as 5.down=bf16")
        };
        let (place, precision) =
            text.split_once('=').ok_or_else(|| invalid("expected a = before the precision".into()))?;
        let (layer, name) =
            place.split_once('.').ok_or_else(|| invalid("expected a dot between layer and part".into()))?;
        let part = Site::ALL.into_iter().find(|part| part.name() == name).ok_or_else(|| {
            let known = Site::ALL.map(Site::name).join(", ");
            invalid(format!("unknown part {name:?}: expected one of {known}"))
        })?;
        let layer = layer.parse().map_err(|_| invalid(format!("expected the number of a layer, found {layer:?}")))?;
        Ok(Self { layer, part, precision: precision.parse()? })
    }
}

/// The precision of each part.
pub(crate) fn of(standard: Precision, parts: &[PartPrecision]) -> Precisions {
    let exceptions = parts.iter().map(|p| (p.layer, p.part, p.precision)).collect();
    Precisions { standard, exceptions }
}

/// Fails where a part is not one of a model of `layers` layers, or is named twice.
pub(crate) fn check(parts: &[PartPrecision], layers: usize) -> Result<()> {
    for (i, part) in parts.iter().enumerate() {
        if part.layer >= layers {
            let message =
                format!("{part}: expected a layer below {layers}, the layers of the model, found {}", part.layer);
            return Err(Error::new(ErrorKind::InvalidInput, message).hint("layers are counted from 0"));
        }
        if let Some(other) = parts[..i].iter().find(|other| (other.layer, other.part) == (part.layer, part.part)) {
            let message = format!("expected one precision for each part, found {other} and {part}");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_no_part_says_what_is() {
        let fails = |text: &str| text.parse::<PartPrecision>().unwrap_err().to_string();
        assert!(fails("5.down").contains("expected a = before the precision"));
        assert!(fails("down=bf16").contains("expected a dot"));
        assert!(fails("x.down=bf16").contains("found \"x\""));
        assert!(fails("1.gate=bf16").contains("qkv, attention, out, up, down"));
        assert!(fails("1.up=f8").contains("unknown precision"));
        for part in Part::ALL {
            let all = PartPrecision { layer: 11, part, precision: Precision::F32 };
            assert_eq!(all.to_string().parse::<PartPrecision>().unwrap(), all);
        }
    }

    #[test]
    fn parts_are_of_the_model_and_named_once() {
        let parts = |texts: &[&str]| -> Vec<PartPrecision> { texts.iter().map(|t| t.parse().unwrap()).collect() };
        check(&parts(&["0.up=bf16", "1.up=f32", "1.qkv=f32"]), 2).unwrap();
        assert!(check(&parts(&["2.up=bf16"]), 2).unwrap_err().to_string().contains("below 2"));
        let twice = check(&parts(&["1.up=bf16", "1.up=f32"]), 2).unwrap_err();
        assert!(twice.to_string().contains("found 1.up=bf16 and 1.up=f32"), "{twice}");
    }
}
