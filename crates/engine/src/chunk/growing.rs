//! Chunks of a text that is still written.

use super::{
    Chunk, Chunking, Plan,
    document::{Document, Step},
};
use crate::{Embedder, Prompt};
use embral_types::{Error, ErrorKind, Result};
use std::{ops::Range, sync::Arc};

/// A chunk that no more text can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyChunk {
    /// Its bytes in the document.
    pub bytes: Range<usize>,
    /// Its tokens as a text of its own, without special tokens and prompt.
    pub tokens: usize,
    /// Its text without the white space at its ends: what its vector is that of.
    pub text: String,
}

/// A text that is still written, cut as it comes: a live transcript, a document somebody types.
///
/// A chunk is final when about a quarter of its bytes have come behind it; of Markdown, when a heading or a paragraph has ended within some
/// chunks' bytes. Where the chunks lie depends on the text and on where it was flushed, not on the parts in which it came; they are not
/// those of [`Embedder::chunks`], which looks further ahead. Chunks cover the text without a gap, but for white space behind the last one.
///
/// It holds the text from the last final chunk on: never more than 128 bytes for each token of the chunk size, the part that was
/// pushed last aside. After an error it is of no more use.
///
/// ```
/// # use std::sync::Arc;
/// use embral::{Embedder, Prompt, chunk::{Chunking, Growing}};
/// let embedder = Arc::new(Embedder::open_default()?);
/// let chunking = Chunking { size: Some(16), ..Chunking::default() };
/// let mut growing = Growing::new(Arc::clone(&embedder), &chunking, Prompt::Default)?;
/// let mut ready = Vec::new();
/// for spoken in ["Cats sleep most of the day. ", "Dogs like walks. "].repeat(9) {
///     ready.extend(growing.push(spoken)?);
/// }
/// assert!(ready.len() > 5, "before the end of the text is there");
/// ready.extend(growing.finish()?);
/// assert!(ready.windows(2).all(|two| two[0].bytes.end == two[1].bytes.start));
/// let first = embedder.embed(&ready[0].text)?;
/// # assert_eq!(first.len(), 256);
/// # Ok::<(), embral::Error>(())
/// ```
pub struct Growing {
    embedder: Arc<Embedder>,
    plan: Plan,
    document: Document,
    /// Where white space begins that is behind the last chunk and no longer held: the next chunk begins there.
    blank: Option<usize>,
    /// Where the last chunk ended, where there was one.
    reached: Option<usize>,
}

impl Growing {
    /// No text yet.
    ///
    /// # Errors
    /// Where the chunking asks for what the model cannot do, and for late chunking, whose first vector needs the last word.
    pub fn new(embedder: Arc<Embedder>, chunking: &Chunking, prompt: Prompt<'_>) -> Result<Self> {
        if chunking.late {
            let message =
                "late chunking needs the whole document before its first vector, and this one is still written";
            return Err(Error::new(ErrorKind::Unsupported, message)
                .hint("cut it without late chunking, or embed it when it is whole"));
        }
        let plan = Plan::new(&embedder, chunking, prompt)?;
        Ok(Self { embedder, plan, document: Document::live(0), blank: None, reached: None })
    }

    /// More text; the chunks that are final by it.
    ///
    /// # Errors
    /// Where the text cannot be tokenised.
    pub fn push(&mut self, text: &str) -> Result<Vec<ReadyChunk>> {
        self.document.push(text.to_owned());
        self.cut()
    }

    /// Cuts all that is there, as if it had ended: what comes behind it shares no chunk and no token with it.
    ///
    /// # Errors
    /// As [`Growing::push`].
    pub fn flush(&mut self) -> Result<Vec<ReadyChunk>> {
        self.document.end();
        let chunks = self.cut()?;
        self.document = Document::live(self.document.bytes());
        Ok(chunks)
    }

    /// The chunks of the rest; no more text comes. A text without any has one chunk, the empty one.
    ///
    /// # Errors
    /// As [`Growing::push`].
    pub fn finish(mut self) -> Result<Vec<ReadyChunk>> {
        let mut chunks = self.flush()?;
        if self.reached.is_none() {
            chunks.push(ReadyChunk { bytes: 0..self.document.bytes(), tokens: 0, text: String::new() });
        }
        Ok(chunks)
    }

    fn cut(&mut self) -> Result<Vec<ReadyChunk>> {
        let Self { embedder, plan, document, blank, reached } = self;
        let mut chunks = Vec::new();
        let mut take = |Chunk { bytes, tokens }: Chunk, text: &str| {
            // A stretch begins with the last chunk of the one before, which may be cut shorter than what it shares.
            if reached.is_some_and(|reached| bytes.end <= reached) {
                return;
            }
            if text.is_empty() {
                blank.get_or_insert(bytes.start);
                return;
            }
            let bytes = blank.take().unwrap_or(bytes.start)..bytes.end;
            *reached = Some(bytes.end);
            chunks.push(ReadyChunk { bytes, tokens, text: text.to_owned() });
        };
        while document.step(embedder, plan, &mut take)? == Step::Cut {}
        Ok(chunks)
    }
}

impl std::fmt::Debug for Growing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Growing")
            .field("plan", &self.plan)
            .field("bytes", &self.document.bytes())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, chunk::ChunkBy};
    use proptest::prelude::*;
    use std::{path::Path, sync::LazyLock};

    fn open(name: &str) -> Arc<Embedder> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        Arc::new(Embedder::with_config(Config::model(folder.to_str().unwrap())).unwrap())
    }

    static BERT: LazyLock<Arc<Embedder>> = LazyLock::new(|| open("tiny_bert"));
    static TABLE: LazyLock<Arc<Embedder>> = LazyLock::new(|| open("static_f32"));

    const BY: [ChunkBy; 3] = [ChunkBy::Tokens, ChunkBy::Sentences, ChunkBy::Markdown];

    fn growing(embedder: &Arc<Embedder>, chunking: &Chunking) -> Growing {
        Growing::new(Arc::clone(embedder), chunking, Prompt::Default).unwrap()
    }

    fn texts() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            6 => "[a-z]{1,9} ",
            3 => "[A-Z][a-z]{1,6}[.!?] ",
            2 => prop::sample::select(vec![
                "\n", "\n\n", "\r\n", "# Heading\n", "- item\n", "```\ncode { }\n```\n", "中文字符没有空格", "日本語。", "e\u{301}",
                "\u{1f9d1}\u{200d}\u{1f680}", "supercalifragilisticexpialidocious", "\u{2028}", "don't ", "\u{0}",
            ]).prop_map(str::to_owned),
            1 => "[ \n\t]{1,2000}",
            1 => "[a-z]{100,1000}",
        ];
        prop::collection::vec(part, 0..120).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn parts_do_not_matter_and_chunks_cover_the_text(
            text in texts(),
            size in 4usize..24,
            share in 0usize..4,
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| text.floor_char_boundary(cut.index(text.len() + 1))).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            for embedder in [&*BERT, &*TABLE] {
                for by in BY {
                    let chunking = Chunking { by, size: Some(size), overlap: size * share / 4, late: false };
                    let (mut whole, mut parts) = (growing(embedder, &chunking), growing(embedder, &chunking));
                    let mut chunks = whole.push(&text).unwrap();
                    chunks.extend(whole.finish().unwrap());
                    let mut found = Vec::new();
                    for ends in cuts.windows(2) {
                        found.extend(parts.push(&text[ends[0]..ends[1]]).unwrap());
                    }
                    found.extend(parts.finish().unwrap());
                    prop_assert_eq!(&found, &chunks, "{} of {:?}", by, &text);
                    prop_assert_eq!(chunks[0].bytes.start, 0);
                    for (chunk, next) in chunks.iter().zip(&chunks[1..]) {
                        prop_assert!(next.bytes.start <= chunk.bytes.end && next.bytes.end > chunk.bytes.end, "{chunk:?} {next:?}");
                        prop_assert!(share > 0 || next.bytes.start == chunk.bytes.end, "{chunk:?} {next:?}");
                    }
                    prop_assert!(text[chunks[chunks.len() - 1].bytes.end..].trim().is_empty());
                    for chunk in &chunks {
                        prop_assert_eq!(text[chunk.bytes.clone()].trim(), &chunk.text);
                        prop_assert!(chunk.tokens <= size || chunk.text.chars().count() == 1, "{chunk:?}");
                        prop_assert!(!chunk.text.is_empty() || text.trim().is_empty());
                    }
                }
            }
        }

        #[test]
        fn a_flush_is_a_boundary_and_nothing_else(before in texts(), after in texts(), size in 4usize..24) {
            for by in BY {
                let chunking = Chunking { by, size: Some(size), overlap: 2, late: false };
                let mut flushed = growing(&TABLE, &chunking);
                let mut first = flushed.push(&before).unwrap();
                first.extend(flushed.flush().unwrap());
                prop_assert!(flushed.flush().unwrap().is_empty());
                let mut second = flushed.push(&after).unwrap();
                second.extend(flushed.finish().unwrap());
                let alone = |text: &str| {
                    let mut alone = growing(&TABLE, &chunking);
                    let mut chunks = alone.push(text).unwrap();
                    chunks.extend(alone.finish().unwrap());
                    chunks.retain(|chunk| !chunk.text.is_empty());
                    chunks
                };
                let texts = |chunks: &[ReadyChunk]| -> Vec<String> {
                    chunks.iter().filter(|chunk| !chunk.text.is_empty()).map(|chunk| chunk.text.clone()).collect()
                };
                prop_assert_eq!(texts(&first), texts(&alone(&before)));
                prop_assert_eq!(texts(&second), texts(&alone(&after)));
                let whole = format!("{before}{after}");
                for chunk in first.iter().chain(&second) {
                    prop_assert_eq!(whole[chunk.bytes.clone()].trim(), &chunk.text);
                }
            }
        }
    }

    #[test]
    fn a_chunk_is_there_soon_after_its_text_and_little_is_held() {
        let words: String =
            (0..4000).map(|i| format!("{} ", ["the cat sat.", "a dog", "ran over", "red."][i * i % 7 % 4])).collect();
        for by in BY {
            let chunking = Chunking { by, size: Some(20), overlap: 0, late: false };
            let mut live = growing(&BERT, &chunking);
            let (mut came, mut ready, mut longest, mut late) = (0, 0, 0, 0);
            for piece in words.split_inclusive(' ') {
                came += piece.len();
                for chunk in live.push(piece).unwrap() {
                    ready = chunk.bytes.end;
                    longest = longest.max(chunk.bytes.len());
                }
                late = late.max(came - ready);
            }
            // Of Markdown a stretch of 1 KiB.
            let most = if by == ChunkBy::Markdown { 2048 } else { 3 * longest };
            assert!(ready > 0 && late <= most, "{by}: {late} bytes behind, chunks of up to {longest}");
        }
    }

    #[test]
    fn white_space_and_noise_without_an_end_are_not_held() {
        for by in BY {
            let chunking = Chunking { by, size: Some(8), overlap: 3, late: false };
            let mut live = growing(&TABLE, &chunking);
            let mut chunks = live.push("a cat").unwrap();
            let most = 2 * 8 * 64 + 4096;
            for piece in [" ".repeat(1000), "\n".repeat(1000), "abcde".repeat(200)] {
                for _ in 0..40 {
                    chunks.extend(live.push(&piece).unwrap());
                    assert!(live.document.held() <= most, "{by}: {}", live.document.held());
                }
            }
            let words = if chunks[0].text == "a cat" { 1 } else { 2 };
            assert_eq!(chunks[words - 1].bytes.start + chunks[words - 1].text.len(), 5, "{by}");
            // The white space is the next chunk's.
            assert!(chunks[words].bytes.end > 80_000 && chunks.iter().all(|chunk| !chunk.text.is_empty()));
            assert!(chunks.windows(2).all(|two| two[1].bytes.start <= two[0].bytes.end));
        }
    }

    #[test]
    fn what_cannot_be_cut_as_it_grows_is_refused() {
        let refused = |chunking: &Chunking| {
            Growing::new(Arc::clone(&BERT), chunking, Prompt::Default).map(|_| ()).unwrap_err().to_string()
        };
        assert!(refused(&Chunking { late: true, ..Chunking::default() }).contains("whole document"));
        assert!(refused(&Chunking { size: Some(0), ..Chunking::default() }).contains("at least 1 token"));
        let nothing = growing(&BERT, &Chunking::default()).finish().unwrap();
        assert_eq!(nothing, [ReadyChunk { bytes: 0..0, tokens: 0, text: String::new() }]);
    }
}
