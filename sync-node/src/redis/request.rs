//! Requests as they come over the wire: arrays of bulk strings, or lines that a person types.
//!
//! The parser reads on where it stopped: a request that comes in single bytes costs no more work than one that comes at once. It copies nothing but
//! lines; arguments are ranges of the bytes it was shown. What a client may make it hold is bounded before it is held: a length that is announced
//! reserves nothing.
//!
//! There are crates for this (`redis-protocol`, `resp-async`); those read on from the beginning of an incomplete request, and make a tree of owned
//! frames of it, which costs an allocation for each argument.

/// Bytes of a request, all of it: as many as of a request's body at the API.
const REQUEST_MAX: usize = 1 << 20;
/// Bytes of a line, as in Redis.
const LINE_MAX: usize = 64 << 10;
/// Bytes of a line that announces a count or a length: a sign, 19 digits, and the end, generously.
const HEAD_MAX: usize = 32;
/// Arguments, and bytes of one, before a client has authenticated, as in Redis.
const STRANGER_ARGUMENTS_MAX: usize = 10;
const STRANGER_BULK_MAX: usize = 16 << 10;
/// What the list of arguments may keep from one request to the next, elements.
const KEPT: usize = 1 << 10;

/// What a request may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    arguments: usize,
    bulk: usize,
}

impl Bounds {
    /// For clients that may do something.
    pub(super) const KNOWN: Self = Self { arguments: REQUEST_MAX, bulk: REQUEST_MAX };
    /// For clients that have to authenticate first.
    pub(super) const STRANGER: Self = Self { arguments: STRANGER_ARGUMENTS_MAX, bulk: STRANGER_BULK_MAX };
}

/// What is wrong with what a client sent; after it nothing that the client sends has a meaning. The texts are those of Redis where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    Count,
    StrangerCount,
    Length,
    StrangerLength,
    /// Something else than a bulk string.
    Kind(u8),
    /// A bulk string that is longer than announced.
    End,
    Line,
    Quotes,
    TooLarge,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count => f.write_str("invalid multibulk length"),
            Self::StrangerCount => f.write_str("unauthenticated multibulk length"),
            Self::Length => f.write_str("invalid bulk length"),
            Self::StrangerLength => f.write_str("unauthenticated bulk length"),
            Self::Kind(byte) => write!(f, "expected '$', got '{}'", byte.escape_ascii()),
            Self::End => f.write_str("expected the end of a line behind a bulk string"),
            Self::Line => f.write_str("too big inline request"),
            Self::Quotes => f.write_str("unbalanced quotes in request"),
            Self::TooLarge => write!(f, "a request is larger than {REQUEST_MAX} bytes"),
        }
    }
}

/// A whole request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    bytes: &'a [u8],
    arguments: &'a [(u32, u32)],
}

impl<'a> Request<'a> {
    /// The name of the command and its arguments. None at all is possible: an empty line.
    pub(super) fn len(&self) -> usize {
        self.arguments.len()
    }

    /// An argument; the name of the command is the first, 0. Empty if there are not so many.
    pub(super) fn get(&self, index: usize) -> &'a [u8] {
        let range = self.arguments.get(index).copied().unwrap_or_default();
        self.bytes.get(range.0 as usize..range.1 as usize).unwrap_or_default()
    }

    /// The arguments from one on.
    pub(super) fn from(self, index: usize) -> impl Iterator<Item = &'a [u8]> {
        (index..self.len()).map(move |index| self.get(index))
    }
}

/// What is expected next.
#[derive(Debug, Clone, Copy, Default)]
enum Expected {
    #[default]
    Request,
    /// So many arguments, the length of the first of them.
    Length(usize),
    /// So many arguments, so many bytes of the first of them.
    Bulk(usize, usize),
}

/// Reads one request after the other.
#[derive(Debug, Default)]
pub(super) struct Parser {
    expected: Expected,
    /// Bytes of this request that have been read.
    at: usize,
    /// Bytes behind `at` in which there is no end of a line.
    searched: usize,
    arguments: Vec<(u32, u32)>,
    /// The words of a line, quotes and escapes resolved.
    words: Vec<u8>,
    is_line: bool,
}

impl Parser {
    /// Reads on in `bytes`, which begin with the request that is being read, and are what they were the last time and maybe more. Answers its length when it
    /// is whole: then [`Self::request`] has it, until [`Self::next`].
    pub(super) fn read(&mut self, bytes: &[u8], bounds: Bounds) -> Result<Option<usize>, Malformed> {
        loop {
            let rest = &bytes[self.at..];
            match self.expected {
                Expected::Request => match rest.first() {
                    None => return Ok(None),
                    Some(b'*') => {
                        let Some(count) = self.head(rest, Malformed::Count)? else { return Ok(None) };
                        let Ok(count @ 1..) = usize::try_from(count) else { return Ok(Some(self.at)) };
                        if count > bounds.arguments {
                            let is_stranger = bounds.arguments < REQUEST_MAX;
                            return Err(if is_stranger {
                                Malformed::StrangerCount
                            } else {
                                Malformed::Count
                            });
                        }
                        self.expected = Expected::Length(count);
                    }
                    Some(_) => return self.line(rest),
                },
                Expected::Length(count) => {
                    let Some(kind) = rest.first() else { return Ok(None) };
                    if *kind != b'$' {
                        return Err(Malformed::Kind(*kind));
                    }
                    let Some(length) = self.head(rest, Malformed::Length)? else { return Ok(None) };
                    let length = usize::try_from(length).map_err(|_| Malformed::Length)?;
                    if length > bounds.bulk {
                        let is_stranger = bounds.bulk < REQUEST_MAX;
                        return Err(if is_stranger {
                            Malformed::StrangerLength
                        } else {
                            Malformed::TooLarge
                        });
                    }
                    if self.at + length + 2 > REQUEST_MAX {
                        return Err(Malformed::TooLarge);
                    }
                    self.expected = Expected::Bulk(count, length);
                }
                Expected::Bulk(count, length) => {
                    let Some(end) = rest.get(length..length + 2) else { return Ok(None) };
                    if end != b"\r\n" {
                        return Err(Malformed::End);
                    }
                    // Both are less than REQUEST_MAX.
                    self.arguments.push((self.at as u32, (self.at + length) as u32));
                    self.at += length + 2;
                    if count == 1 {
                        return Ok(Some(self.at));
                    }
                    self.expected = Expected::Length(count - 1);
                }
            }
        }
    }

    /// The request that was read, of the same bytes.
    pub(super) fn request<'a>(&'a self, bytes: &'a [u8]) -> Request<'a> {
        let bytes = if self.is_line { &self.words } else { bytes };
        Request { bytes, arguments: &self.arguments }
    }

    /// Begins with the next request.
    pub(super) fn next(&mut self) {
        self.expected = Expected::Request;
        (self.at, self.searched, self.is_line) = (0, 0, false);
        self.arguments.clear();
        self.arguments.shrink_to(KEPT);
        self.words = Vec::new();
    }

    /// The number in a line such as `*3`, once the line is whole.
    fn head(&mut self, rest: &[u8], wrong: Malformed) -> Result<Option<i64>, Malformed> {
        let mut number: i64 = 0;
        let (digits, sign) = if rest.get(1) == Some(&b'-') { (2, -1) } else { (1, 1) };
        for (index, byte) in rest.iter().enumerate().skip(digits) {
            match byte {
                b'0'..=b'9' if index < HEAD_MAX => {
                    let digit = i64::from(byte - b'0');
                    number = number.checked_mul(10).and_then(|n| n.checked_add(digit)).ok_or(wrong)?;
                }
                b'\r' if index > digits => match rest.get(index + 1) {
                    None => return Ok(None),
                    Some(b'\n') => {
                        self.at += index + 2;
                        return Ok(Some(sign * number));
                    }
                    Some(_) => return Err(wrong),
                },
                _ => return Err(wrong),
            }
        }
        Ok(None)
    }

    /// A request in a line, once it is whole.
    fn line(&mut self, rest: &[u8]) -> Result<Option<usize>, Malformed> {
        let unsearched = &rest[self.searched..];
        let Some(end) = unsearched.iter().take(LINE_MAX).position(|byte| *byte == b'\n') else {
            self.searched = rest.len();
            return if rest.len() > LINE_MAX { Err(Malformed::Line) } else { Ok(None) };
        };
        let end = self.searched + end;
        let line = &rest[..end];
        self.at += end + 1;
        self.is_line = true;
        self.split(line.strip_suffix(b"\r").unwrap_or(line))?;
        Ok(Some(self.at))
    }

    /// Splits a line into words as a shell does, and as Redis does.
    fn split(&mut self, line: &[u8]) -> Result<(), Malformed> {
        let mut rest = line.trim_ascii_start();
        while let Some(&first) = rest.first() {
            let from = self.words.len() as u32;
            let quote = matches!(first, b'"' | b'\'').then_some(first);
            rest = match quote {
                Some(quote) => {
                    let rest = self.quoted(&rest[1..], quote)?;
                    if rest.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
                        return Err(Malformed::Quotes);
                    }
                    rest
                }
                None => {
                    let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
                    self.words.extend_from_slice(&rest[..end]);
                    &rest[end..]
                }
            };
            self.arguments.push((from, self.words.len() as u32));
            rest = rest.trim_ascii_start();
        }
        Ok(())
    }

    /// Reads up to the closing quote, and answers what is behind it.
    fn quoted<'l>(&mut self, mut rest: &'l [u8], quote: u8) -> Result<&'l [u8], Malformed> {
        loop {
            match rest {
                [] => return Err(Malformed::Quotes),
                [byte, behind @ ..] if *byte == quote => return Ok(behind),
                [b'\\', b'x', high, low, behind @ ..]
                    if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
                {
                    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
                    self.words.push(digit(*high) << 4 | digit(*low));
                    rest = behind;
                }
                [b'\\', escaped, behind @ ..] if quote == b'"' => {
                    self.words.push(match escaped {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'b' => 8,
                        b'a' => 7,
                        other => *other,
                    });
                    rest = behind;
                }
                [b'\\', b'\'', behind @ ..] => {
                    self.words.push(b'\'');
                    rest = behind;
                }
                [byte, behind @ ..] => {
                    self.words.push(*byte);
                    rest = behind;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
