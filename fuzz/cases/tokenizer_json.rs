//! A `tokenizer.json`: an accepted one encodes within its vocabulary and its limit.

use embral_tokenize::{Options, Tokenizer, Truncation};

const TEXTS: &[&str] =
    &["", " ", "a cat sat on the mat", "e\u{301} \u{0} \u{4f60}\u{597d} \u{1f469}\u{200d}\u{1f680} [MASK] ##ing"];

pub(crate) fn case(bytes: &[u8]) {
    let Ok(tokenizer) = Tokenizer::from_bytes(bytes) else { return };
    let size = tokenizer.vocab_size();
    let _ = tokenizer.median_token_chars();
    for text in TEXTS {
        let Ok(encoded) = tokenizer.encode(text, "query: ") else { continue };
        assert!(encoded.ids.iter().all(|&id| (id as usize) < size), "{:?} in a vocabulary of {size}", encoded.ids);
        assert!(encoded.prompt_tokens <= encoded.ids.len());
        let _ = tokenizer.decode(&encoded.ids);
    }
    let options = Options { max_tokens: Some(6), truncation: Truncation::Left, lower_case: true, ..Options::default() };
    let Ok(tokenizer) = tokenizer.with(options) else { return };
    for text in TEXTS {
        if let Ok(encoded) = tokenizer.encode(text, "") {
            assert!(encoded.ids.len() <= 6, "{:?}", encoded.ids);
        }
    }
}
