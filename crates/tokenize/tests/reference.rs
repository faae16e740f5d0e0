//! Against the `tokenizers` crate, on a vocabulary small enough to be written here.

use embral_tokenize::{BertOptions, Options, Tokenizer, Truncation};
use embral_types::{Batch, ErrorKind};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Specials, letters with and without the continuation prefix, a few words and signs of several scripts.
fn pieces() -> Vec<String> {
    let mut pieces: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned).to_vec();
    for c in "abcdefghilmnorstuw0123é中文ñяßa\u{301}".chars().filter(|c| *c != '\u{301}') {
        pieces.push(c.to_string());
        pieces.push(format!("##{c}"));
    }
    pieces.extend(
        [".", ",", "!", "-", "¿", "the", "##ing", "hello", "##llo", "world", "un", "##able", "H", "##É"]
            .map(str::to_owned),
    );
    let mut seen = std::collections::HashSet::new();
    pieces.retain(|piece| seen.insert(piece.clone()));
    pieces
}

fn file(normalizer: &Value) -> Value {
    let vocab: serde_json::Map<String, Value> = pieces().into_iter().zip(0..).map(|(p, i)| (p, json!(i))).collect();
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    json!({
        "version": "1.0",
        "truncation": {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]"), special(2, "[CLS]"), special(3, "[SEP]"), special(4, "[MASK]")],
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 20, "vocab": vocab},
    })
}

fn normalizer(lowercase: bool, strip_accents: Option<bool>, ideographs: bool) -> Value {
    json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": ideographs,
           "strip_accents": strip_accents, "lowercase": lowercase})
}

fn settings() -> Vec<Value> {
    [(true, None, true), (false, None, true), (false, Some(true), false), (true, Some(false), true)]
        .map(|(lowercase, strip, ideographs)| normalizer(lowercase, strip, ideographs))
        .to_vec()
}

fn ours(file: &Value, options: Options) -> Tokenizer {
    Tokenizer::from_bytes(file.to_string().as_bytes()).unwrap().with(options).unwrap()
}

fn theirs(file: &Value) -> tokenizers::Tokenizer {
    let mut tokenizer = tokenizers::Tokenizer::from_bytes(file.to_string()).unwrap();
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).unwrap();
    tokenizer
}

/// Texts that mix what the pipeline treats differently.
fn texts() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => "[a-z]{1,8}",
        2 => "[A-Z]{1,3}[a-z]{0,4}",
        2 => prop::sample::select(vec![
            " ", "  ", "\n", "\t", "\u{b}", "\u{85}", "\u{a0}", "\u{2028}", "\u{3000}", ".", "-", "¿", "[CLS]", "[MASK]", "[mask]",
            "hello", "unable", "中文", "é", "e\u{301}", "\u{301}", "É", "İ", "ẞ", "Σ", "ﬁ", "\u{0}", "\u{fffd}", "\u{feff}",
            "\u{200d}", "가", "각", "\u{302e}\u{301}", "Å", "\u{1f9d1}\u{200d}\u{1f680}", "۱", "\u{f900}", "\u{2f800}", "\u{1d165}",
        ]).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn ids_and_text_are_those_of_the_reference(text in texts()) {
        for setting in settings() {
            let file = file(&setting);
            let (ours, theirs) = (ours(&file, Options::default()), theirs(&file));
            let expected = theirs.encode_fast(text.as_str(), true).unwrap();
            let ids = ours.encode(&text, "").unwrap().ids;
            prop_assert_eq!(&ids, expected.get_ids(), "{}", setting);
            prop_assert_eq!(ours.decode(&ids).unwrap(), theirs.decode(&ids, true).unwrap());
        }
    }

    /// The tokens are those of the model, and their bytes are in order, on characters, and around what the reference says of them.
    #[test]
    fn spans_are_tokens_in_the_order_of_the_text(text in texts()) {
        for setting in settings() {
            let file = file(&setting);
            let ours = ours(&file, Options { special_tokens: false, ..Options::default() });
            let spans = ours.spans(&text).unwrap();
            let ids: Vec<u32> = spans.iter().map(|span| span.id).collect();
            prop_assert_eq!(&ids, &ours.encode(&text, "").unwrap().ids, "{}", setting);
            prop_assert_eq!(ours.count(&text, usize::MAX).unwrap(), ids.len());
            let expected = theirs(&file).encode(text.as_str(), false).unwrap();
            for (i, (span, &(start, end))) in spans.iter().zip(expected.get_offsets()).enumerate() {
                prop_assert!(text.get(span.bytes.clone()).is_some_and(|t| !t.is_empty()), "{:?} of {:?}", span, text);
                prop_assert!(i == 0 || spans[i - 1].bytes.start <= span.bytes.start);
                prop_assert_eq!(span.bytes.start, start, "{} {:?} {:?} for {:?}", setting, text, spans, expected.get_offsets());
                prop_assert_eq!(span.bytes.end, end, "{} {:?} {:?}", setting, text, spans);
            }
        }
    }

    #[test]
    fn parts_together_are_the_ids(text in texts(), prompt in prop::sample::select(vec!["", "query: ", "a", "hello"])) {
        let tokenizer = ours(&file(&normalizer(true, None, true)), Options::default());
        let parts = tokenizer.parts(&text, prompt).unwrap();
        let encoded = tokenizer.encode(&text, prompt).unwrap();
        let tokens: Vec<u32> = parts.tokens.iter().map(|span| span.id).collect();
        let prompt_tokens = if prompt.is_empty() { 0 } else { parts.prefix.len() + parts.prompt.len() };
        prop_assert_eq!([parts.prefix, parts.prompt, tokens, parts.suffix].concat(), encoded.ids);
        prop_assert_eq!(prompt_tokens, encoded.prompt_tokens);
        prop_assert!(parts.tokens.iter().all(|span| text.get(span.bytes.clone()).is_some()));
    }

    #[test]
    fn cuts_are_those_of_the_reference(text in texts(), limit in 2usize..12, left in any::<bool>(), specials in any::<bool>()) {
        let file = file(&normalizer(true, None, true));
        let (truncation, direction) = if left {
            (Truncation::Left, tokenizers::TruncationDirection::Left)
        } else {
            (Truncation::Right, tokenizers::TruncationDirection::Right)
        };
        let mut theirs = theirs(&file);
        let params = tokenizers::TruncationParams { max_length: limit, direction, ..Default::default() };
        theirs.with_truncation(Some(params)).unwrap();
        let options = Options { max_tokens: Some(limit), truncation, special_tokens: specials, ..Options::default() };
        let encoded = ours(&file, options.clone()).encode(&text, "").unwrap();
        let expected = theirs.encode(text.as_str(), specials).unwrap();
        prop_assert_eq!(&encoded.ids, expected.get_ids());
        prop_assert!(encoded.ids.len() <= limit);
        let all = ours(&file, Options { max_tokens: None, ..options.clone() }).encode(&text, "").unwrap().ids.len();
        prop_assert_eq!(encoded.truncated, all > limit);
        let refused = ours(&file, Options { truncation: Truncation::Error, ..options }).encode(&text, "");
        match refused {
            Ok(whole) => prop_assert!(all <= limit && whole.ids.len() == all),
            Err(e) => {
                prop_assert_eq!(e.kind(), ErrorKind::TooLong);
                prop_assert!(e.to_string().contains(&format!("{all} tokens, the limit is {limit}")), "{}", e);
            }
        }
    }

    #[test]
    fn pairs_are_put_together_and_cut_as_by_the_reference(
        first in texts(), second in texts(), limit in 3usize..24, left in any::<bool>(), specials in any::<bool>(),
        template in any::<bool>(), general in any::<bool>(),
    ) {
        let mut file = file(&normalizer(true, None, true));
        if template {
            file["post_processor"] = json!({
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
                         {"SpecialToken": {"id": "[CLS]", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                                   "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}},
            });
        }
        if general {
            file["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [{"type": "BertPreTokenizer"}]});
        }
        let (truncation, direction) = if left {
            (Truncation::Left, tokenizers::TruncationDirection::Left)
        } else {
            (Truncation::Right, tokenizers::TruncationDirection::Right)
        };
        let mut theirs = theirs(&file);
        let params = tokenizers::TruncationParams { max_length: limit, direction, ..Default::default() };
        theirs.with_truncation(Some(params)).unwrap();
        let options = Options { max_tokens: Some(limit), truncation, special_tokens: specials, ..Options::default() };
        let encoded = ours(&file, options.clone()).encode_pair(&first, &second).unwrap();
        let expected = theirs.encode((first.as_str(), second.as_str()), specials).unwrap();
        // The reference stops reading a text that fills the room alone: where both do, it does not know the longer one, and an odd
        // token may be on either side.
        let all = |text: &str| ours(&file, Options { special_tokens: false, ..Options::default() }).encode(text, "").unwrap().ids.len();
        if all(&first).min(all(&second)) >= limit {
            let of_second = |segments: &[u32]| segments.iter().filter(|&&s| s == 1).count();
            let found: Vec<u32> = encoded.segments.iter().map(|&s| s.into()).collect();
            prop_assert_eq!(encoded.ids.len(), limit);
            prop_assert!(of_second(&found).abs_diff(of_second(expected.get_type_ids())) <= 1);
            return Ok(());
        }
        prop_assert_eq!(&encoded.ids, expected.get_ids());
        let segments: Vec<u32> = match encoded.segments.is_empty() {
            true => vec![0; encoded.ids.len()],
            false => encoded.segments.iter().map(|&s| s.into()).collect(),
        };
        prop_assert_eq!(segments, expected.get_type_ids());
        let refused = ours(&file, Options { truncation: Truncation::Error, ..options }).encode_pair(&first, &second);
        prop_assert_eq!(refused.is_err(), encoded.truncated);
    }

    #[test]
    fn unknown_tokens_are_dropped_before_the_cut(text in texts(), limit in 0usize..6, cap in 0usize..12) {
        let file = file(&normalizer(true, None, true));
        let options = Options {
            max_tokens: Some(limit), special_tokens: false, drop_unknown: true, char_cap: Some(cap), ..Options::default()
        };
        let capped: String = text.chars().take(cap).collect();
        let expected = theirs(&file).encode_fast(capped.as_str(), false).unwrap();
        let expected: Vec<u32> = expected.get_ids().iter().copied().filter(|&id| id != 1).take(limit).collect();
        prop_assert_eq!(ours(&file, options).encode(&text, "").unwrap().ids, expected);
    }

    /// `do_lower_case` puts a lower-casing step before the others.
    #[test]
    fn lower_casing_comes_first(text in texts()) {
        let plain = normalizer(false, None, true);
        let both = json!({"type": "Sequence", "normalizers": [{"type": "Lowercase"}, plain]});
        let options = Options { lower_case: true, ..Options::default() };
        let expected = theirs(&file(&both)).encode_fast(text.as_str(), true).unwrap();
        prop_assert_eq!(&ours(&file(&plain), options.clone()).encode(&text, "").unwrap().ids, expected.get_ids());
        // The same through the general pipeline, which a sequence of one step leads to.
        let single = json!({"type": "Sequence", "normalizers": [plain]});
        prop_assert_eq!(&ours(&file(&single), options).encode(&text, "").unwrap().ids, expected.get_ids());
    }

    #[test]
    fn any_bytes_are_a_tokenizer_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(tokenizer) = Tokenizer::from_vocab_bytes(&bytes, &BertOptions::default()) {
            prop_assert!(tokenizer.vocab_size() >= 3);
        }
        prop_assert!(Tokenizer::from_bytes(&bytes).is_err());
    }
}

#[test]
fn a_vocabulary_alone_is_the_same_tokenizer() {
    let file = file(&normalizer(true, None, true));
    let vocab = pieces().join("\n") + "\n";
    let alone = Tokenizer::from_vocab_bytes(vocab.as_bytes(), &BertOptions::default()).unwrap();
    let whole = ours(&file, Options::default());
    for text in ["", "Hello unable WORLD!", "é中文 x [MASK]. [mask]", "\0\u{feff} \u{b}"] {
        assert_eq!(alone.encode(text, "").unwrap(), whole.encode(text, "").unwrap());
    }
    assert_eq!((alone.vocab_size(), alone.id("hello"), alone.unknown()), (pieces().len(), whole.id("hello"), Some(1)));
    assert_eq!(alone.token(2).as_deref(), Some("[CLS]"));
    let missing = Tokenizer::from_vocab_bytes(b"a\nb\n", &BertOptions::default()).unwrap_err();
    assert!(missing.to_string().contains("[UNK]"), "{missing}");
    assert_eq!(Tokenizer::from_vocab_bytes(&[0xff], &BertOptions::default()).unwrap_err().kind(), ErrorKind::Malformed);
    let dos = vocab.replace('\n', "\r\n");
    let dos = Tokenizer::from_vocab_bytes(dos.as_bytes(), &BertOptions::default()).unwrap();
    assert_eq!(dos.encode("hello", "").unwrap(), whole.encode("hello", "").unwrap());
}

/// The ids are those of `BertTokenizer` of transformers 5.23 with `do_lower_case`, `strip_accents` and `tokenize_chinese_chars`.
#[test]
fn a_vocabulary_is_used_as_transformers_uses_it() {
    let vocab = "[PAD] [UNK] [CLS] [SEP] [MASK] caf ##e ##é Caf cafe E É e 日 本 日本 語 ##本 ##語".replace(' ', "\n");
    let expected: [(bool, Option<bool>, bool, &[u32]); 12] = [
        (true, None, true, &[2, 9, 12, 13, 14, 16, 3]),
        (true, None, false, &[2, 9, 12, 15, 18, 3]),
        (true, Some(true), true, &[2, 9, 12, 13, 14, 16, 3]),
        (true, Some(true), false, &[2, 9, 12, 15, 18, 3]),
        (true, Some(false), true, &[2, 5, 7, 1, 13, 14, 16, 3]),
        (true, Some(false), false, &[2, 5, 7, 1, 15, 18, 3]),
        (false, None, true, &[2, 8, 7, 11, 13, 14, 16, 3]),
        (false, None, false, &[2, 8, 7, 11, 15, 18, 3]),
        (false, Some(true), true, &[2, 8, 6, 10, 13, 14, 16, 3]),
        (false, Some(true), false, &[2, 8, 6, 10, 15, 18, 3]),
        (false, Some(false), true, &[2, 8, 7, 11, 13, 14, 16, 3]),
        (false, Some(false), false, &[2, 8, 7, 11, 15, 18, 3]),
    ];
    for (lower_case, strip_accents, split_ideographs, ids) in expected {
        let options = BertOptions { lower_case, strip_accents, split_ideographs };
        let tokenizer = Tokenizer::from_vocab_bytes(vocab.as_bytes(), &options).unwrap();
        assert_eq!(tokenizer.encode("Café É 日本語", "").unwrap().ids, ids, "{options:?}");
    }
}

#[test]
fn a_prompt_is_text_before_the_text() {
    let tokenizer = ours(&file(&normalizer(true, None, true)), Options { max_tokens: Some(8), ..Options::default() });
    let encoded = tokenizer.encode("world", "hello unable ").unwrap();
    assert_eq!(encoded.ids, tokenizer.encode("hello unable world", "").unwrap().ids);
    // [CLS] hello un ##able
    assert_eq!((encoded.prompt_tokens, tokenizer.prompt_tokens("hello unable ").unwrap()), (4, 4));
    assert_eq!(tokenizer.encode("world", "").unwrap().prompt_tokens, 0);
    // A prompt longer than the limit fills it but for the closing token.
    assert_eq!(tokenizer.prompt_tokens(&"hello ".repeat(50)).unwrap(), 7);
    let mut batch = Batch::default();
    assert!(!tokenizer.encode_into("world", "hello unable ", &mut batch).unwrap());
    assert!(tokenizer.encode_into(&"hello ".repeat(50), "", &mut batch).unwrap());
    assert_eq!((batch.sequence(0), batch.sequence(1).len()), (&encoded.ids[..], 8));
}

#[test]
fn a_limit_below_the_special_tokens_is_refused() {
    let bytes = file(&normalizer(true, None, true)).to_string();
    let with = |limit| {
        let options = Options { max_tokens: Some(limit), ..Options::default() };
        Tokenizer::from_bytes(bytes.as_bytes()).unwrap().with(options)
    };
    assert_eq!(with(1).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(with(2).unwrap().encode("hello", "").unwrap().ids, [2, 3]);
}

#[test]
fn long_texts_take_linear_time() {
    let tokenizer = ours(&file(&normalizer(true, None, true)), Options::default());
    assert_eq!(tokenizer.encode(&"hello, ".repeat(100_000), "").unwrap().ids.len(), 200_002);
    assert_eq!(tokenizer.encode(&"a".repeat(5_000_000), "").unwrap().ids, [2, 1, 3]);
    assert_eq!(tokenizer.encode(&"中".repeat(100_000), "").unwrap().ids.len(), 100_002);
}

/// Threads share one tokenizer and get what each would get alone.
#[test]
fn one_tokenizer_serves_many_threads() {
    let tokenizer = ours(&file(&normalizer(true, None, true)), Options::default());
    let expected = tokenizer.encode("hello unable world é", "").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    assert_eq!(tokenizer.encode("hello unable world é", "").unwrap(), expected);
                }
            });
        }
    });
}
