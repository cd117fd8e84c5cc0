//! The manifest of `docs/kubernetes.yaml`: its YAML is well-formed, its parts name each other, and its configuration is good with the certificates that its comment makes.

use std::time::Duration;

use saphyr::{LoadableYamlNode, Yaml};
use tempfile::TempDir;
use tests::{root, run_to_end};

#[test]
fn the_manifest_has_a_configuration_that_a_node_takes() {
    let text = std::fs::read_to_string(root().join("docs/kubernetes.yaml")).expect("the manifest");
    let documents = Yaml::load_from_str(&text).expect("YAML");
    let text_of = |yaml: &Yaml<'_>| yaml.as_str().unwrap_or_else(|| panic!("no text: {yaml:?}")).to_owned();
    let kinds: Vec<_> = documents.iter().map(|document| text_of(&document["kind"])).collect();
    assert_eq!(kinds, ["Service", "ConfigMap", "StatefulSet"]);
    let [service, map, set] = &documents[..] else { panic!("three documents") };
    assert_eq!(text_of(&set["spec"]["serviceName"]), text_of(&service["metadata"]["name"]));
    let volumes = &set["spec"]["template"]["spec"]["volumes"];
    assert_eq!(text_of(&volumes[0]["configMap"]["name"]), text_of(&map["metadata"]["name"]));

    let directory = TempDir::new().expect("a temporary directory");
    let made = |arguments: &[&str]| {
        let ended = run_to_end(directory.path(), arguments, Duration::from_secs(60));
        assert!(ended.status.success(), "{arguments:?}: {ended:?}");
    };
    let commands = text.lines().filter_map(|line| line.strip_prefix("#   sync-node "));
    let commands: Vec<Vec<&str>> = commands.map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(commands.len(), 2, "a CA and a certificate");
    commands.iter().for_each(|command| made(command));

    let configuration = text_of(&map["data"]["sync-node.toml"]);
    let here = |folder: &str| format!("{}/{folder}", directory.path().display());
    let configuration = configuration.replace("/certificates", &here("certs")).replace("/state", &here(""));
    std::fs::write(directory.path().join("sync-node.toml"), configuration).expect("written");
    made(&["check", "-c", "sync-node.toml"]);
}
