//! The Prometheus exporter for NGINX Plus (Debian: prometheus-nginx-exporter) works unchanged.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tests::{API_PORT, Api, Cluster, Loopback, Process, digests_equal, put_reaches, wait_for};

const LIMIT: Duration = Duration::from_secs(30);

const PORT: u16 = 9113;

const ZONES: &str = r#"
    [[keyval_zone]]
    name = "one"
    size = "1m"

    [[sticky_zone]]
    name = "sessions"
    size = "1m"
"#;

/// Samples of the text format: name with labels → value.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    samples.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
}

fn start(api: &Loopback, listen: &Loopback, directory: &Path) -> Process {
    let mut command = Command::new("prometheus-nginx-exporter");
    command
        .arg("-nginx.plus")
        .arg(format!("-nginx.scrape-uri=http://{}/api", api.port(API_PORT)))
        .arg(format!("-web.listen-address={}", listen.port(PORT)));
    Process::start("prometheus-nginx-exporter", command, &directory.join("exporter.log"))
}

#[test]
fn the_exporter_for_nginx_plus_reports_zone_sync_rightly() {
    let cluster = Cluster::new(&["a", "b"], ZONES);
    let [a, b] = cluster.start_all(["a", "b"]);
    put_reaches("one", "first", &a.api, &[&b.api]);
    put_reaches("one", "second", &b.api, &[&a.api]);
    a.api.put("/v1/sticky/sessions/s1", &json!({"server": "10.0.0.7:80"})).expect(204);
    digests_equal(&[&a, &b]);

    let listen = Loopback::claim();
    let mut exporter = start(cluster.loopback("a"), &listen, cluster.directory());
    let metrics = Api::new(listen.port(PORT));
    let figures = ["bytes_in", "bytes_out", "msgs_in", "msgs_out"];
    let read = || figures.map(|figure| a.api.sync_figure(figure));
    let (before, scraped, after) = wait_for("a scrape", LIMIT, || {
        if let Some(status) = exporter.status() {
            panic!("the exporter ended ({status}):\n{}", exporter.log_end());
        }
        let before = read();
        let scraped = samples(&metrics.request("GET", "/metrics", None)?.body);
        // It waits for the node no longer than five seconds.
        if scraped.get("nginxplus_up") != Some(&1.0) {
            return Err(format!("{scraped:#?}\n{}", exporter.log_end()));
        }
        Ok((before, scraped, read()))
    });

    let sample = |name: &str| -> f64 {
        let name = format!("nginxplus_{name}");
        *scraped.get(&name).unwrap_or_else(|| panic!("no {name} in {scraped:#?}\n{}", exporter.log_end()))
    };
    assert_eq!(sample("stream_zone_sync_status_nodes_online"), 1.0);
    assert_eq!(sample("stream_zone_sync_zone_records_total{zone=\"one\"}"), 2.0);
    assert_eq!(sample("stream_zone_sync_zone_records_pending{zone=\"one\"}"), 0.0);
    assert_eq!(sample("stream_zone_sync_zone_records_total{zone=\"sessions\"}"), 1.0);
    assert_eq!(sample("stream_zone_sync_zone_records_pending{zone=\"sessions\"}"), 0.0);
    // Heartbeats go on: what was scraped lies between what the API said before and after.
    for (index, figure) in figures.iter().enumerate() {
        let value = sample(&format!("stream_zone_sync_status_{figure}"));
        let band = before[index] as f64..=after[index] as f64;
        assert!(band.contains(&value), "{figure}: {value} is not in {band:?}");
        assert!(value > 0.0, "{figure}");
    }
}
