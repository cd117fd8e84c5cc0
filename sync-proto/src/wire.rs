//! The messages of the schema as prost generates them: plain, unchecked.
//!
//! [`decode`](crate::decode) hands out the control messages of this module after checking them. [`Batch`], [`CatchUp`] and
//! [`Row`] are here for tools and tests; nodes use [`BatchEncoder`](crate::BatchEncoder),
//! [`CatchUpEncoder`](crate::CatchUpEncoder) and the views, which speak the same encoding without a message per record.

// Generated code follows its generator's rules, not ours.
#![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
#![allow(clippy::use_self, clippy::cast_lossless, clippy::manual_let_else, clippy::or_fun_call)]

include!(concat!(env!("OUT_DIR"), "/zonesync.v1.rs"));
