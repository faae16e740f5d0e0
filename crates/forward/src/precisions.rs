//! Which numbers each product of a transformer is made of.

use embral_models::{Blueprint, Role};
use embral_types::Precision;

/// A part of a block that is made of products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Site {
    /// Query, key and value.
    Qkv,
    /// Scores and weighted values; of 8-bit integers it is what a backend has in their place.
    Attention,
    /// The projection of the heads.
    Out,
    /// The first layer of the perceptron, and its gate.
    Up,
    /// The second layer of the perceptron.
    Down,
}

impl Site {
    /// Every site, in the order in which a block comes to them.
    pub const ALL: [Self; 5] = [Self::Qkv, Self::Attention, Self::Out, Self::Up, Self::Down];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qkv => "qkv",
            Self::Attention => "attention",
            Self::Out => "out",
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    /// Its weights in a block, as far as their rows are outputs; a gate where the model has one.
    pub fn roles(self, blueprint: &Blueprint, layer: usize) -> &'static [Role] {
        let (gated, experts) = (blueprint.mlp.gated, blueprint.mlp.experts_of(layer).is_some());
        match self {
            Self::Qkv => &[Role::Query, Role::Key, Role::Value],
            Self::Attention => &[],
            Self::Out => &[Role::AttentionOut],
            Self::Up if experts => &[Role::ExpertsUp],
            Self::Down if experts => &[],
            Self::Up if gated => &[Role::Gate, Role::Up],
            Self::Up => &[Role::Up],
            Self::Down => &[Role::Down],
        }
    }
}

/// The precision of each site of each block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precisions {
    /// Of every site that is no exception.
    pub standard: Precision,
    /// Layer, site and its precision; of two for one site, the first counts.
    pub exceptions: Vec<(usize, Site, Precision)>,
}

impl Precisions {
    /// The precision of a site.
    pub fn of(&self, layer: usize, site: Site) -> Precision {
        let exception = self.exceptions.iter().find(|(l, s, _)| (*l, *s) == (layer, site));
        exception.map_or(self.standard, |(_, _, precision)| *precision)
    }
}

impl From<Precision> for Precisions {
    fn from(standard: Precision) -> Self {
        Self { standard, exceptions: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_is_for_its_layer_and_site_only() {
        let plan = Precisions {
            exceptions: vec![(1, Site::Down, Precision::Bf16), (1, Site::Down, Precision::F32)],
            ..Precision::Int8.into()
        };
        for layer in 0..3 {
            for site in Site::ALL {
                let wanted = if (layer, site) == (1, Site::Down) { Precision::Bf16 } else { Precision::Int8 };
                assert_eq!(plan.of(layer, site), wanted, "{layer} {}", site.name());
            }
        }
    }
}
