//! Chunks of long documents: where they lie, what their vectors are, and how they come out.

use embral::{
    Config, Embedder, ErrorKind, Precision, Prompt, Truncation,
    chunk::{Aggregate, ChunkBy, ChunkVector, Chunking, Part},
};
use proptest::prelude::*;
use std::{fs, path::Path, sync::LazyLock};

fn tiny(name: &str) -> Config {
    Config::model(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name).to_str().unwrap())
}

static BERT: LazyLock<Embedder> = LazyLock::new(|| Embedder::with_config(tiny("tiny_bert")).unwrap());
static QWEN: LazyLock<Embedder> = LazyLock::new(|| Embedder::with_config(tiny("tiny_qwen3")).unwrap());
static TABLE: LazyLock<Embedder> = LazyLock::new(|| Embedder::with_config(tiny("static_f32")).unwrap());

const BY: [ChunkBy; 3] = [ChunkBy::Tokens, ChunkBy::Sentences, ChunkBy::Markdown];

fn document(words: usize) -> String {
    const WORDS: [&str; 12] =
        ["cat", "dog.", "the", "mat", "ran", "over", "house,", "red", "street.\n\n", "# sat\n", "one", "two!"];
    (0..words).map(|i| format!("{} ", WORDS[(i * i + 7 * i) % 12])).collect()
}

fn rows(embedder: &Embedder, texts: &[&str], chunking: &Chunking) -> Vec<ChunkVector> {
    embedder.embed_chunks(texts.iter().copied(), chunking, Prompt::Default).unwrap().map(Result::unwrap).collect()
}

fn bits(rows: &[ChunkVector]) -> Vec<Vec<u32>> {
    rows.iter().map(|row| row.vector.iter().map(|x| x.to_bits()).collect()).collect()
}

/// Texts of words, sentences, lists, headings, code, scripts without spaces, white space and signs of several tokens.
fn texts() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        6 => "[a-z]{1,9} ",
        2 => "[A-Z][a-z]{1,6}[.!?] ",
        2 => prop::sample::select(vec![
            "\n", "\n\n", "\r\n", "   ", "\t", "# Heading\n", "## Two\n\n", "- item\n", "```\ncode { }\n```\n", "> quote\n",
            "| a | b |\n|---|---|\n| 1 | 2 |\n", "***", "中文字符没有空格", "日本語。", "é", "e\u{301}", "\u{1f9d1}\u{200d}\u{1f680}", "\u{0}",
            "http://example.com/a?b=c", "supercalifragilisticexpialidocious", "\u{2028}", "\u{a0}", "don't ", "1,234.5 ",
        ]).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn chunks_cover_the_text_without_a_gap_and_none_is_too_long(text in texts(), size in 4usize..24, share in 0usize..4) {
        for embedder in [&*BERT, &*QWEN, &*TABLE] {
            for by in BY {
                let chunking = Chunking { by, size: Some(size), overlap: size * share / 4, late: false };
                let chunks = embedder.chunks(&text, &chunking, Prompt::None).unwrap();
                prop_assert_eq!(chunks[0].bytes.start, 0);
                prop_assert_eq!(chunks[chunks.len() - 1].bytes.end, text.len());
                for (chunk, next) in chunks.iter().zip(&chunks[1..]) {
                    prop_assert!(next.bytes.start <= chunk.bytes.end, "{by}: a gap in {chunks:?} of {text:?}");
                    prop_assert!(next.bytes.start > chunk.bytes.start && next.bytes.end > chunk.bytes.end, "{chunks:?}");
                    if chunking.overlap == 0 {
                        prop_assert_eq!(next.bytes.start, chunk.bytes.end);
                    }
                }
                for chunk in &chunks {
                    let own = text.get(chunk.bytes.clone());
                    prop_assert!(own.is_some(), "{:?} of {:?}", chunk, text);
                    let own = own.unwrap().trim();
                    prop_assert!(chunk.tokens <= size || own.chars().count() == 1, "{by}: {} of {size}: {own:?}", chunk.tokens);
                    prop_assert!(!own.is_empty() || text.trim().is_empty());
                }
            }
        }
    }

    #[test]
    fn parts_of_a_growing_document_give_the_chunks_of_the_whole(text in texts(), cuts in prop::collection::vec(0usize..400, 0..6)) {
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|&c| text.is_char_boundary(c)).chain([0, text.len()]).collect();
        cuts.sort_unstable();
        let parts = || cuts.windows(2).map(|ends| Part::More(text[ends[0]..ends[1]].to_owned()));
        for by in BY {
            let chunking = Chunking { by, size: Some(8), overlap: 2, late: false };
            let whole = rows(&TABLE, &[&text, "another"], &chunking);
            let grown = parts().chain([Part::End, Part::from("another")]);
            let grown: Vec<ChunkVector> =
                TABLE.embed_chunks(grown, &chunking, Prompt::Default).unwrap().map(Result::unwrap).collect();
            prop_assert_eq!(&grown, &whole);
            // The next document and the end of the input end a growing one as well.
            let parts = parts().chain([Part::from("another")]);
            let grown: Vec<ChunkVector> =
                TABLE.embed_chunks(parts, &chunking, Prompt::Default).unwrap().map(Result::unwrap).collect();
            prop_assert_eq!(&grown, &whole);
        }
    }
}

/// Documents of many stretches, so that chunks come out before the end is there.
#[test]
fn a_long_document_is_cut_alike_in_parts_of_any_length() {
    let text = document(20_000);
    for by in [ChunkBy::Tokens, ChunkBy::Sentences] {
        let chunking = Chunking { by, size: Some(20), overlap: 5, late: false };
        let chunks = TABLE.chunks(&text, &chunking, Prompt::None).unwrap();
        assert!(chunks.len() > 500 && chunks[chunks.len() - 1].bytes.end == text.len());
        assert!(
            chunks.iter().zip(&chunks[1..]).all(|(a, b)| b.bytes.start <= a.bytes.end && a.bytes.end < b.bytes.end)
        );
        for step in [1, 777, 50_000] {
            let parts = text.as_bytes().chunks(step).map(|b| Part::More(str::from_utf8(b).unwrap().to_owned()));
            let grown = TABLE.embed_chunks(parts, &chunking, Prompt::Default).unwrap();
            assert!(grown.map(|row| row.unwrap().bytes).eq(chunks.iter().map(|c| c.bytes.clone())), "{by} {step}");
        }
        // The first vectors are there when a part of the document is.
        let mut fed = 0;
        let parts = text.as_bytes().chunks(1000).map(|b| {
            fed += b.len();
            Part::More(str::from_utf8(b).unwrap().to_owned())
        });
        TABLE.embed_chunks(parts, &chunking, Prompt::Default).unwrap().next().unwrap().unwrap();
        assert!(fed < text.len(), "{fed} of {}", text.len());
    }
}

/// Markdown is taken apart before it is parsed, before a heading or behind a paragraph, where there is one.
#[test]
fn long_markdown_is_covered_with_structure_and_without() {
    let word = |i: usize| ["cat", "dog", "the", "mat", "ran", "over"][(i * i + 5 * i) % 6];
    let words = |range: std::ops::Range<usize>| range.map(word).collect::<Vec<_>>().join(" ");
    let section = |i: usize| format!("## Section {i}\n\n{}.\n\n```\n# not {i}\n\n```\n\n", words(i..i + 60));
    let sections: String = (0..1000).map(section).collect();
    let one_line = words(0..80_000);
    let lines = one_line.replace(" the ", "\n");
    let code = format!("```\n{lines}\n```\n# End\n{}", words(0..50));
    for text in [&sections, &one_line, &lines, &code] {
        assert!(text.len() > 200_000, "{}", text.len());
        for overlap in [0, 7] {
            let chunking = Chunking { by: ChunkBy::Markdown, size: Some(64), overlap, late: false };
            let chunks = TABLE.chunks(text, &chunking, Prompt::None).unwrap();
            assert_eq!((chunks[0].bytes.start, chunks[chunks.len() - 1].bytes.end), (0, text.len()));
            for (chunk, next) in chunks.iter().zip(&chunks[1..]) {
                assert!(next.bytes.start <= chunk.bytes.end && next.bytes.end > chunk.bytes.end, "{chunk:?} {next:?}");
                assert!(overlap > 0 || next.bytes.start == chunk.bytes.end);
                assert!(chunk.tokens <= 64, "{chunk:?}");
            }
        }
    }
    let chunking = Chunking { by: ChunkBy::Markdown, size: Some(150), ..Chunking::default() };
    let chunks = TABLE.chunks(&sections, &chunking, Prompt::None).unwrap();
    assert!(chunks.iter().all(|chunk| sections[chunk.bytes.clone()].starts_with("## Section")), "a section is cut");
}

/// A word that is one unknown token however long it is would otherwise be one chunk, found by looking at each of its characters.
#[test]
fn noise_is_cut_by_its_bytes() {
    let noise = format!("{} {}", "abcdefghij".repeat(6000), " ".repeat(30_000));
    let chunking = Chunking { by: ChunkBy::Sentences, size: Some(20), overlap: 3, late: false };
    for embedder in [&*BERT, &*TABLE] {
        let chunks = embedder.chunks(&noise, &chunking, Prompt::None).unwrap();
        let (last, before) = chunks.split_last().unwrap();
        assert!(before.iter().all(|chunk| chunk.bytes.len() <= 20 * 64), "{before:?}");
        assert!(before.len() >= 60_000 / (20 * 64) && last.bytes.end == noise.len());
    }
}

#[test]
fn a_chunk_is_the_text_between_its_bytes_alone_and_in_company() {
    let (a, b) = (document(300), document(41));
    for precision in Precision::ALL {
        for threads in [1, 3] {
            let config = Config { precision, threads: Some(threads), batch_tokens: 64, ..tiny("tiny_bert") };
            let embedder = Embedder::with_config(config).unwrap();
            for by in BY {
                let chunking = Chunking { by, size: Some(12), overlap: 3, late: false };
                let together = rows(&embedder, &[&a, &b, &a], &chunking);
                assert!(
                    together.windows(2).all(|two| (two[0].document, two[0].chunk) < (two[1].document, two[1].chunk))
                );
                for row in &together {
                    let text = if row.document == 1 { &b } else { &a };
                    let alone = embedder.embed(text[row.bytes.clone()].trim()).unwrap();
                    assert_eq!(alone, row.vector, "{precision} {by} {row:?}");
                }
            }
        }
    }
}

#[test]
fn late_chunks_are_the_same_alone_and_in_company_at_any_thread_count() {
    let texts = [document(500), document(3), String::new(), document(60)];
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for precision in Precision::ALL {
        let chunking = Chunking { by: ChunkBy::Sentences, size: Some(12), overlap: 3, late: true };
        let open = |threads, batch_tokens| {
            let config = Config { precision, threads: Some(threads), batch_tokens, ..tiny("tiny_bert") };
            Embedder::with_config(config).unwrap()
        };
        let embedder = open(1, 64);
        let together = rows(&embedder, &texts, &chunking);
        for (threads, batch_tokens) in [(1, 1), (3, 100), (2, 4096)] {
            assert_eq!(bits(&rows(&open(threads, batch_tokens), &texts, &chunking)), bits(&together));
        }
        for (document, text) in texts.iter().enumerate() {
            let alone = bits(&rows(&embedder, &[text], &chunking));
            let own: Vec<ChunkVector> = together.iter().filter(|row| row.document == document).cloned().collect();
            assert_eq!(alone, bits(&own), "{precision}: document {document}");
            // Some of the chunks, as a run takes them up in the middle.
            let ranges: Vec<_> = own.iter().map(|row| row.bytes.clone()).collect();
            for from in [0, own.len() / 2, own.len() - 1] {
                let some = embedder.embed_chunks_of(&[(text, &ranges[from..])], &chunking, Prompt::Default).unwrap();
                let some: Vec<Vec<u32>> = some.rows().map(|r| r.iter().map(|x| x.to_bits()).collect()).collect();
                assert_eq!(some, alone[from..], "from {from}");
            }
        }
    }
}

#[test]
fn a_document_of_one_late_chunk_is_the_text_itself() {
    let whole = Chunking { by: ChunkBy::Document, late: true, ..Chunking::default() };
    for text in ["a cat sat on the mat", "", "one"] {
        let row = &rows(&BERT, &[text], &whole)[0];
        assert_eq!(row.vector, BERT.embed(text).unwrap());
        assert_eq!((row.bytes.clone(), row.chunk), (0..text.len(), 0));
    }
}

#[derive(serde::Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    text: String,
    prompt: String,
    chunks: Vec<(usize, usize)>,
    vectors: Vec<Vec<f64>>,
}

/// Rows of transformers in f64, pooled as the reference of late chunking does it; two of the texts take several windows.
#[test]
fn late_chunks_are_those_of_the_reference() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/late_chunking.json");
    let golden: Golden = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert!(golden.cases.len() >= 8);
    let late = Chunking { late: true, ..Chunking::default() };
    for case in golden.cases {
        let chunks: Vec<_> = case.chunks.iter().map(|&(a, b)| a..b).collect();
        let found =
            BERT.embed_chunks_of(&[(case.text.as_str(), &chunks[..])], &late, Prompt::Text(&case.prompt)).unwrap();
        assert_eq!(found.len(), case.vectors.len());
        for (row, wanted) in found.rows().zip(&case.vectors) {
            let worst = row.iter().zip(wanted).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            assert!(worst < 2e-6, "{worst:e} in {:?} of {:?}", case.chunks, case.text);
        }
    }
}

/// Where the model leaves the prompt out of its pooling, the first chunk does too.
#[test]
fn a_prompt_that_is_not_pooled_is_in_no_late_chunk() {
    let folder = embral_testkit::golden::Golden::load("tiny_bert_without_prompt");
    let embedder = Embedder::open(folder.folder.to_str().unwrap()).unwrap();
    let whole = Chunking { by: ChunkBy::Document, late: true, ..Chunking::default() };
    let prompt = Prompt::Text("query: ");
    let text = "a cat sat on the mat";
    let row = embedder.embed_chunks([text], &whole, prompt).unwrap().next().unwrap().unwrap();
    assert_eq!(row.vector, embedder.embed_batch_as(&[text], prompt).unwrap().into_vec());
}

#[test]
fn documents_are_one_vector_by_each_aggregate() {
    let (a, b) = (document(100), "a cat");
    let chunking = Chunking { by: ChunkBy::Tokens, size: Some(10), overlap: 0, late: false };
    let chunks = rows(&BERT, &[&a], &chunking);
    for aggregate in Aggregate::ALL {
        let found = BERT.embed_documents(&[a.as_str(), b, ""], &chunking, aggregate, Prompt::Default).unwrap();
        assert_eq!(found.len(), 3);
        let length: f32 = found[0].iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-5);
        let near: f32 = BERT.embed(b).unwrap().iter().zip(&found[1]).map(|(x, y)| (x - y).abs()).sum();
        assert!(near < 1e-5, "one chunk is its own vector");
        let alone = BERT.embed_documents(&[a.as_str()], &chunking, aggregate, Prompt::Default).unwrap();
        assert_eq!(alone.row(0), found.row(0));
    }
    let mean = BERT.embed_documents(&[a.as_str()], &chunking, Aggregate::Mean, Prompt::Default).unwrap();
    let mut sum: Vec<f64> = vec![0.0; 32];
    chunks.iter().for_each(|row| sum.iter_mut().zip(&row.vector).for_each(|(s, &x)| *s += f64::from(x)));
    let length = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
    assert!(mean[0].iter().zip(&sum).all(|(a, b)| (f64::from(*a) - b / length).abs() < 1e-6));
}

#[test]
fn what_cannot_be_is_an_error_that_says_what_could() {
    let refused = |embedder: &Embedder, chunking: Chunking| {
        embedder.chunks("a cat", &chunking, Prompt::Default).unwrap_err().to_string()
    };
    let of = |size, overlap| Chunking { size: Some(size), overlap, ..Chunking::default() };
    assert!(refused(&BERT, of(31, 0)).contains("are 30 (give a size of 1 to 30)"), "{}", refused(&BERT, of(31, 0)));
    assert!(refused(&BERT, of(0, 0)).contains("at least 1 token"));
    assert!(refused(&BERT, of(10, 10)).contains("below the chunk size, found 10 of 10"));
    let document = Chunking { by: ChunkBy::Document, ..Chunking::default() };
    assert!(refused(&BERT, document).contains("only of late chunking"));
    assert!(refused(&BERT, Chunking { size: Some(9), late: true, ..document }).contains("neither a size"));
    let late = Chunking { late: true, ..Chunking::default() };
    assert!(refused(&TABLE, late).contains("needs a transformer"));
    assert!(refused(&QWEN, late).contains("lasttoken"));
    let long_prompt = "one two three ".repeat(20);
    let error = BERT.chunks("x", &Chunking::default(), Prompt::Text(&long_prompt)).unwrap_err().to_string();
    assert!(error.contains("the prompt fills the limit"), "{error}");
    let outside = [1..2, 1..9];
    let outside = BERT.embed_chunks_of(&[("abc", &outside[..])], &Chunking::default(), Prompt::Default);
    assert!(outside.unwrap_err().to_string().contains("no part of a text of 3 bytes"));
    assert!("words".parse::<ChunkBy>().unwrap_err().to_string().contains("markdown"));
}

#[test]
fn a_text_in_windows_is_refused_where_truncation_is_and_what_came_before_is_kept() {
    let embedder = Embedder::with_config(Config { truncation: Truncation::Error, ..tiny("tiny_bert") }).unwrap();
    let long = document(200);
    let late = Chunking { late: true, size: Some(10), ..Chunking::default() };
    let texts = ["a cat", "one two", long.as_str(), "never"];
    let mut rows = embedder.embed_chunks(texts, &late, Prompt::Default).unwrap();
    assert_eq!(rows.next().unwrap().unwrap().document, 0);
    assert_eq!(rows.next().unwrap().unwrap().document, 1);
    let error = rows.next().unwrap().unwrap_err();
    assert!(error.kind() == ErrorKind::TooLong && error.to_string().contains("document 2"), "{error}");
    assert!(rows.next().is_none());
    // Chunks of their own always fit.
    let short = Chunking { late: false, ..late };
    assert!(embedder.embed_chunks(texts, &short, Prompt::Default).unwrap().all(|row| row.is_ok()));
}
