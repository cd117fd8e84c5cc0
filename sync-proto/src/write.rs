//! Writing protobuf fields into room that was measured before. Fields with the default value are left out, as prost does.

/// Bytes of a varint.
#[inline]
pub(crate) const fn varint_len(value: u64) -> usize {
    // ceil(bits / 7) without a division; protobuf's own formula.
    ((value | 1).ilog2() as usize * 9 + 73) / 64
}

/// The zigzag encoding of sint64: small for numbers near 0 of either sign.
#[inline]
pub(crate) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Bytes of a varint field with a number below 16; none when it is 0.
#[inline]
pub(crate) const fn varint_field_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

/// Bytes of a fixed64 field with a number below 16; none when it is 0.
#[inline]
pub(crate) const fn fixed_field_len(value: u64) -> usize {
    if value == 0 { 0 } else { 9 }
}

/// Bytes of a field of bytes, a string or a message with a number below 16; none when it is empty.
#[inline]
pub(crate) const fn bytes_field_len(length: usize) -> usize {
    if length == 0 { 0 } else { 1 + varint_len(length as u64) + length }
}

/// A cursor over room that the caller measured to fit exactly.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    room: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    #[inline]
    pub(crate) fn new(room: &'a mut [u8]) -> Self {
        Self { room, at: 0 }
    }

    /// How much is written.
    #[inline]
    pub(crate) fn written(&self) -> usize {
        self.at
    }

    #[inline]
    pub(crate) fn byte(&mut self, byte: u8) {
        self.room[self.at] = byte;
        self.at += 1;
    }

    #[inline]
    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    #[inline]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.room[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// A varint field, left out when 0.
    #[inline]
    pub(crate) fn varint_field(&mut self, key: u64, value: u64) {
        if value != 0 {
            self.byte(key as u8);
            self.varint(value);
        }
    }

    /// A fixed64 field, left out when 0.
    #[inline]
    pub(crate) fn fixed_field(&mut self, key: u64, value: u64) {
        if value != 0 {
            self.byte(key as u8);
            self.bytes(&value.to_le_bytes());
        }
    }

    /// A field of bytes, left out when empty.
    #[inline]
    pub(crate) fn bytes_field(&mut self, key: u64, value: &[u8]) {
        if !value.is_empty() {
            self.byte(key as u8);
            self.varint(value.len() as u64);
            self.bytes(value);
        }
    }
}
