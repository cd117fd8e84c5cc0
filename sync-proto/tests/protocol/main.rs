//! The codec against prost, against hostile bytes, against its own promises of size, and against the documents.

mod codec;
mod compact;
mod control;
mod document;
mod framing;
mod hostile;
mod support;
