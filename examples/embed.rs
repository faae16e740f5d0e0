//! Embeds three texts with the default model and compares them: `cargo run --release --example embed`.

use embral::{Embedder, Result, similarity};

pub(crate) fn main() -> Result<()> {
    let embedder = Embedder::open_default()?;
    let texts = ["a cat sat on the mat", "a kitten rests on a rug", "the central bank raised interest rates"];
    let rows = embedder.embed_batch(&texts)?;
    println!("{} vectors of {} components", rows.len(), rows.dim());

    let scores = similarity(&rows, &rows);
    for (text, scores) in texts.iter().zip(scores.chunks(texts.len())) {
        println!("{scores:6.3?}  {text}");
    }
    assert!(scores[1] > scores[2], "the kitten is nearer to the cat than the bank is");
    println!("{}", embedder.profile());
    Ok(())
}
