//! Every bound of the protocol, with its reason. Both sides keep to them; `decode` enforces them.

/// The protocol version this crate speaks.
pub const VERSION: u32 = 1;

/// Bound of a frame in bytes, length prefix included, until the peer's Hello names another: 1 MiB.
pub const DEFAULT_FRAME_LIMIT: usize = 1 << 20;

/// Smallest `max_frame` a Hello may name: 4 KiB. Below that a row's overhead would leave nothing for records.
pub const MIN_FRAME_LIMIT: usize = 4 << 10;

/// Largest frame the encoders ever write, whatever limit they are given: 64 MiB. Keeps every length below 2^28, so that it
/// takes at most four bytes.
pub const MAX_FRAME_LIMIT: usize = 64 << 20;

/// Zones in a Hello, and so the bound of a zone's index.
pub const MAX_ZONES: usize = 1024;

/// Origins in one version vector. Every restart of a node adds one until the vectors are pruned.
pub const MAX_ORIGINS: usize = 4096;

/// Origins in the table of one Batch or CatchUp. An encoder that meets more ends the frame.
pub const MAX_TABLE: usize = 256;

/// Rows in one Batch or CatchUp.
pub const MAX_ROWS: usize = 1 << 16;

/// Bytes of a zone's, node's or cluster's name.
pub const MAX_NAME: usize = 255;

/// Bytes of the text in Refuse and Goodbye. `decode` cuts a longer one.
pub const MAX_TEXT: usize = 1024;

/// Most bytes that a frame with a single row has beside the row's key and value.
///
/// A sum with one line per part, each at its widest. [`max_record`] is built on it.
pub const MAX_ROW_OVERHEAD: usize = FRAME_HEAD + ROWS_HEAD + ROWS_TAIL + ROW_HEAD;

/// Length prefix; tag and length of the kind. Lengths: see [`MAX_FRAME_LIMIT`].
const FRAME_HEAD: usize = LENGTH + 1 + LENGTH;
/// zone; from_seq_excluded or request; stamp_base; time_base; tat_base. Also the room the encoders keep before the rows.
const ROWS_HEAD: usize = (1 + INDEX) + (1 + VARINT) + (1 + VARINT) + (1 + VARINT) + (1 + FIXED);
/// origins with the row's writer and dot; seq_base.
const ROWS_TAIL: usize = (1 + INDEX + 2 * FIXED) + (1 + VARINT);
/// The row's tag and length; key; value; stamp_ms; stamp_count; writer; time; removed; origin; seq; debt_ns; tat. No stamp_near,
/// which takes less than the two that are not written with it.
const ROW_HEAD: usize = (1 + LENGTH)
    + (1 + LENGTH)
    + (1 + LENGTH)
    + (1 + VARINT)
    + (1 + INDEX)
    + (1 + INDEX)
    + (1 + VARINT)
    + 2
    + (1 + INDEX)
    + (1 + VARINT)
    + (1 + VARINT)
    + (1 + VARINT);

/// Room for everything before the rows of a frame.
pub(crate) const HEAD_ROOM: usize = FRAME_HEAD + ROWS_HEAD;

const LENGTH: usize = 4;
const INDEX: usize = 5;
const VARINT: usize = 10;
const FIXED: usize = 8;

const _: () = assert!(MAX_FRAME_LIMIT < 1 << 28, "lengths take at most four bytes");
const _: () = assert!(MAX_ROW_OVERHEAD < MIN_FRAME_LIMIT / 8, "the smallest frame has room for records");

/// Most bytes of key and value together that fit into a frame of `frame_limit` bytes, whatever else the record holds.
///
/// A store that refuses larger records at the write never meets one that cannot be sent. 0 when not even an empty record is
/// sure to fit.
///
/// ```
/// assert_eq!(sync_proto::max_record(1 << 20), (1 << 20) - sync_proto::MAX_ROW_OVERHEAD);
/// ```
pub const fn max_record(frame_limit: usize) -> usize {
    let limit = if frame_limit < MAX_FRAME_LIMIT { frame_limit } else { MAX_FRAME_LIMIT };
    limit.saturating_sub(MAX_ROW_OVERHEAD)
}
