//! `status`: what a node says about itself, as tables for people.

use super::client::Client;
use anyhow::Result;
use clap::Args;
use hyper::Method;
use serde_json::Value;
use std::fmt::Write;

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    client: Client,
}

pub(crate) fn main(status: &Status) -> Result<()> {
    let status = status.client.request(Method::GET, "/v1/status?digests=false", None)?.success()?;
    print!("{}", render(&status));
    Ok(())
}

fn render(status: &Value) -> String {
    let mut text = format!(
        "node {} of cluster {}: {}, {} peers online\n",
        word(&status["node"]),
        word(&status["cluster"]),
        status["reason"].as_str().unwrap_or("ready"),
        word(&status["nodes_online"]),
    );
    let zones = members(&status["zones"]).map(|(name, zone)| {
        let columns = ["kind", "records_total", "records_pending", "tombstones", "used_bytes", "size_bytes"];
        std::iter::once(name.to_owned()).chain(columns.map(|column| word(&zone[column]))).collect()
    });
    table(&mut text, &["ZONE", "KIND", "RECORDS", "PENDING", "TOMBSTONES", "USED", "SIZE"], zones.collect());
    let peers = status["peers"].as_array().into_iter().flatten().map(|peer| {
        let pending: u64 =
            members(&peer["records_pending"]).filter_map(|(_, pending)| pending.as_u64()).sum();
        let is_connected = peer["connected_since_ms"].is_u64();
        vec![
            word(&peer["name"]),
            word(&peer["certificate_names"][0]),
            word(&peer["address"]),
            word(&peer["direction"]),
            if is_connected { "up" } else { "down" }.to_owned(),
            if peer["direction"] == "out" { pending.to_string() } else { "-".to_owned() },
            format!("{}ms", word(&peer["lag_ms"])),
            peer["clock_offset_us"].as_i64().map_or_else(|| "-".to_owned(), |us| format!("{us}us")),
            word(&peer["last_error"]),
        ]
    });
    let peers: Vec<_> = peers.collect();
    if !peers.is_empty() {
        let heads =
            ["PEER", "CERTIFICATE", "ADDRESS", "LINK", "STATE", "PENDING", "LAG", "CLOCK", "LAST ERROR"];
        table(&mut text, &heads, peers);
    }
    let doors = members(&status["doors"]).map(|(name, door)| {
        let columns = ["connections", "connections_accepted", "connections_dropped", "requests", "errors"];
        std::iter::once(name.to_owned()).chain(columns.map(|column| word(&door[column]))).collect()
    });
    table(&mut text, &["DOOR", "CONNECTIONS", "ACCEPTED", "DROPPED", "REQUESTS", "ERRORS"], doors.collect());
    text
}

fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

/// A value as one word; a dash for none.
fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Columns as wide as their widest word, two spaces between them.
fn table(text: &mut String, heads: &[&str], rows: Vec<Vec<String>>) {
    let head = heads.iter().map(|head| (*head).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    text.push('\n');
    for row in &rows {
        let mut line = String::new();
        for (word, width) in row.iter().zip(&widths) {
            // Writing to a string cannot fail.
            let _ = write!(line, "{word:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_as_people_see_it() {
        let status = json!({
            "node": "edge-1", "cluster": "edge", "ready": true, "nodes_online": 1,
            "zones": { "one": {
                "kind": "keyval", "records_total": 12, "records_pending": 0, "tombstones": 1, "used_bytes": 4096, "size_bytes": 65536,
            } },
            "peers": [
                { "name": "edge-2", "certificate_names": ["edge-2.test", "10.0.0.2"], "address": "10.0.0.2:9000", "direction": "out", "connected_since_ms": 1,
                  "records_pending": { "one": 3 }, "lag_ms": 7, "clock_offset_us": -40 },
                { "name": "", "address": "10.0.0.3:9000", "direction": "out", "records_pending": {}, "lag_ms": 0,
                  "last_error": "connection refused" },
            ],
            "doors": { "redis": {
                "connections": 2, "connections_accepted": 9, "connections_dropped": 0, "requests": 30, "errors": 1,
            } },
        });
        let expected = "\
node edge-1 of cluster edge: ready, 1 peers online

ZONE  KIND    RECORDS  PENDING  TOMBSTONES  USED  SIZE
one   keyval  12       0        1           4096  65536

PEER    CERTIFICATE  ADDRESS        LINK  STATE  PENDING  LAG  CLOCK  LAST ERROR
edge-2  edge-2.test  10.0.0.2:9000  out   up     3        7ms  -40us  -
-       -            10.0.0.3:9000  out   down   0        0ms  -      connection refused

DOOR   CONNECTIONS  ACCEPTED  DROPPED  REQUESTS  ERRORS
redis  2            9         0        30        1
";
        assert_eq!(render(&status), expected);
    }
}
