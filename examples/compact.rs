//! Makes vectors small, a Matryoshka cut and one bit a component, and searches the bits: `cargo run --release --example compact`.

use embral::{
    Config, Embedder, Result,
    quantize::{Candidates, Quantization, quantize},
};

pub(crate) fn main() -> Result<()> {
    let texts = ["a cat sat on the mat", "a kitten rests on a rug", "the central bank raised interest rates"];
    let embedder = Embedder::with_config(Config::for_dimension(128, "auto")?)?;
    let rows = embedder.embed_batch(&texts)?;
    println!("{} bytes a vector in f32", rows.dim() * 4);

    let bits = quantize(&rows, Quantization::Ubinary, None)?;
    println!("{} bytes a vector in bits", bits.width());
    let query = embedder.embed("a small cat on a carpet")?;
    // All vectors by their bits, then the two best by the floats of the query.
    let best = bits.top_k(&query, None, Candidates { k: 2, rescored: 2 })?;
    for &(row, score) in &best {
        println!("{score:.2}  {}", texts[row]);
    }
    assert!(best.iter().all(|&(row, _)| row < 2));
    Ok(())
}
