//! Values as operators write them: sizes, times, names, lists. Each function takes a TOML value and answers with the parsed value or with
//! what is wrong and how to write it right; the [reader](super::reader) adds where.

use std::time::Duration;
use toml::de::DeValue;

/// What a parser of a value answers; the error is a clause that follows the key: ``​`size` `` + "must be …".
pub(super) type Parsed<T> = Result<T, String>;

/// Longest zone name, node name and cluster name, in bytes: they travel in every handshake and stand in every status line.
pub(crate) const NAME_MAX: usize = 64;

/// Longest time a setting may have: ten years, so that adding it to any clock reading stays in range.
const TIME_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Largest size a setting may have: 1 TiB, far beyond any machine this runs on, so that sums of sizes stay in range.
const SIZE_MAX: u64 = 1 << 40;

pub(super) fn text(value: &DeValue<'_>) -> Parsed<String> {
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(format!("must be a string in quotes, not {}", kind(value))),
    }
}

pub(super) fn flag(value: &DeValue<'_>) -> Parsed<bool> {
    value.as_bool().ok_or_else(|| match value.as_str() {
        Some("on" | "off" | "true" | "false") => "must be true or false without quotes".to_owned(),
        _ => format!("must be true or false, not {}", kind(value)),
    })
}

pub(super) fn count(value: &DeValue<'_>) -> Parsed<u64> {
    let integer = value.as_integer().ok_or_else(|| format!("must be a whole number, not {}", kind(value)))?;
    u64::from_str_radix(integer.as_str(), integer.radix())
        .map_err(|_| format!("must be a whole number of 0 or more, not {integer}"))
}

/// A list of what `parse` accepts; a single value stands for a list of one.
pub(super) fn list<T>(value: &DeValue<'_>, parse: impl Fn(&DeValue<'_>) -> Parsed<T>) -> Parsed<Vec<T>> {
    match value.as_array() {
        Some(values) => values.iter().map(|value| parse(value.get_ref())).collect(),
        None => Ok(vec![parse(value)?]),
    }
}

/// A name that goes into URLs, logs and handshakes unescaped.
pub(super) fn name(value: &DeValue<'_>) -> Parsed<String> {
    let name = text(value)?;
    check_name(&name).map(|()| name)
}

/// The rule of [`name`], for names that do not come from the file (the host name).
pub(crate) fn check_name(name: &str) -> Parsed<()> {
    if name.is_empty() {
        return Err("must not be empty".to_owned());
    }
    if name.len() > NAME_MAX {
        return Err(format!("is {} bytes long; at most {NAME_MAX} are possible", name.len()));
    }
    match name.chars().find(|c| !c.is_ascii_alphanumeric() && !"_-.:".contains(*c)) {
        Some(c) => Err(format!("{name:?} contains {c:?}; use letters, digits and _ - . : only")),
        None => Ok(()),
    }
}

/// `32k`, `1m`, `1g`, or a plain number of bytes.
pub(super) fn size(value: &DeValue<'_>) -> Parsed<u64> {
    let bytes = match value.as_str() {
        Some(text) => parse_size(text)?,
        None if value.is_integer() => count(value)?,
        None => return Err(format!("must be a size such as \"32k\", \"1m\" or \"1g\", not {}", kind(value))),
    };
    match bytes {
        1..=SIZE_MAX => Ok(bytes),
        0 => Err("must be larger than 0".to_owned()),
        _ => Err(format!("is larger than the largest size possible, {}", display_size(SIZE_MAX))),
    }
}

/// `32k` → 32,768. Units are k, m and g (powers of 1,024), in either case; without one the number counts bytes.
///
/// # Errors
///
/// A clause that says what is wrong with the text.
pub(super) fn parse_size(text: &str) -> Parsed<u64> {
    let wrong = || {
        format!("{text:?} is not a size; write a number with k, m or g, such as \"32k\", \"1m\" or \"1g\"")
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        _ => return Err(wrong()),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u64 = digits.parse().unwrap_or(u64::MAX);
    Ok(number.saturating_mul(1 << shift))
}

/// A size with the largest unit that leaves it whole: 32,768 → `32k`.
pub(crate) fn display_size(bytes: u64) -> String {
    for (shift, unit) in [(30, "g"), (20, "m"), (10, "k")] {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// `10ms`, `5s`, `1h30m`; `0s` only where zero means something.
pub(super) fn time(value: &DeValue<'_>) -> Parsed<Duration> {
    match value.as_str() {
        Some(text) => parse_time(text),
        None if value.is_integer() => {
            Err("needs a unit; write it in quotes, such as \"500ms\" or \"10s\"".to_owned())
        }
        None => Err(format!("must be a time such as \"10ms\", \"5s\" or \"1h30m\", not {}", kind(value))),
    }
}

/// A time longer than nothing.
pub(super) fn positive_time(value: &DeValue<'_>) -> Parsed<Duration> {
    match time(value)? {
        Duration::ZERO => Err("must be longer than 0".to_owned()),
        time => Ok(time),
    }
}

/// `1h30m` → 5,400 s. Units are w, d, h, m, s and ms, each at most once, from the largest to the smallest.
///
/// # Errors
///
/// A clause that names the text, what is wrong with it, and the right form.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 6] =
        [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let wrong = || {
        format!(
            "{text:?} is not a time; write numbers with w, d, h, m, s or ms, such as \"10ms\", \"5s\" or \"1h30m\""
        )
    };
    let mut units = UNITS.iter();
    let mut rest = text;
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, tail) = tail.split_at(letters);
        if number.is_empty() {
            return Err(wrong());
        }
        let (_, unit_ms) = units.find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        total_ms =
            total_ms.saturating_add(number.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(*unit_ms));
        rest = tail;
    }
    if text.is_empty() {
        return Err(wrong());
    }
    match Duration::from_millis(total_ms) {
        time if time > TIME_MAX => Err(format!("{text:?} is longer than the longest time possible, 3650d")),
        time => Ok(time),
    }
}

/// `0600`: the permissions of a zone's file, in octal digits as for `chmod`. Its owner is the node itself, which must be able to open it again.
pub(super) fn mode(value: &DeValue<'_>) -> Parsed<u32> {
    let Some(text) = value.as_str() else {
        return Err(format!(
            "must be octal digits in quotes, such as \"0600\" or \"0660\", not {}",
            kind(value)
        ));
    };
    let digits = text.strip_prefix('0').filter(|digits| digits.len() == 3).unwrap_or(text).as_bytes();
    match digits {
        [b'6', rest @ ..] if rest.len() == 2 && rest.iter().all(|digit| b"046".contains(digit)) => {
            Ok(digits.iter().fold(0, |mode, digit| mode << 3 | u32::from(digit - b'0')))
        }
        _ => Err(format!(
            "{text:?} is not a mode for a zone's file; write \"0600\" for the node's user alone, or \"0660\" to let its group attach"
        )),
    }
}

/// What a value is, in words.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
