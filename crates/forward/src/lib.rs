//! The forward pass of Embral, written once for every backend.
