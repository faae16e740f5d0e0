//! Text embeddings, right and fast, on the hardware at hand.
