//! Makes vectors small: a Matryoshka cut and one bit a component: `cargo run --release --example compact`.

use embral::{
    Config, Embedder, Result,
    quantize::{Quantization, Quantized, quantize},
};

pub(crate) fn main() -> Result<()> {
    let texts = ["a cat sat on the mat", "a kitten rests on a rug", "the central bank raised interest rates"];
    let embedder = Embedder::with_config(Config::for_dimension(128, "auto")?)?;
    let rows = embedder.embed_batch(&texts)?;
    println!("{} bytes a vector in f32", rows.dim() * 4);

    let Quantized::U8 { data, width } = quantize(&rows, Quantization::Ubinary, None)? else {
        unreachable!("ubinary gives unsigned bytes")
    };
    println!("{width} bytes a vector in bits");
    let hamming = |a: usize, b: usize| -> u32 {
        let row = |i: usize| &data[i * width..(i + 1) * width];
        row(a).iter().zip(row(b)).map(|(x, y)| (x ^ y).count_ones()).sum()
    };
    println!("bits that differ: cat and kitten {}, cat and bank {}", hamming(0, 1), hamming(0, 2));
    assert!(hamming(0, 1) < hamming(0, 2));
    Ok(())
}
