//! The shape of a stick-table, as its owner defines it: its name, what its keys are, and what it stores for each.

use super::wire::{Reader, put_counted, put_integer};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The longest array of `gpc`, `gpc_rate` and `gpt`: HAProxy's bound.
const ARRAY_MAX: u64 = 100;
/// The longest key of strings and bytes that is taken. HAProxy has no bound of its own; a message has to fit its buffer.
const KEY_MAX: u64 = 16 << 10;

/// What a table stores under a number: its name in a configuration, and what it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DataType {
    pub(super) name: &'static str,
    pub(super) form: Form,
    is_array: bool,
}

/// How a datum is written, and whether it means anything to add two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A number that is no count: a server's number, a tag, the connections of this moment, which HAProxy takes from nobody.
    Number,
    /// A count of so much at the most.
    Total(u64),
    /// A count over a period: how long ago the present one began, what it has, and what the one before had.
    Rate,
    /// A server by name or address.
    Server,
}

const fn one(name: &'static str, form: Form) -> DataType {
    DataType { name, form, is_array: false }
}

const fn array(name: &'static str, form: Form) -> DataType {
    DataType { name, form, is_array: true }
}

/// By number, as in HAProxy 2.6: `STKTABLE_DT_*`. Later versions have more behind these, which are not looked at.
pub(super) static DATA_TYPES: [DataType; 25] = [
    one("server_id", Form::Number),
    one("gpt0", Form::Number),
    one("gpc0", Form::Total(u32::MAX as u64)),
    one("gpc0_rate", Form::Rate),
    one("conn_cnt", Form::Total(u32::MAX as u64)),
    one("conn_rate", Form::Rate),
    one("conn_cur", Form::Number),
    one("sess_cnt", Form::Total(u32::MAX as u64)),
    one("sess_rate", Form::Rate),
    one("http_req_cnt", Form::Total(u32::MAX as u64)),
    one("http_req_rate", Form::Rate),
    one("http_err_cnt", Form::Total(u32::MAX as u64)),
    one("http_err_rate", Form::Rate),
    one("bytes_in_cnt", Form::Total(u64::MAX)),
    one("bytes_in_rate", Form::Rate),
    one("bytes_out_cnt", Form::Total(u64::MAX)),
    one("bytes_out_rate", Form::Rate),
    one("gpc1", Form::Total(u32::MAX as u64)),
    one("gpc1_rate", Form::Rate),
    one("server_key", Form::Server),
    one("http_fail_cnt", Form::Total(u32::MAX as u64)),
    one("http_fail_rate", Form::Rate),
    array("gpt", Form::Number),
    array("gpc", Form::Total(u32::MAX as u64)),
    array("gpc_rate", Form::Rate),
];

/// Something that a table stores for each key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    /// Its place in [`DATA_TYPES`].
    pub(super) number: usize,
    /// How many there are of it, 1 if it is no array.
    pub(super) count: usize,
    /// Of a rate, ms.
    pub(super) period_ms: u64,
}

impl Field {
    pub(super) fn form(&self) -> Form {
        DATA_TYPES[self.number].form
    }

    /// Whether the figures of several HAProxies can be added.
    pub(super) fn is_summable(&self) -> bool {
        matches!(self.form(), Form::Total(_) | Form::Rate)
    }
}

/// What keys are, by the number that stands for it in a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyType {
    Integer = 2,
    Ipv4 = 4,
    Ipv6 = 5,
    String = 6,
    Binary = 7,
}

/// A table as its owner defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Definition {
    /// What the owner calls it in messages.
    pub(super) number: u64,
    pub(super) name: String,
    pub(super) key_type: KeyType,
    /// Of strings one more than the longest.
    pub(super) key_length: u64,
    /// How long an entry lives after its last use; 0: for ever.
    pub(super) expire_ms: u64,
    pub(super) fields: Vec<Field>,
}

impl Definition {
    /// Reads one. The bytes come from a peer.
    pub(super) fn read(mut body: Reader<'_>) -> Result<Self, &'static str> {
        const SHORT: &str = "a definition that ends early";
        let number = body.integer().ok_or(SHORT)?;
        let name = std::str::from_utf8(body.counted().ok_or(SHORT)?).map_err(|_| "a name that is no text")?;
        let key_type = match body.integer().ok_or(SHORT)? {
            2 => KeyType::Integer,
            4 => KeyType::Ipv4,
            5 => KeyType::Ipv6,
            6 => KeyType::String,
            7 => KeyType::Binary,
            _ => return Err("a type of keys that there is not"),
        };
        let key_length = body.integer().ok_or(SHORT)?;
        let is_right = match key_type {
            KeyType::Integer | KeyType::Ipv4 => key_length == 4,
            KeyType::Ipv6 => key_length == 16,
            KeyType::String | KeyType::Binary => (1..=KEY_MAX).contains(&key_length),
        };
        if !is_right {
            return Err("a length of keys that cannot be");
        }
        let data = body.integer().ok_or(SHORT)?;
        let expire_ms = body.integer().ok_or(SHORT)?;
        let mut fields = Vec::new();
        for (number, data_type) in DATA_TYPES.iter().enumerate().filter(|(number, _)| data >> number & 1 == 1)
        {
            let mut field = Field { number, count: 1, period_ms: 0 };
            let is_rate = data_type.form == Form::Rate;
            if (data_type.is_array || is_rate) && body.integer().ok_or(SHORT)? != number as u64 {
                return Err("parameters of another type of data");
            }
            if data_type.is_array {
                let count = body.integer().ok_or(SHORT)?;
                if !(1..=ARRAY_MAX).contains(&count) {
                    return Err("a length of an array that cannot be");
                }
                field.count = count as usize;
            }
            if is_rate {
                field.period_ms = body.integer().ok_or(SHORT)?;
                if field.period_ms == 0 {
                    return Err("a rate without a period");
                }
            }
            fields.push(field);
        }
        Ok(Self { number, name: name.to_owned(), key_type, key_length, expire_ms, fields })
    }

    /// Writes the body of the message.
    pub(super) fn write(&self, output: &mut Vec<u8>) {
        put_integer(output, self.number);
        put_counted(output, self.name.as_bytes());
        put_integer(output, self.key_type as u64);
        put_integer(output, self.key_length);
        put_integer(output, self.fields.iter().fold(0, |data, field| data | 1 << field.number));
        put_integer(output, self.expire_ms);
        for field in &self.fields {
            let data_type = &DATA_TYPES[field.number];
            let is_rate = data_type.form == Form::Rate;
            if data_type.is_array || is_rate {
                put_integer(output, field.number as u64);
            }
            if data_type.is_array {
                put_integer(output, field.count as u64);
            }
            if is_rate {
                put_integer(output, field.period_ms);
            }
        }
    }

    /// Reads a key of this table, as other doors write it: addresses and numbers in text.
    pub(super) fn read_key(&self, body: &mut Reader<'_>) -> Option<Vec<u8>> {
        match self.key_type {
            KeyType::Integer => Some((body.fixed()? as i32).to_string().into_bytes()),
            KeyType::Ipv4 => Some(Ipv4Addr::from_bits(body.fixed()?).to_string().into_bytes()),
            KeyType::Ipv6 => {
                let octets: [u8; 16] = body.bytes(16)?.try_into().ok()?;
                Some(Ipv6Addr::from(octets).to_string().into_bytes())
            }
            KeyType::String => Some(body.counted()?.to_vec()),
            KeyType::Binary => Some(body.bytes(self.key_length)?.to_vec()),
        }
    }

    /// Writes a key; false if it can be none of this table, and nothing is written then.
    pub(super) fn write_key(&self, output: &mut Vec<u8>, key: &[u8]) -> bool {
        let text = std::str::from_utf8(key).unwrap_or_default();
        match self.key_type {
            KeyType::Integer => {
                text.parse().map(|key: i32| output.extend_from_slice(&key.to_be_bytes())).is_ok()
            }
            KeyType::Ipv4 => {
                text.parse().map(|key: Ipv4Addr| output.extend_from_slice(&key.octets())).is_ok()
            }
            KeyType::Ipv6 => {
                text.parse().map(|key: Ipv6Addr| output.extend_from_slice(&key.octets())).is_ok()
            }
            // HAProxy would cut off what is longer, and take what has a zero for what stands before it.
            KeyType::String if (key.len() as u64) < self.key_length && !key.contains(&0) => {
                put_counted(output, key);
                true
            }
            KeyType::Binary if key.len() as u64 == self.key_length => {
                output.extend_from_slice(key);
                true
            }
            KeyType::String | KeyType::Binary => false,
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
