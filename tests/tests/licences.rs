//! Every package that is built comes under a licence that `deny.toml` allows, from the registry or from here.
//!
//! `deny.toml` is written for cargo-deny, which knows more (advisories, bans). It takes minutes to build and its advisories come
//! from a Git server, so the gate checks here what must never be wrong, from the same file.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use tests::{files, root};

/// Whether an SPDX expression can be satisfied with licences of `allowed`: OR of ANDs, with parentheses; `A WITH B` is one term.
/// The old form `A/B` means OR.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = &tokens[..];
    let result = any(&mut rest, allowed);
    result && rest.is_empty()
}

fn any(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut result = all(rest, allowed);
    while let ["OR", tail @ ..] = *rest {
        *rest = tail;
        // No short cut: the right side must be read in any case.
        let right = all(rest, allowed);
        result |= right;
    }
    result
}

fn all(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut result = one(rest, allowed);
    while let ["AND", tail @ ..] = *rest {
        *rest = tail;
        let right = one(rest, allowed);
        result &= right;
    }
    result
}

fn one(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    match *rest {
        ["(", tail @ ..] => {
            *rest = tail;
            let result = any(rest, allowed);
            let closed = rest.first() == Some(&")");
            *rest = rest.get(1..).unwrap_or_default();
            result && closed
        }
        [licence, "WITH", exception, tail @ ..] => {
            *rest = tail;
            allowed.contains(&format!("{licence} WITH {exception}"))
        }
        [licence, tail @ ..] => {
            *rest = tail;
            allowed.contains(*licence)
        }
        [] => false,
    }
}

#[test]
fn spdx_expressions_are_understood() {
    let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
    for good in [
        "MIT",
        "MIT OR GPL-3.0",
        "GPL-3.0/MIT",
        "(GPL-3.0 OR MIT) AND Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(satisfied(good, &allowed), "{good}");
    }
    for bad in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "MIT WITH LLVM-exception",
        "(MIT",
        "MIT MIT",
        "GPL-3.0 OR (MIT AND GPL-2.0)",
    ] {
        assert!(!satisfied(bad, &allowed), "{bad}");
    }
}

#[test]
fn licences_and_sources_are_allowed() {
    let deny = std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml");
    let deny: toml::Table = deny.parse().expect("deny.toml is TOML");
    let allowed = deny["licenses"]["allow"].as_array().expect("a list of licences");
    let licences = |list: &toml::value::Array| -> BTreeSet<String> {
        list.iter().map(|l| l.as_str().expect("a licence").to_owned()).collect()
    };
    let allowed = licences(allowed);
    let exceptions = deny["licenses"]["exceptions"].as_array().expect("a list of packages");
    let is_exception = |package: &Value, licence: &str| {
        exceptions.iter().any(|exception| {
            let allowed = exception["allow"].as_array().expect("a list of licences");
            exception["crate"].as_str() == package["name"].as_str() && satisfied(licence, &licences(allowed))
        })
    };

    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // Of the platforms that we are built for, one stands for all.
    command.args(["metadata", "--format-version", "1", "--locked", "--all-features"]);
    command.args(["--filter-platform", "x86_64-unknown-linux-gnu"]).current_dir(root());
    let output = command.output().expect("cargo can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");

    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 50, "{} packages", packages.len());
    let mut wrong = Vec::new();
    for package in packages {
        let name = format!("{} {}", package["name"], package["version"]);
        match package["license"].as_str() {
            Some(licence) if satisfied(licence, &allowed) || is_exception(package, licence) => {}
            licence => wrong.push(format!("{name}: licence {licence:?}")),
        }
        let here = package["source"].is_null();
        if !here && package["source"] != "registry+https://github.com/rust-lang/crates.io-index" {
            wrong.push(format!("{name}: from {}", package["source"]));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn packages_that_are_published_carry_the_licence_texts() {
    for (path, manifest) in files(&["toml"]).iter().filter(|(path, _)| path.ends_with("Cargo.toml")) {
        let manifest: toml::Table = manifest.parse().expect("manifests are TOML");
        let published = manifest.get("package").is_some_and(|package| package.get("publish").is_none());
        let folder = root().join(path.parent().expect("a file lies in a folder"));
        for file in ["LICENSE-MIT", "LICENSE-APACHE"].into_iter().filter(|_| published) {
            let text = std::fs::read_to_string(folder.join(file));
            let text = text.unwrap_or_else(|e| panic!("{}: {file}: {e}", path.display()));
            assert_eq!(
                text,
                std::fs::read_to_string(root().join(file)).expect("the licence"),
                "{}",
                path.display()
            );
        }
    }
}
