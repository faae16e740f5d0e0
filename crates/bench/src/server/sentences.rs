//! Texts that a server is asked for: English of a small grammar, the same for the same seed, no two alike.

use super::figures::Random;
use embral::{Error, ErrorKind};
use std::{collections::HashSet, str::FromStr};

/// How long the texts are. The lengths are in tokens of a WordPiece vocabulary of English, special tokens included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// Questions of about 11 tokens.
    Query,
    /// Sentences of about 27 tokens.
    #[default]
    Sentence,
    /// Passages of about 145 tokens.
    Passage,
    /// All lengths from a question to about 250 tokens, equally often.
    Mixed,
}

impl FromStr for Shape {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "query" => Ok(Self::Query),
            "sentence" => Ok(Self::Sentence),
            "passage" => Ok(Self::Passage),
            "mixed" => Ok(Self::Mixed),
            _ => Err(Error::new(
                ErrorKind::InvalidInput,
                format!("unknown shape {name:?}: expected query, sentence, passage or mixed"),
            )),
        }
    }
}

/// The most sentences of a text of [`Shape::Mixed`].
const MIXED: usize = 9;

/// `count` different texts of a shape.
pub fn texts(shape: Shape, count: usize, seed: u64) -> Vec<String> {
    let mut random = Random::new(seed);
    let mut seen = HashSet::new();
    let mut texts = Vec::with_capacity(count);
    while texts.len() < count {
        let sentences = match shape {
            Shape::Query => 0,
            Shape::Sentence => 1,
            Shape::Passage => 6,
            Shape::Mixed => random.below(MIXED + 1),
        };
        let text = match sentences {
            0 => question(&mut random),
            n => (0..n).map(|_| sentence(&mut random)).collect::<Vec<_>>().join(" "),
        };
        if seen.insert(text.clone()) {
            texts.push(text);
        }
    }
    texts
}

fn pick(random: &mut Random, words: &[&'static str]) -> &'static str {
    words[random.below(words.len())]
}

fn question(random: &mut Random) -> String {
    let [asks, adjective, noun, verb, object] =
        [ASKS, ADJECTIVES, NOUNS, VERBS, NOUNS].map(|words| pick(random, words));
    format!("{asks} the {adjective} {noun} {verb} the {object}?")
}

fn clause(random: &mut Random) -> String {
    let [adjective, noun, verb, other, object, place, where_] =
        [ADJECTIVES, NOUNS, PAST, ADJECTIVES, NOUNS, PREPOSITIONS, NOUNS].map(|words| pick(random, words));
    format!("the {adjective} {noun} {verb} the {other} {object} {place} the {where_}")
}

fn sentence(random: &mut Random) -> String {
    let (first, link, second) = (clause(random), pick(random, LINKS), clause(random));
    format!("T{}, {link} {second}.", &first[1..])
}

const ASKS: &[&str] =
    &["how does", "why does", "when does", "where does", "how can", "why can", "when will", "how should"];
const LINKS: &[&str] = &["and", "but", "while", "because", "although", "before", "after", "since"];
const PREPOSITIONS: &[&str] = &["near", "behind", "in", "under", "beside", "above", "from", "at", "inside", "against"];
const ADJECTIVES: &[&str] = &[
    "old", "young", "green", "quiet", "heavy", "early", "late", "northern", "wooden", "small", "large", "broken",
    "bright", "cold", "warm", "narrow", "wide", "famous", "rare", "common", "modern", "ancient", "public", "private",
    "simple", "complex", "local", "foreign", "rapid", "slow", "empty", "open",
];
const NOUNS: &[&str] = &[
    "river", "teacher", "engine", "market", "garden", "window", "doctor", "bridge", "letter", "machine", "forest",
    "village", "captain", "museum", "planet", "theory", "court", "student", "factory", "kitchen", "mountain",
    "library", "station", "farmer", "signal", "battery", "island", "painter", "harbor", "language", "company",
    "animal", "castle", "recipe", "camera", "winter", "border", "budget", "protein", "cell", "hospital", "author",
    "road", "song", "storm", "network", "computer", "tree",
];
const VERBS: &[&str] = &[
    "reach", "change", "repair", "follow", "protect", "measure", "describe", "replace", "support", "cross", "explain",
    "carry", "remember", "produce", "visit", "compare", "leave", "build", "study", "find",
];
const PAST: &[&str] = &[
    "reached",
    "changed",
    "repaired",
    "followed",
    "protected",
    "measured",
    "described",
    "replaced",
    "supported",
    "crossed",
    "explained",
    "carried",
    "remembered",
    "produced",
    "visited",
    "compared",
    "left",
    "built",
    "studied",
    "found",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Words and marks, with the two special tokens: every word of the grammar is one piece of an English vocabulary.
    fn tokens(text: &str) -> usize {
        2 + text.split(' ').count() + text.matches(['.', ',', '?']).count()
    }

    #[test]
    fn the_shapes_have_their_lengths() {
        for (name, least, most) in
            [("query", 9.5, 12.0), ("sentence", 25.0, 29.0), ("passage", 130.0, 160.0), ("mixed", 100.0, 140.0)]
        {
            let texts = texts(name.parse().unwrap(), 500, 3);
            let mean = texts.iter().map(|t| tokens(t)).sum::<usize>() as f64 / 500.0;
            assert!((least..most).contains(&mean), "{name}: {mean}");
        }
        let mixed: Vec<usize> = texts(Shape::Mixed, 500, 3).iter().map(|t| tokens(t)).collect();
        assert!(mixed.iter().min() < Some(&12) && mixed.iter().max() > Some(&200), "{mixed:?}");
        assert!("paragraph".parse::<Shape>().unwrap_err().to_string().contains("query, sentence, passage or mixed"));
    }

    #[test]
    fn a_seed_gives_its_texts_and_no_two_are_alike() {
        let queries = texts(Shape::Query, 5000, 1);
        assert_eq!(queries.iter().collect::<HashSet<_>>().len(), 5000);
        assert_eq!(queries[..100], texts(Shape::Query, 100, 1));
        assert_ne!(queries[..100], texts(Shape::Query, 100, 2));
    }
}
