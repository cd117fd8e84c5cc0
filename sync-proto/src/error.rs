//! What can be wrong with received bytes.

use crate::wire::refuse::Code;

/// A defect in what a peer sent. Nothing of the frame may be used, and the link must end: after a defect nobody knows what the
/// peer meant. [`Error::refuse_code`] says what to tell it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The length prefix is not a varint of at most five bytes: this is no stream of frames.
    #[error("the frame's length is not a varint of at most 5 bytes")]
    FrameLength,
    /// The frame is larger than the receiver accepts. Known before anything of its body is buffered.
    #[error("frame of {length} bytes, at most {max} are allowed")]
    FrameTooLarge {
        /// Bytes of length prefix and body.
        length: u64,
        /// The receiver's bound.
        max: usize,
    },
    /// The bytes are not the protobuf encoding of the frame's message.
    #[error("malformed {frame}: {reason}")]
    Malformed {
        /// Kind of the frame, as in the schema.
        frame: &'static str,
        /// What was met.
        reason: String,
    },
    /// Well-formed, but against a rule of the protocol.
    #[error("invalid {frame}: {rule}")]
    Invalid {
        /// Kind of the frame, as in the schema.
        frame: &'static str,
        /// The rule, or how it was broken.
        rule: String,
    },
    /// More of something than the protocol allows.
    #[error("{frame} with {count} {what}, at most {max} are allowed")]
    TooMany {
        /// Kind of the frame, as in the schema.
        frame: &'static str,
        /// What was counted.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// The bound, one of this crate's constants.
        max: usize,
    },
}

impl Error {
    /// The code of the Refuse that tells the peer of this error: `Limit` for what is too large or too many, `Malformed` for
    /// the rest.
    pub fn refuse_code(&self) -> Code {
        match self {
            Self::FrameTooLarge { .. } | Self::TooMany { .. } => Code::Limit,
            Self::FrameLength | Self::Malformed { .. } | Self::Invalid { .. } => Code::Malformed,
        }
    }

    pub(crate) fn malformed(frame: &'static str, reason: impl ToString) -> Self {
        Self::Malformed { frame, reason: reason.to_string() }
    }

    pub(crate) fn invalid(frame: &'static str, rule: impl Into<String>) -> Self {
        Self::Invalid { frame, rule: rule.into() }
    }

    /// Ok if `count` is within `max`.
    pub(crate) fn at_most(
        frame: &'static str,
        what: &'static str,
        count: usize,
        max: usize,
    ) -> Result<(), Self> {
        if count <= max { Ok(()) } else { Err(Self::TooMany { frame, what, count, max }) }
    }
}
