//! A server as its clients see it: over real sockets on loopback, against what the library gives.

mod cohere;
#[cfg(feature = "grpc")]
mod grpc;
mod hostile;
mod hub;
mod keys;
mod lifecycle;
mod load;
mod models;
mod native;
mod ollama;
mod openai;
mod pull;
mod stream;
mod support;
mod tei;
mod transport;
