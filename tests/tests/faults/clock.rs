//! A node whose clock is wrong by more than `max_clock_skew`: libfaketime moves it (Debian: package faketime).

use tests::{Authority, Cluster, Config, Identity, digests_equal, put_reaches, wait_for};

use crate::{LIMIT, ZONES, impatient, start_all};

/// Starts a command with its clock moved. The monotonic clock, by which timers run, is left alone. The command `faketime` would stay the
/// parent of what it starts, which would then outlive a kill.
fn launcher(offset: &str) -> Vec<String> {
    let of_machine = std::fs::read_dir("/usr/lib").expect("every Debian has it").flatten();
    let mut files = of_machine.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    let library = files.find(|file| file.exists()).expect("libfaketime (Debian: package faketime)");
    let variables = [format!("LD_PRELOAD={}", library.display()), format!("FAKETIME={offset}")];
    ["env".to_owned(), "DONT_FAKE_MONOTONIC=1".to_owned()].into_iter().chain(variables).collect()
}

fn refused_until_right(offset: &str) {
    let cluster = Cluster::new(&["a", "b", "c"], ZONES);
    // Certificates that are valid in either hour: this is about the check of the clock, not of certificates.
    let authority = Authority::new("clock", cluster.directory());
    let config = |name| Config {
        encryption: authority.node(name, cluster.loopback(name).ip(), Identity::Valid),
        ..impatient(&cluster, name)
    };
    let [mut a, c] = start_all(&cluster, ["a", "c"].map(config));
    put_reaches("one", "before", &a.api, &[&c.api]);

    let mut b = cluster.start_with(Config { launcher: launcher(offset), ..config("b") });
    b.wait_live();
    // Each side names the difference, the bound and both times, and says who.
    for node in [&mut a, &mut b] {
        let line = node.wait_complaint(&["clocks differ by 3", "max_clock_skew (5s)", "us since 1970"]);
        let times: Vec<u64> = line
            .split(|c: char| !c.is_ascii_digit())
            .filter(|digits| digits.len() == 16)
            .map(|digits| digits.parse().expect("digits"))
            .collect();
        assert_eq!(times.len(), 2, "{line}");
        let apart = times[0].abs_diff(times[1]);
        assert!((3_590_000_000..3_700_000_000).contains(&apart), "{line}");
    }
    // Visible in the status of those who refuse, and of the one who is refused.
    for node in [&a, &b] {
        wait_for("the status to say why", LIMIT, || {
            let status = node.api.status()?.document;
            let errors = status["peers"]
                .as_array()
                .ok_or("no peers")?
                .iter()
                .filter_map(|peer| peer["last_error"].as_str());
            let said = errors.filter(|error| error.contains("clocks differ")).count();
            if said > 0 { Ok(()) } else { Err(status.to_string()) }
        });
    }
    assert!(b.api.ready().is_err(), "every peer refuses it");
    assert_eq!(b.api.sync_figure("nodes_online"), 0);
    b.api.add("one", "of-b", "stamped with a wrong time");
    put_reaches("one", "during-a", &a.api, &[&c.api]);
    put_reaches("one", "during-c", &c.api, &[&a.api]);
    assert_eq!(a.api.value("one", "of-b"), None);

    // Its clock is put right, and it is started anew.
    let config = b.kill();
    let mut b = cluster.start_with(Config { launcher: vec![], ..config });
    b.wait_ready();
    let nodes = [&a, &b, &c];
    for node in nodes {
        node.wait_online(2);
    }
    put_reaches("one", "after", &b.api, &[&a.api, &c.api]);
    digests_equal(&nodes);
    assert_eq!(b.api.value("one", "during-a").as_deref(), Some("sent"));
}

#[test]
fn a_clock_that_is_an_hour_ahead_is_refused_until_it_is_right() {
    refused_until_right("+1h");
}

#[test]
fn a_clock_that_is_an_hour_behind_is_refused_until_it_is_right() {
    refused_until_right("-1h");
}
