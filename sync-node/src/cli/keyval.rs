//! `keyval`: the pairs of a zone, from a shell.

mod pairs;

use super::client::{Answer, Client};
use anyhow::Result;
use clap::{Args, Subcommand};
use hyper::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::path::PathBuf;

use pairs::IfExists;

#[derive(Debug, Args)]
pub(crate) struct Keyval {
    #[command(flatten)]
    client: Client,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the value of a key
    Get { zone: String, key: String },
    /// Add a key, or give it a new value
    Set {
        zone: String,
        key: String,
        value: String,
        /// Milliseconds that the pair lives, in a zone with a timeout
        #[arg(long, value_name = "MS")]
        expire: Option<u64>,
    },
    /// Remove a key, on every node
    Delete { zone: String, key: String },
    /// Print all pairs, one a line, key and value separated by a tab
    List { zone: String },
    /// Write all pairs as JSON: {"key": "value"}, or {"key": {"value": "value", "expire": MS}} where they expire
    Export {
        zone: String,
        /// The file to write, which takes the place of the one that is there; standard output without it
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Read pairs as they were exported and write them to the zone
    Import {
        zone: String,
        /// The file to read; standard input without it
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// What to do about a key that is there
        #[arg(long, value_name = "WHAT", value_enum, default_value_t = IfExists::Replace)]
        if_exists: IfExists,
    },
}

pub(crate) fn main(keyval: &Keyval) -> Result<()> {
    let client = &keyval.client;
    match &keyval.command {
        Command::Get { zone, key } => {
            let path = format!("{}?key={}", path(zone), encode(key));
            let pair = client.request(Method::GET, &path, None)?.success()?;
            println!("{}", pair[key].as_str().unwrap_or_default());
        }
        Command::Set { zone, key, value, expire } => {
            let value = match expire {
                Some(expire) => json!({ "value": value, "expire": expire }),
                None => json!(value),
            };
            set(client, zone, &json!({ key: value }))?.success()?;
        }
        Command::Delete { zone, key } => {
            client.request(Method::PATCH, &path(zone), Some(&json!({ key: null })))?.success()?;
        }
        Command::List { zone } => {
            let pairs = client.request(Method::GET, &path(zone), None)?.success()?;
            for (key, value) in pairs.as_object().into_iter().flatten() {
                println!("{key}\t{}", value.as_str().unwrap_or_default());
            }
        }
        Command::Export { zone, file } => pairs::export(client, &encode(zone).to_string(), file.as_deref())?,
        Command::Import { zone, file, if_exists } => {
            pairs::import(client, &encode(zone).to_string(), file.as_deref(), *if_exists)?;
        }
    }
    Ok(())
}

/// The API has one way to add a key and another to change it; between the two somebody else may have been faster, which then counts.
fn set(client: &Client, zone: &str, pair: &Value) -> Result<Answer> {
    let answer = client.request(Method::POST, &path(zone), Some(pair))?;
    if answer.status == StatusCode::CONFLICT {
        return client.request(Method::PATCH, &path(zone), Some(pair));
    }
    Ok(answer)
}

fn path(zone: &str) -> String {
    format!("/api/9/http/keyvals/{}", encode(zone))
}

fn encode(text: &str) -> impl std::fmt::Display {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}
