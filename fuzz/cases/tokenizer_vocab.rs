//! A BERT `vocab.txt`: an accepted one encodes any text within its vocabulary. The text is the file itself.

use embral_tokenize::{BertOptions, Tokenizer};

pub(crate) fn case(bytes: &[u8]) {
    let Ok(tokenizer) = Tokenizer::from_vocab_bytes(bytes, &BertOptions::default()) else { return };
    let text = String::from_utf8_lossy(bytes);
    let Ok(encoded) = tokenizer.encode(&text, "") else { return };
    assert!(encoded.ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
    let _ = tokenizer.decode(&encoded.ids);
}
