//! A long document in chunks, each with its place, and as one vector: `cargo run --release --example documents`.

use embral::{
    Embedder, Prompt, Result,
    chunk::{Aggregate, ChunkBy, Chunking},
    top_k,
};

pub(crate) fn main() -> Result<()> {
    let text = "# Cats\n\nCats sleep most of the day. They hunt at dusk.\n\n# Banks\n\nThe central bank raised its rates. \
                Loans will cost more.\n\n# Gardens\n\nWater the tomatoes in the morning.";
    let embedder = Embedder::open_default()?;
    let chunking = Chunking { by: ChunkBy::Markdown, size: Some(24), ..Chunking::default() };
    let mut rows = Vec::new();
    let mut places = Vec::new();
    // Vectors come as they are ready; a text that is still being read is fed as `Part::More`.
    for chunk in embedder.embed_chunks([text], &chunking, Prompt::Default)? {
        let chunk = chunk?;
        println!(
            "bytes {:3}..{:3}: {}",
            chunk.bytes.start,
            chunk.bytes.end,
            text[chunk.bytes.clone()].trim().replace('\n', " ")
        );
        rows.extend(chunk.vector);
        places.push(chunk.bytes);
    }
    let rows = embral::Embeddings::new(rows, embedder.dimensions());
    let (best, score) = top_k(&embedder.embed("what happened to interest rates")?, &rows, 1)[0];
    println!("{score:.2}  {}", text[places[best].clone()].trim().replace('\n', " "));
    assert!(text[places[best].clone()].contains("bank"));

    let one = embedder.embed_documents(&[text], &chunking, Aggregate::Attention, Prompt::Default)?;
    println!("the document: one vector of {} components", one.dim());
    Ok(())
}
