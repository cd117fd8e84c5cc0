//! Wire protocol of zone synchronization: protobuf messages, framing and a fast row codec.

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
