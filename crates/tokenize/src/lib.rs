//! Text to token ids and back, as sentence-transformers does it.
//!
//! A [`Tokenizer`] is read from a `tokenizer.json`, a BERT `vocab.txt`, or the `vocab.json` and `merges.txt` of RoBERTa. The pipeline of BERT models (`BertNormalizer`,
//! `BertPreTokenizer`, WordPiece) is run by code of this crate, which works through the text from left to right and stops where
//! the limit is reached; every other pipeline by the `tokenizers` crate. Both give the same ids.

mod bert;
mod general;
mod options;
mod pair;
mod roberta;
mod span;
mod tokenizer;

pub use bert::BertOptions;
pub use options::{Options, Truncation};
pub use span::{Parts, Span};
pub use tokenizer::{Encoded, Tokenizer};
