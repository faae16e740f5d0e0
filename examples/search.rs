//! Ranks documents by meaning: `cargo run --release --example search -- "how do plants eat"`.

use embral::{Embedder, Result, top_k};

const DOCUMENTS: [&str; 6] = [
    "Photosynthesis turns light, water and carbon dioxide into sugar in the leaves of plants.",
    "The stock market fell after the central bank raised interest rates.",
    "A bicycle chain passes the power of the pedals to the rear wheel.",
    "Vaccines train the immune system to recognise a virus.",
    "The recipe needs two eggs, flour, butter and a pinch of salt.",
    "Volcanoes erupt when magma rises through cracks in the crust.",
];

pub(crate) fn main() -> Result<()> {
    let query = std::env::args().nth(1).filter(|a| !a.starts_with('-'));
    let query = query.as_deref().unwrap_or("how do plants make their food from sunlight");
    let embedder = Embedder::open_default()?;
    let documents = embedder.embed_batch(&DOCUMENTS)?;
    let ranked = top_k(&embedder.embed(query)?, &documents, 3);
    for &(index, score) in &ranked {
        println!("{score:.3}  {}", DOCUMENTS[index]);
    }
    assert_eq!(ranked.len(), 3);
    Ok(())
}
