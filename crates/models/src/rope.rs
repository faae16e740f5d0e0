//! Rotary positions: how configurations state them, and the frequencies they mean.

use crate::config::{Config, limit, malformed, unsupported};
use embral_types::Result;
use std::f64::consts::TAU;

/// Rotary position embedding: pair `i` at position `p` turns by `p` times the frequency of `i`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeSpec {
    /// The base of the frequencies: `theta^(-2i / rotary_dims)`, before any scaling.
    pub theta: f32,
    /// Leading components of a head that are rotated; even.
    pub rotary_dims: usize,
    /// Whether a pair is `(2i, 2i + 1)` rather than `(i, i + rotary_dims / 2)`.
    pub interleaved: bool,
    /// What becomes of the frequencies in a model made for longer texts than it was first trained with.
    pub scaling: RopeScaling,
}

/// A change of the frequencies `w`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// None.
    None,
    /// `w / factor`.
    Linear {
        /// How much longer texts became.
        factor: f32,
    },
    /// `(factor theta)^(-2i / rotary_dims) / factor^(2 / rotary_dims)`: the fixed NTK form of Alibaba's models.
    Ntk {
        /// How much longer texts became.
        factor: f32,
    },
    /// Low frequencies divided by `factor`, high ones as they are, a ramp between; sines and cosines times `attention`.
    Yarn {
        /// How much longer texts became.
        factor: f32,
        /// Positions it was first trained with.
        original: usize,
        /// Turns over `original` above which a frequency stays.
        fast: f32,
        /// Turns over `original` below which a frequency is divided.
        slow: f32,
        /// Whether the ends of the ramp are whole numbers.
        truncate: bool,
        /// What sines and cosines are multiplied by.
        attention: f32,
    },
    /// As in Llama 3.1: low frequencies divided by `factor`, high ones as they are, and what is between interpolated by wavelength.
    Llama3 {
        /// How much longer texts became.
        factor: f32,
        /// Positions it was first trained with.
        original: usize,
        /// Wavelengths above `original / low` are divided.
        low: f32,
        /// Wavelengths below `original / high` stay.
        high: f32,
    },
}

impl RopeSpec {
    /// The frequency of each pair, `[rotary_dims / 2]`. Each step is rounded to f32, as in the code that the models were trained with.
    pub fn frequencies(&self) -> Vec<f32> {
        let dims = self.rotary_dims;
        let exponent = |i: usize| (2 * i) as f32 / dims as f32;
        let power = |theta: f32, i: usize| f64::from(theta).powf(f64::from(exponent(i))) as f32;
        let plain = (0..dims / 2).map(|i| 1.0 / power(self.theta, i));
        match self.scaling {
            RopeScaling::None => plain.collect(),
            RopeScaling::Linear { factor } => plain.map(|w| w / factor).collect(),
            RopeScaling::Ntk { factor } => {
                let divisor = f64::from(factor).powf(2.0 / dims as f64) as f32;
                (0..dims / 2).map(|i| 1.0 / power(self.theta * factor, i) / divisor).collect()
            }
            RopeScaling::Yarn { factor, original, fast, slow, truncate, .. } => {
                let ends = self.ramp(original, fast, slow, truncate);
                let ramp = |i: usize| ((i as f32 - ends[0]) / (ends[1] - ends[0])).clamp(0.0, 1.0);
                let divided = |i: usize| 1.0 / (factor * power(self.theta, i));
                plain.enumerate().map(|(i, w)| divided(i) * ramp(i) + w * (1.0 - ramp(i))).collect()
            }
            RopeScaling::Llama3 { factor, original, low, high } => {
                let original = original as f32;
                let scaled = |w: f32| {
                    let wavelength = TAU as f32 / w;
                    if wavelength > original / low {
                        w / factor
                    } else if wavelength < original / high {
                        w
                    } else {
                        let smooth = (original / wavelength - low) / (high - low);
                        (1.0 - smooth) * w / factor + smooth * w
                    }
                };
                plain.map(scaled).collect()
            }
        }
    }

    /// Refuses numbers that make frequencies which are none.
    fn checked(self) -> Result<Self> {
        if self.frequencies().iter().all(|w| w.is_finite()) {
            return Ok(self);
        }
        Err(malformed(format!("rope_theta: expected a base of finite frequencies, found {}", self.theta)))
    }

    /// What sines and cosines are multiplied by.
    pub fn attention_factor(&self) -> f32 {
        match self.scaling {
            RopeScaling::Yarn { attention, .. } => attention,
            _ => 1.0,
        }
    }

    /// The pairs between which YaRN goes from frequencies as they are to divided ones.
    fn ramp(&self, original: usize, fast: f32, slow: f32, truncate: bool) -> [f32; 2] {
        let dims = self.rotary_dims as f64;
        let pair =
            |turns: f32| dims * (original as f64 / (f64::from(turns) * TAU)).ln() / (2.0 * f64::from(self.theta).ln());
        let (mut low, mut high) = (pair(fast), pair(slow));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(dims - 1.0));
        if low == high {
            high += 0.001;
        }
        [low as f32, high as f32]
    }
}

/// The keys of a configuration that hold rotary positions, newest last: `rope_parameters` is of transformers 5.
const OBJECTS: [&str; 2] = ["rope_scaling", "rope_parameters"];

/// The rotary positions of every layer: `rope_parameters`, or before it `rope_theta` beside `rope_scaling`.
pub(crate) fn read(config: Config<'_>, default_theta: f32, rotary_dims: usize) -> Result<RopeSpec> {
    let theta = config.positive_or("rope_theta", default_theta)?;
    let mut rope = RopeSpec { theta, rotary_dims, interleaved: false, scaling: RopeScaling::None };
    for key in OBJECTS {
        if let Some(object) = config.object(key)? {
            rope = refine(config, object, rope).map_err(|e| malformed_in(key, &e))?;
        }
    }
    rope.checked()
}

/// As [`read`], for one kind of layer of a model whose layers differ; `theta` is what stands outside of `rope_parameters`, and
/// `scaled` says whether a `rope_scaling` is about this kind as well.
pub(crate) fn read_kind(
    config: Config<'_>,
    kind: &str,
    theta: f32,
    rotary_dims: usize,
    scaled: bool,
) -> Result<RopeSpec> {
    let mut rope = RopeSpec { theta, rotary_dims, interleaved: false, scaling: RopeScaling::None };
    let [old, new] = OBJECTS;
    if let Some(object) = config.object(old)?.filter(|_| scaled) {
        rope = refine(config, object, rope).map_err(|e| malformed_in(old, &e))?;
    }
    let in_key = |e| malformed_in(new, &e);
    if let Some(object) = config.object(new)?.map(|all| all.object(kind)).transpose().map_err(in_key)?.flatten() {
        rope = refine(config, object, rope).map_err(in_key)?;
    }
    rope.checked()
}

/// `rope` with what an object of `OBJECTS` says.
pub(crate) fn refine(config: Config<'_>, object: Config<'_>, rope: RopeSpec) -> Result<RopeSpec> {
    let theta = object.positive_or("rope_theta", rope.theta)?;
    let part = object.positive_or("partial_rotary_factor", 1.0)?;
    let rotary_dims = (rope.rotary_dims as f32 * part) as usize;
    if part > 1.0 || rotary_dims < 2 || !rotary_dims.is_multiple_of(2) {
        let message = format!("partial_rotary_factor: expected an even number of rotated components, found {part}");
        return Err(malformed(message));
    }
    let factor = || match object.positive_or("factor", 0.0)? {
        0.0 => Err(malformed("factor: the number is missing")),
        factor => Ok(factor),
    };
    let original = || match object.optional_number("original_max_position_embeddings", limit::POSITIONS)? {
        Some(original) => Ok(original),
        None => config.number("max_position_embeddings", limit::POSITIONS),
    };
    let scaling = match object.text("rope_type")?.or(object.text("type")?).unwrap_or("default") {
        // "dynamic" changes only texts above max_position_embeddings, which are cut.
        "default" | "dynamic" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: factor()? },
        "ntk" => {
            if object.get("mixed_b").is_some() {
                return Err(unsupported("mixed_b: a mixed NTK scaling is not done by this version"));
            }
            RopeScaling::Ntk { factor: factor()? }
        }
        "yarn" => yarn(object, factor()?, original()?)?,
        "llama3" => {
            let (low, high) =
                (object.positive_or("low_freq_factor", 1.0)?, object.positive_or("high_freq_factor", 4.0)?);
            if low >= high {
                return Err(malformed(format!("high_freq_factor: expected more than {low}, found {high}")));
            }
            RopeScaling::Llama3 { factor: factor()?, original: original()?, low, high }
        }
        other => {
            return Err(unsupported(format!(
                "rope_type: expected default, dynamic, linear, ntk, yarn or llama3, found {other:?}"
            )));
        }
    };
    Ok(RopeSpec { theta, rotary_dims, scaling, ..rope })
}

fn yarn(object: Config<'_>, factor: f32, original: usize) -> Result<RopeScaling> {
    let scale = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * f64::from(factor).ln() + 1.0 };
    let (mscale, all) = (object.positive_or("mscale", 0.0)?, object.positive_or("mscale_all_dim", 0.0)?);
    let inferred =
        if mscale > 0.0 && all > 0.0 { scale(f64::from(mscale)) / scale(f64::from(all)) } else { scale(1.0) };
    Ok(RopeScaling::Yarn {
        factor,
        original,
        fast: object.positive_or("beta_fast", 32.0)?,
        slow: object.positive_or("beta_slow", 1.0)?,
        truncate: object.flag_or("truncate", true)?,
        attention: object.positive_or("attention_factor", inferred as f32)?,
    })
}

fn malformed_in(key: &str, e: &embral_types::Error) -> embral_types::Error {
    embral_types::Error::new(e.kind(), format!("{key}: {}", e.message()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(value: &Value) -> Result<RopeSpec> {
        read(Config::of(value)?, 10_000.0, 16)
    }

    fn close(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (f, e) in found.iter().zip(expected) {
            assert!((f / e - 1.0).abs() < 3e-7, "{found:?}, expected {expected:?}");
        }
    }

    /// The numbers are those of the functions of transformers 5.23 for heads of 16.
    #[test]
    fn frequencies_are_those_of_the_reference() {
        let plain = [1.0, 0.316_227_76, 0.1, 0.031_622_775, 0.01, 0.003_162_277_8, 0.001, 0.000_316_227_77];
        close(&spec(&json!({})).unwrap().frequencies(), &plain);
        let linear = json!({"rope_scaling": {"type": "linear", "factor": 4.0}});
        close(&spec(&linear).unwrap().frequencies(), &plain.map(|w| w / 4.0));
        // (2 · 10⁴)^(-i/8) / 2^(1/8).
        let ntk = json!({"rope_scaling": {"type": "ntk", "factor": 2.0}});
        close(&spec(&ntk).unwrap().frequencies()[..2], &[0.917_004_04, 0.265_914_8]);
        let yarn = json!({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}});
        let yarn = spec(&yarn).unwrap();
        close(&yarn.frequencies()[..4], &[1.0, 0.256_935_06, 0.0625, 0.013_834_965]);
        close(&yarn.frequencies()[4..], &plain.map(|w| w / 4.0)[4..]);
        close(&[yarn.attention_factor()], &[1.138_629_4]);
        let llama = json!({"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 256}});
        let llama = spec(&llama).unwrap().frequencies();
        close(&llama[..4], &[1.0, 0.316_227_76, 0.1, 0.006_613_107]);
        close(&llama[4..], &plain.map(|w| w / 8.0)[4..]);
        let dynamic = json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}});
        close(&spec(&dynamic).unwrap().frequencies(), &plain);
    }

    #[test]
    fn the_newest_form_wins_and_errors_name_their_key() {
        let both =
            json!({"rope_theta": 5e5, "rope_scaling": {"rope_theta": 7.0}, "rope_parameters": {"rope_theta": 9.0}});
        assert_eq!(spec(&both).unwrap().theta, 9.0);
        let partial = json!({"rope_parameters": {"partial_rotary_factor": 0.5}});
        assert_eq!(spec(&partial).unwrap().rotary_dims, 8);
        for (object, found) in [
            (json!({"type": "longrope"}), "found \"longrope\""),
            (json!({"type": "linear"}), "factor: the number is missing"),
            (json!({"type": "linear", "factor": -1}), "factor: expected a positive number"),
            (json!({"type": "yarn", "factor": 2}), "max_position_embeddings: the number is missing"),
            (json!({"type": "ntk", "factor": 2, "mixed_b": 0.5}), "mixed_b"),
            (json!({"type": "llama3", "low_freq_factor": 4}), "high_freq_factor"),
            (json!({"partial_rotary_factor": 0.1}), "partial_rotary_factor"),
            (json!({"partial_rotary_factor": 2}), "partial_rotary_factor"),
        ] {
            let e = spec(&json!({"rope_parameters": object})).unwrap_err();
            assert!(e.message().starts_with("rope_parameters: ") && e.message().contains(found), "{e}");
        }
        let endless = json!({"rope_scaling": {"type": "linear", "factor": 1e-39}});
        assert!(spec(&endless).unwrap_err().message().starts_with("rope_theta: "));
    }
}
