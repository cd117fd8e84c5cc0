//! The messages of the schema as prost generates them: plain, unchecked.
//!
//! [`decode`](crate::decode) hands out the control messages of this module after checking them. [`Batch`], [`CatchUp`] and
//! [`Row`] are here for tools and tests; nodes use [`BatchEncoder`](crate::BatchEncoder),
//! [`CatchUpEncoder`](crate::CatchUpEncoder) and the views, which speak the same encoding without a message per record.

include!(concat!(env!("OUT_DIR"), "/zonesync.v1.rs"));
