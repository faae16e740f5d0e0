//! The op suite.
