//! As much of HTTP/1.1 as a client of a keep-alive connection needs that knows its servers, and no more: the time that the client takes is in
//! what is measured.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail};

use crate::contestant::PATIENCE;

/// The longest answer that is read.
const ANSWER_MAX: usize = 1 << 20;

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// What has been read and not been answered with.
    input: Vec<u8>,
}

/// An answer: its status, and where its body is in the input.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: usize,
    length: usize,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true).context("setting TCP_NODELAY")?;
        stream.set_read_timeout(Some(PATIENCE)).context("setting a time-out")?;
        Ok(Self { stream, input: Vec::new() })
    }

    pub(crate) fn send(&mut self, requests: &[u8]) -> Result<()> {
        self.stream.write_all(requests).context("sending a request")
    }

    /// Waits for the next answer; its status and body.
    pub(crate) fn receive(&mut self) -> Result<(u16, Vec<u8>)> {
        loop {
            if let Some(Answer { status, head, length }) = parse(&self.input)? {
                let body = self.input[head..head + length].to_vec();
                self.input.drain(..head + length);
                return Ok((status, body));
            }
            self.read()?;
        }
    }

    /// Waits for so many answers, of which all must be good.
    pub(crate) fn receive_all(&mut self, answers: usize) -> Result<()> {
        let mut at = 0;
        for _ in 0..answers {
            let Answer { status, head, length } = loop {
                match parse(&self.input[at..])? {
                    Some(answer) => break answer,
                    None => self.read()?,
                }
            };
            if !(200..300).contains(&status) {
                bail!("a request was answered with status {status}");
            }
            at += head + length;
        }
        self.input.drain(..at);
        Ok(())
    }

    pub(crate) fn request(&mut self, method: &str, path: &str, body: &str) -> Result<(u16, Vec<u8>)> {
        let fields = if body.is_empty() {
            String::new()
        } else {
            format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len())
        };
        self.send(format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n{body}").as_bytes())?;
        self.receive()
    }

    fn read(&mut self) -> Result<()> {
        if self.input.len() > ANSWER_MAX {
            bail!("an answer of more than {ANSWER_MAX} bytes");
        }
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk).context("waiting for an answer")? {
            0 => bail!("the server has closed the connection"),
            read => self.input.extend_from_slice(&chunk[..read]),
        }
        Ok(())
    }
}

/// The answer at the beginning of `input`; `None` if it is not all there.
fn parse(input: &[u8]) -> Result<Option<Answer>> {
    let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&input[..end]).context("an answer that is no text")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let Some(status) = status else { bail!("an answer without a status: {head:?}") };
    let length = head.lines().filter_map(|line| line.split_once(':'));
    let length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = match length.map(|(_, length)| length.trim().parse()).next() {
        Some(length) => length.context("a bad content-length")?,
        None if status == 204 => 0,
        None => bail!("an answer without a length: {head:?}"),
    };
    let head = end + 4;
    Ok((input.len() >= head.saturating_add(length)).then_some(Answer { status, head, length }))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn an_answer_is_found_when_all_of_it_is_there() {
        let input = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1";
        for end in 0..41 {
            let found = parse(&input[..end]).expect("good so far");
            assert_eq!(
                found.map(|answer| (answer.status, answer.head, answer.length)),
                (end == 40).then_some((200, 38, 2)),
                "{end}"
            );
        }
        assert_eq!(
            parse(b"HTTP/1.1 204 No Content\r\n\r\n").expect("good").map(|answer| answer.length),
            Some(0)
        );
        parse(b"HTTP/1.1 200 OK\r\n\r\n").expect_err("no length");
        parse(b"hello\r\n\r\n").expect_err("no status");
    }
}
