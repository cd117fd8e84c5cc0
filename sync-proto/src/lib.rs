//! Wire protocol of zone synchronization: protobuf messages, framing and a fast row codec.
//!
//! # The model
//!
//! Nodes hold **zones** of small records and push what changed to each other over **links**, one direction each: who dials,
//! sends. A link is a stream of **frames**: a varint length and one protobuf message, `Frame`, of the schema
//! `proto/zonesync/v1/sync.proto`, which is part of this package. Two kinds of frames carry records and make up nearly all
//! bytes: `Batch`, a piece of the steady stream of what the sender published, and `CatchUp`, whole states for a peer that
//! missed some. All others are small: greeting, acknowledging, asking, saying goodbye. What they mean and in which order they
//! come is told in `docs/protocol.md`; this crate knows nothing of zones, clocks or sockets.
//!
//! | from | to | by |
//! |---|---|---|
//! | records | a frame for the socket | [`BatchEncoder`], [`CatchUpEncoder`] |
//! | a control message | a frame for the socket | [`encode()`] |
//! | bytes of the socket | the body of a frame | [`framing`] |
//! | the body of a frame | a checked message | [`decode`] |
//! | a checked Batch or CatchUp | records | [`BatchView::rows`], [`CatchUpView::rows`] |
//!
//! **Records are never built as messages.** The encoders write each [`RowRef`] straight into the bytes of the frame, the views
//! read it from the bytes that were received; neither allocates per row. It is nevertheless plain protobuf, byte for byte what
//! the generated types in [`wire`] would write (property tests say so), and whatever another implementation may write is read:
//! fields in any order, unknown ones between them.
//!
//! **Rows are short.** Origins are indices into a table of the frame, stamps and times are distances from its first row. Beside
//! key and value a keyval row takes about ten bytes.
//!
//! **What was decoded can be used.** [`decode`] takes bytes from anybody, checks syntax, counts, lengths and indices once, and
//! says in an [`Error`] what is wrong and with which code to refuse it. After that no accessor fails. Every bound is a constant
//! in this root; [`max_record`] turns the bound of frames into one of records, so that what a store accepts can always be sent.
//!
//! # Example
//!
//! ```
//! use sync_proto::framing::FrameBuffer;
//! use sync_proto::{BatchEncoder, DEFAULT_FRAME_LIMIT, Message, RowRef, decode};
//!
//! # fn main() -> Result<(), sync_proto::Error> {
//! // The dialer, origin 0xa, has published sequence 41 of its zone 0 and now two records more.
//! let mut batch = BatchEncoder::new(0, 41, 0xa, DEFAULT_FRAME_LIMIT);
//! batch.push(&RowRef { key: b"192.0.2.1", value: b"blocked", stamp: 5 << 16, writer: 0xa, ..RowRef::default() });
//! batch.push(&RowRef { key: b"192.0.2.2", removed: true, stamp: 9 << 16, writer: 0xa, ..RowRef::default() });
//! let sent = batch.finish();
//!
//! // The acceptor knows from the Hello who sends.
//! let mut received = FrameBuffer::new(DEFAULT_FRAME_LIMIT);
//! received.push(&sent);
//! while let Some(body) = received.next_frame()? {
//!     match decode(body)? {
//!         Message::Batch(batch) => {
//!             assert_eq!((batch.from_seq_excluded(), batch.through_seq()), (41, 43));
//!             let rows: Vec<RowRef<'_>> = batch.rows(0xa).collect();
//!             assert_eq!((rows[0].key, rows[0].value, rows[0].seq), (&b"192.0.2.1"[..], &b"blocked"[..], 42));
//!             assert!(rows[1].removed);
//!         }
//!         other => unreachable!("{other:?}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod check;
mod encode;
mod error;
pub mod framing;
mod limits;
mod message;
mod read;
mod row;
mod rows;
mod view;
pub mod wire;
mod write;

pub use encode::{BatchEncoder, CatchUpEncoder};
pub use error::Error;
pub use limits::{
    DEFAULT_FRAME_LIMIT, MAX_FRAME_LIMIT, MAX_NAME, MAX_ORIGINS, MAX_ROW_OVERHEAD, MAX_ROWS, MAX_TABLE,
    MAX_TEXT, MAX_ZONES, MIN_FRAME_LIMIT, VERSION, max_record,
};
pub use message::{Message, decode, encode};
pub use row::RowRef;
pub use rows::Rows;
pub use view::{BatchView, CatchUpView};
