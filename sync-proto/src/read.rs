//! Reading protobuf fields from a slice, with the answers of prost: varints may be longer than minimal but must fit 64 bits,
//! fields of an unknown number are skipped (groups too), a known number with another wire type is an error.

/// What is wrong with the bytes.
pub(crate) type Defect = &'static str;

pub(crate) const VARINT: u64 = 0;
pub(crate) const FIXED64: u64 = 1;
pub(crate) const BYTES: u64 = 2;
const GROUP: u64 = 3;
const GROUP_END: u64 = 4;
const FIXED32: u64 = 5;

const CUT: Defect = "a field reaches past the end";
const BAD_VARINT: Defect = "a varint is cut or wider than 64 bits";
const BAD_FIELD: Defect = "a field number is 0 or wider than 29 bits";
const BAD_TYPE: Defect = "wire type 6 or 7";
const WRONG_TYPE: Defect = "a field has the wire type of another";
const BAD_GROUP: Defect = "a group ends that did not begin, or groups lie more than 100 deep";

/// Groups within groups that are followed. The same as prost's limit.
const MAX_DEPTH: usize = 100;

/// The first of a field's bytes on the wire, decoded: number and wire type.
pub(crate) const fn key(number: u64, wire_type: u64) -> u64 {
    number << 3 | wire_type
}

/// Undoes the zigzag encoding of sint64.
pub(crate) const fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// The bytes not read yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, Defect> {
        match *self.0 {
            [byte, ref rest @ ..] if byte < 0x80 => {
                self.0 = rest;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Defect> {
        let mut value = 0;
        for (index, &byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                // The tenth byte holds the 64th bit only.
                if index == 9 && byte > 1 {
                    break;
                }
                self.0 = &self.0[index + 1..];
                return Ok(value);
            }
        }
        Err(BAD_VARINT)
    }

    #[inline]
    pub(crate) fn fixed64(&mut self) -> Result<u64, Defect> {
        let (value, rest) = self.0.split_first_chunk().ok_or(CUT)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*value))
    }

    #[inline]
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Defect> {
        let length = self.varint()?;
        self.take(length)
    }

    #[inline]
    fn take(&mut self, length: u64) -> Result<&'a [u8], Defect> {
        let length = usize::try_from(length).map_err(|_| CUT)?;
        let (value, rest) = self.0.split_at_checked(length).ok_or(CUT)?;
        self.0 = rest;
        Ok(value)
    }

    /// Skips the value of the field whose key was read and is none the caller knows. `known` is the highest field number of
    /// the message: a field up to it is here because its wire type is wrong.
    #[cold]
    pub(crate) fn skip_unknown(&mut self, key: u64, known: u64) -> Result<(), Defect> {
        if (1..=known).contains(&(key >> 3)) && key & 7 <= FIXED32 {
            return Err(WRONG_TYPE);
        }
        self.skip(key, 0)
    }

    /// Skips the value of the field whose key was read.
    pub(crate) fn skip(&mut self, key: u64, depth: usize) -> Result<(), Defect> {
        let number = check_key(key)?;
        match key & 7 {
            VARINT => self.varint().map(|_| ()),
            FIXED64 => self.take(8).map(|_| ()),
            FIXED32 => self.take(4).map(|_| ()),
            BYTES => self.bytes().map(|_| ()),
            GROUP if depth < MAX_DEPTH => loop {
                let inner = self.varint()?;
                if check_key(inner)? == number && inner & 7 == GROUP_END {
                    return Ok(());
                }
                self.skip(inner, depth + 1)?;
            },
            GROUP | GROUP_END => Err(BAD_GROUP),
            _ => Err(BAD_TYPE),
        }
    }
}

/// The field number of a key.
pub(crate) fn check_key(key: u64) -> Result<u64, Defect> {
    match key >> 3 {
        number if number != 0 && key <= u64::from(u32::MAX) => Ok(number),
        _ => Err(BAD_FIELD),
    }
}
