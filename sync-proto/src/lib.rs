//! Wire protocol of zone synchronization: protobuf messages, framing and a fast row codec.
