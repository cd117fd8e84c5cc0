//! `keyval export` and `keyval import`: all pairs of a zone, out and in, however many they are.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Error, Result, bail};
use clap::ValueEnum;
use hyper::Method;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::cli::client::Client;

/// Bytes of pairs in one request. With the largest record behind them, every character escaped, they fit into a body of 1 MiB.
const REQUEST: usize = 512 << 10;
/// Pairs that are no text, which JSON cannot hold.
const NOT_TEXT: &str = "sync-node-not-text";

/// What to do about a key that is there.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum IfExists {
    /// Give it the new value
    Replace,
    /// Leave it as it is
    Keep,
    /// Leave it as it is, and count that as a failure
    Fail,
}

/// Writes all pairs to a file or to standard output. A file is there when it is whole, and not before. `zone` is encoded for a path.
pub(super) fn export(client: &Client, zone: &str, file: Option<&Path>) -> Result<()> {
    let path = format!("/v1/keyval/{zone}");
    let download = |output: &mut dyn Write| -> Result<Option<String>> {
        let mut output = BufWriter::new(output);
        let not_text = client.download(&path, NOT_TEXT, &mut |part| Ok(output.write_all(part)?))?;
        output.flush()?;
        Ok(not_text)
    };
    let not_text = match file {
        None => download(&mut std::io::stdout().lock())?,
        Some(file) => {
            let mut part = file.as_os_str().to_owned();
            part.push(".part");
            let part = Path::new(&part);
            let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(part);
            let written = written.map_err(Error::from).and_then(|mut output| {
                let not_text = download(&mut output)?;
                output.sync_all()?;
                std::fs::rename(part, file)?;
                Ok(not_text)
            });
            written
                .inspect_err(|_| _ = std::fs::remove_file(part))
                .with_context(|| file.display().to_string())?
        }
    };
    match not_text {
        Some(count) => bail!("{count} pairs are left out: their keys or values are no text"),
        None => Ok(()),
    }
}

/// Reads pairs from a file or from standard input and writes them to the zone.
pub(super) fn import(client: &Client, zone: &str, file: Option<&Path>, if_exists: IfExists) -> Result<()> {
    let what = if_exists.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
    let mut import = Import {
        client,
        path: format!("/v1/keyval/{zone}?if_exists={what}"),
        pairs: Map::new(),
        bytes: 0,
        counts: Counts::default(),
        error: None,
    };
    let (input, name): (Box<dyn Read>, _) = match file {
        None => (Box::new(std::io::stdin().lock()), "standard input".to_owned()),
        Some(file) => {
            let name = file.display().to_string();
            (Box::new(File::open(file).with_context(|| name.clone())?), name)
        }
    };
    let mut json = serde_json::Deserializer::from_reader(BufReader::new(input));
    let read = json.deserialize_map(&mut import).and_then(|()| json.end());
    let ended = match (import.error.take(), read) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(Error::from(error).context(name)),
        (None, Ok(())) => Ok(()),
    };
    println!("{}", import.counts);
    ended?;
    match import.counts.failed {
        0 => Ok(()),
        failed => bail!("{failed} pairs were not written"),
    }
}

/// How many pairs came to what.
#[derive(Default)]
struct Counts {
    added: u64,
    replaced: u64,
    kept: u64,
    failed: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { added, replaced, kept, failed } = self;
        write!(f, "added {added}, replaced {replaced}, kept {kept}, failed {failed}")
    }
}

/// An import under way: pairs are gathered as they are read, and sent when there are enough.
struct Import<'a> {
    client: &'a Client,
    path: String,
    pairs: Map<String, Value>,
    /// What the pairs take as JSON.
    bytes: usize,
    counts: Counts,
    /// What ended it, if that was not the input.
    error: Option<Error>,
}

impl Import<'_> {
    fn add(&mut self, key: String, value: Value) -> Result<()> {
        self.bytes += json_length(&Value::String(key.clone())) + json_length(&value) + 2;
        self.pairs.insert(key, value);
        if self.bytes >= REQUEST { self.send() } else { Ok(()) }
    }

    /// What ends an import ends the reading, under a name that nobody sees.
    fn note<E: serde::de::Error>(&mut self, done: Result<()>) -> Result<(), E> {
        done.map_err(|error| {
            self.error = Some(error);
            E::custom("not imported")
        })
    }

    fn send(&mut self) -> Result<()> {
        self.bytes = 0;
        if self.pairs.is_empty() {
            return Ok(());
        }
        let body = Value::Object(std::mem::take(&mut self.pairs));
        let answer = self.client.request(Method::POST, &self.path, Some(&body))?.success()?;
        let count = |name: &str| answer[name].as_u64().unwrap_or_default();
        self.counts.added += count("added");
        self.counts.replaced += count("replaced");
        self.counts.kept += count("kept");
        for (key, why) in answer["failed"].as_object().into_iter().flatten() {
            self.counts.failed += 1;
            eprintln!("{key:?}: {}", why.as_str().unwrap_or_default());
        }
        Ok(())
    }
}

fn json_length(value: &Value) -> usize {
    value.to_string().len()
}

impl<'de> Visitor<'de> for &mut Import<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of keys and values")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some((key, value)) = map.next_entry()? {
            let added = self.add(key, value);
            self.note(added)?;
        }
        let sent = self.send();
        self.note(sent)
    }
}
