//! Model and vector file formats read and written by Embral.
