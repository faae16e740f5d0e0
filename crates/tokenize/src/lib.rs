//! Text to token ids for Embral.
