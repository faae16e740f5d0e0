//! `tokenizer.json` and `vocab.txt` of BERT models.

use super::{Bert, BertOptions, Decoder, Vocabulary, words::Normal};
use crate::pair::PairTemplate;
use aho_corasick::{AhoCorasick, MatchKind};
use embral_types::{Error, ErrorKind, Result};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use std::{borrow::Cow, collections::HashMap, fmt};

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow, default)]
    added_tokens: Vec<Added<'a>>,
    normalizer: Normalizer,
    pre_tokenizer: PreTokenizer,
    #[serde(default)]
    post_processor: Option<PostProcessor>,
    #[serde(default)]
    decoder: Option<DecoderFile>,
    #[serde(borrow)]
    model: Model<'a>,
}

#[derive(Deserialize)]
struct Added<'a> {
    id: u32,
    #[serde(borrow)]
    content: Cow<'a, str>,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Normalizer {
    BertNormalizer { clean_text: bool, handle_chinese_chars: bool, strip_accents: Option<bool>, lowercase: bool },
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum PreTokenizer {
    BertPreTokenizer,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum PostProcessor {
    BertProcessing {
        sep: (String, u32),
        cls: (String, u32),
    },
    TemplateProcessing {
        single: Vec<Part>,
        #[serde(default)]
        pair: Vec<Part>,
        special_tokens: HashMap<String, Special>,
    },
}

#[derive(Deserialize)]
enum Part {
    SpecialToken {
        id: String,
        #[serde(default)]
        type_id: u8,
    },
    Sequence {
        id: String,
        #[serde(default)]
        type_id: u8,
    },
}

#[derive(Deserialize)]
struct Special {
    ids: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum DecoderFile {
    WordPiece { prefix: String, cleanup: bool },
}

#[derive(Deserialize)]
struct Model<'a> {
    #[serde(rename = "type")]
    _kind: Option<WordPieceTag>,
    unk_token: String,
    continuing_subword_prefix: String,
    max_input_chars_per_word: usize,
    #[serde(borrow)]
    vocab: Pieces<'a>,
}

#[derive(Deserialize)]
enum WordPieceTag {
    WordPiece,
}

/// The `vocab` object, in its order.
struct Pieces<'a>(Vec<(Cow<'a, str>, u32)>);

/// A piece, borrowed from the file where it is written without escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Pieces<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Pieces<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of pieces and ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pieces = Vec::with_capacity(30_522);
                while let Some((Text(piece), id)) = map.next_entry::<Text<'de>, u32>()? {
                    pieces.push((piece, id));
                }
                Ok(Pieces(pieces))
            }
        }
        from.deserialize_map(Read)
    }
}

impl Bert {
    /// Reads a `tokenizer.json`; nothing where it is not one, or describes a pipeline that is not exactly BERT's.
    pub(crate) fn from_json(bytes: &[u8]) -> Option<Self> {
        let file: File<'_> = serde_json::from_slice(bytes).ok()?;
        let Normalizer::BertNormalizer { clean_text, handle_chinese_chars, strip_accents, lowercase } = file.normalizer;
        let PreTokenizer::BertPreTokenizer = file.pre_tokenizer;
        let model = file.model;
        let plain = |t: &Added<'_>| !(t.single_word || t.lstrip || t.rstrip || t.normalized || t.content.is_empty());
        if !clean_text || !file.added_tokens.iter().all(plain) {
            return None;
        }
        let pieces = model.vocab.0.iter().map(|(piece, id)| (piece.as_ref(), *id));
        let vocabulary = Vocabulary::new(pieces, &model.continuing_subword_prefix)?;
        if file.added_tokens.iter().any(|t| vocabulary.id(&t.content) != Some(t.id)) {
            return None;
        }
        let (prefix, suffix, pair) = match file.post_processor {
            None => (vec![], vec![], Some(PairTemplate { segments: [0, 1], ..PairTemplate::default() })),
            Some(PostProcessor::BertProcessing { sep, cls }) => {
                (vec![cls.1], vec![sep.1], Some(PairTemplate::bert(cls.1, sep.1)))
            }
            Some(PostProcessor::TemplateProcessing { single, pair, special_tokens }) => {
                let (prefix, suffix) = template(&single, &special_tokens)?;
                (prefix, suffix, pair_template(&pair, &special_tokens))
            }
        };
        let tokens: Vec<(&str, u32)> = file.added_tokens.iter().map(|t| (t.content.as_ref(), t.id)).collect();
        Some(Self {
            unknown: vocabulary.id(&model.unk_token)?,
            vocabulary,
            normal: Normal {
                lower_case_first: false,
                split_ideographs: handle_chinese_chars,
                strip_accents: strip_accents.unwrap_or(lowercase),
                lower_case: lowercase,
            },
            max_word_chars: model.max_input_chars_per_word,
            prefix,
            suffix,
            pair,
            added: search(&tokens)?,
            special: file.added_tokens.iter().filter(|t| t.special).map(|t| t.id).collect(),
            decoder: file.decoder.map(|DecoderFile::WordPiece { prefix, cleanup }| Decoder { prefix, cleanup }),
        })
    }

    /// Reads a `vocab.txt`: one piece a line.
    pub(crate) fn from_vocab(bytes: &[u8], options: &BertOptions) -> Result<Self> {
        let malformed = |message: String| Error::new(ErrorKind::Malformed, message);
        let text =
            str::from_utf8(bytes).map_err(|e| malformed(format!("the vocabulary is not UTF-8: {e}")).because(e))?;
        let lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
        let pieces = lines.map(|line| line.strip_suffix('\r').unwrap_or(line)).zip(0..);
        let vocabulary =
            Vocabulary::new(pieces, "##").ok_or_else(|| malformed("the vocabulary is too large".into()))?;
        let id = |token: &str| vocabulary.id(token);
        let need = |token: &str| {
            id(token).ok_or_else(|| {
                malformed(format!("the vocabulary lacks {token}: expected one piece a line, as BERT has it"))
            })
        };
        let (unknown, cls, sep) = (need("[UNK]")?, need("[CLS]")?, need("[SEP]")?);
        let special: Vec<(&str, u32)> =
            ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].into_iter().filter_map(|t| Some((t, id(t)?))).collect();
        Ok(Self {
            added: search(&special).ok_or_else(|| malformed("the special tokens cannot be searched for".into()))?,
            special: special.iter().map(|&(_, id)| id).collect(),
            vocabulary,
            normal: Normal {
                lower_case_first: false,
                split_ideographs: options.split_ideographs,
                strip_accents: options.strip_accents.unwrap_or(options.lower_case),
                lower_case: options.lower_case,
            },
            max_word_chars: 100,
            unknown,
            prefix: vec![cls],
            suffix: vec![sep],
            pair: Some(PairTemplate::bert(cls, sep)),
            decoder: Some(Decoder { prefix: "##".into(), cleanup: true }),
        })
    }
}

/// The ids before and after the one sequence of a template; nothing where the template is another.
fn template(parts: &[Part], special: &HashMap<String, Special>) -> Option<(Vec<u32>, Vec<u32>)> {
    let (mut sides, mut side) = ([vec![], vec![]], 0);
    for part in parts {
        match part {
            Part::SpecialToken { id, .. } => sides[side].extend(&special.get(id)?.ids),
            Part::Sequence { id, .. } if id == "A" && side == 0 => side = 1,
            Part::Sequence { .. } => return None,
        }
    }
    let [prefix, suffix] = sides;
    (side == 1).then_some((prefix, suffix))
}

/// What a template puts around a pair; nothing where it is not one text after the other.
fn pair_template(parts: &[Part], special: &HashMap<String, Special>) -> Option<PairTemplate> {
    let (mut sides, mut side, mut segments) = ([vec![], vec![], vec![]], 0, [0, 0]);
    for part in parts {
        match part {
            Part::SpecialToken { id, type_id } => {
                sides[side].extend(special.get(id)?.ids.iter().map(|&id| (id, *type_id)));
            }
            Part::Sequence { id, type_id } if side < 2 && id == ["A", "B"][side] => {
                segments[side] = *type_id;
                side += 1;
            }
            Part::Sequence { .. } => return None,
        }
    }
    let [before, between, after] = sides;
    (side == 2).then_some(PairTemplate { before, between, after, segments })
}

type Search = (AhoCorasick, Vec<u32>);

/// A search for `tokens` in raw text; the outer nothing is a failure to build it.
fn search(tokens: &[(&str, u32)]) -> Option<Option<Search>> {
    if tokens.is_empty() {
        return Some(None);
    }
    let search =
        AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(tokens.iter().map(|(t, _)| t)).ok()?;
    Some(Some((search, tokens.iter().map(|&(_, id)| id).collect())))
}
