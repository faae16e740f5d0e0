//! The CPU backend of Embral.
